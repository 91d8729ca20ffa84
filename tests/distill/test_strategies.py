"""The registry of strategies: the weights are the method's, and no strategy gets more KL than another."""

from __future__ import annotations

import pytest

from mta4dpr.benchmark import Distill
from mta4dpr.distill.strategies import STRATEGIES


@pytest.mark.parametrize(("name", "weights"), [("contrastive", (1.0, 0.0, 0.0)), ("kd", (0.2, 1.0, 0.0)), ("mta4dpr", (0.2, 0.5, 0.5))])
def test_the_default_weights_are_the_methods(name: str, weights: tuple[float, float, float]) -> None:
    """Section 4: mta4dpr b = c = 0.5, kd b = 1, a = 0.2 for both; CE alone for contrastive."""
    assert STRATEGIES[name].weights(Distill()) == weights


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.distils])
def test_the_kl_weights_sum_to_the_same_for_every_strategy(name: str) -> None:
    """Otherwise a row of the leaderboard would differ in the amount of distillation, not in its target."""
    options = Distill(ce_weight=0.3, teacher_weight=0.25, assistant_weight=0.5)
    a, b, c = STRATEGIES[name].weights(options)
    assert (a, b + c) == (0.3, 0.75)


def test_without_assistants_mta4dpr_is_kd() -> None:
    """The ablation `assistant_weight: 0, teacher_weight: 1` must have kd's very loss."""
    options = Distill(teacher_weight=1.0, assistant_weight=0.0)
    assert STRATEGIES["mta4dpr"].weights(options) == STRATEGIES["kd"].weights(options)


def test_only_mta4dpr_replaces_assistants() -> None:
    """Section 8: only mta4dpr replaces assistants; only it may have a KL to one."""
    assert [name for name, strategy in STRATEGIES.items() if strategy.replaces] == ["mta4dpr"]
    assert [name for name, strategy in STRATEGIES.items() if strategy.weights(Distill())[2]] == ["mta4dpr"]
