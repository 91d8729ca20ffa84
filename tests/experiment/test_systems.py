"""Students that a request names: variants, ablations, strategies; and names that no system can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mta4dpr.config.benchmark import Recipe
from mta4dpr.distill.strategies import ABLATIONS, STRATEGIES
from mta4dpr.experiment.systems import differences

from .asking import CE, opened, recipe, refusal

# --- what a name stands for ---


def test_a_variant_differs_in_what_it_names_alone(tiny: Callable[..., Path]) -> None:
    """Roles and options that it does not name are the benchmark's."""
    variant = {"strategy": "kd", "teacher": "assistant", "assistants": ["bm25", "teacher"], "distill": {"steps": 6}}
    path = tiny(variants={"mine": variant}, distill={"wrong_weight": 3.0})
    mine, kd = recipe(path, "mine"), recipe(path, "kd")
    assert (mine.strategy, mine.teacher, mine.assistants, mine.student) == ("kd", "assistant", ("bm25", "teacher"), "student")
    assert mine.distill == kd.distill.model_copy(update={"steps": 6})
    assert kd.distill.wrong_weight == 3.0
    assert differences(mine, opened(path, "mine").bench) == {"teacher": "assistant", "assistants": ("bm25", "teacher"), "steps": 6}
    assert differences(kd, opened(path, "kd").bench) == {}


def test_a_variant_keeps_what_makes_its_strategy_what_it_is(tiny: Callable[..., Path]) -> None:
    path = tiny(variants={"mine": {"strategy": "random_ta", "distill": {"steps": 6}}}, distill={"select": "rbo", "rbo_p": 0.8})
    found = recipe(path, "mine").distill
    assert (found.select, found.replace, found.steps) == ("random", False, 6)
    assert recipe(path, "mta4dpr").distill.rbo_p == 0.8


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_mta4dpr_but_for_its_options(name: str) -> None:
    """Also those of --set: an ablation is compared with mta4dpr under the same settings."""
    about, changes = ABLATIONS[name]
    whole, part = recipe("tiny", "mta4dpr", "lr=0.01"), recipe("tiny", name, "lr=0.01")
    assert part == Recipe(whole.strategy, whole.teacher, whole.assistants, whole.student, whole.distill.model_copy(update=changes))
    assert part.distill != whole.distill
    assert differences(part, opened("tiny", name).bench).items() >= {k: v for k, v in changes.items()}.items()
    assert about


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_can_be_asked_for_by_name(name: str) -> None:
    found = recipe("tiny", name)
    assert found.strategy == name
    assert {option: getattr(found.distill, option) for option in STRATEGIES[name].overrides} == STRATEGIES[name].overrides
    assert found.distill.steps == 12


def test_prod_has_a_round_for_each_teacher(tiny: Callable[..., Path]) -> None:
    """And the same number of steps as the others."""
    assert recipe("tiny", "prod").distill.rounds == 3
    path = tiny(variants={"short": {"strategy": "prod", "assistants": ["bm25"]}})
    assert recipe(path, "short").distill.rounds == 2
    assert "steps (2) are fewer than rounds (3)" in refusal("tiny", "prod", settings=("steps=2", "rounds=1"))


def test_options_of_the_benchmark_that_a_student_has_no_use_for_do_not_stop_it(tiny: Callable[..., Path]) -> None:
    """rbo_p of a benchmark that selects by rbo, for students that select otherwise; the rules of rounds, for one that is static."""
    path = tiny(
        distill={"select": "rbo", "rbo_p": 0.8, "wrong_weight": 3.0}, variants={"s": {"strategy": "kd", "distill": {"regime": "static"}}}
    )
    for name in ("random_ta", "best_ta", "mta4dpr-no-selection"):
        assert recipe(path, name).distill.select != "rbo"
    assert recipe(path, "s").distill.regime == "static"
    assert "rbo_p has no effect" in refusal(tiny(variants={"x": {"strategy": "mta4dpr", "distill": {"rbo_p": 0.8}}}), "x")


# --- what cannot be ---


def test_two_students_that_would_write_the_same_files(tiny: Callable[..., Path]) -> None:
    path = tiny(variants={"a+b": {"strategy": "kd"}, "a-b": {"strategy": "kd"}})
    assert "two systems would write the files of 'a-b'" in refusal(path, "a+b", "a-b")


def test_a_cross_encoder_searches_no_corpus(tiny: Callable[..., Path]) -> None:
    assert "which cannot search a corpus; it can be a teacher or an assistant" in refusal(tiny(models={"ce": CE}), "ce")
    assert "is a cross-encoder; a student is a bi-encoder" in refusal(tiny(models={"ce": CE}, student="ce"), "kd")


def test_no_harder_data_means_nothing_where_data_are_static(tiny: Callable[..., Path]) -> None:
    """The row would be mta4dpr's own under another name."""
    assert "mta4dpr-no-harder cannot be trained with these settings" in refusal("tiny", "mta4dpr-no-harder", settings=("regime=static",))
