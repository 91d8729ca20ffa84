"""The plot of a training: which panels it has, and what they are called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.report.curves import training_curves
from mta4dpr.report.figures import style
from mta4dpr.report.training import Training

USUAL = {"round": 0, "lr": 0.001, "examples_per_second": 12.0}


def panels(strategy: str, *steps: dict[str, Any]) -> list[str]:
    """Headings of the panels, in their order."""
    with style():
        figure = training_curves(Training(strategy, [{**USUAL, "step": n, **one} for n, one in enumerate(steps)], []))
    return [] if figure is None else [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]


def test_numbers_that_are_no_terms_have_no_panel() -> None:
    """Nor have notes, which are words, lists and dictionaries, or a term that is None throughout."""
    notes = {"assistant": "a", "layers": [1], "chosen": {"a": 0.5}, "early": True, "kl_teacher": None}
    assert panels("kd", {"ce": 2.0, "loss": 1.0, **notes}) == ["total loss", "cross-entropy"]
    assert panels("kd", {}) == []


def test_an_unknown_term_is_shown_under_its_own_name() -> None:
    """A strategy from outside need not name its terms, and a run may be older or newer than the code that draws it."""
    assert panels("kd", {"zeal": 2.0, "loss": 1.0}, {"heat": 1.0, "loss": 1.0}) == ["total loss", "zeal", "heat"]


def test_a_strategy_from_outside_may_name_its_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own titles stand after the usual ones, whatever the order in the file."""
    monkeypatch.setitem(STRATEGIES, "mine", replace(STRATEGIES["kd"], terms={"heat": "heat of the batch (nats)"}))
    assert panels("mine", {"heat": 2.0, "margin": 1.0}) == ["squared error of the margins", "heat of the batch (nats)"]
