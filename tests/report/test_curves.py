"""Curves of a training: which panels there are, shares by hand, gaps where a loss diverged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import pytest

from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.report.curves import _running_mean, assistants_chosen, student_by_round, training_curves
from mta4dpr.report.figures import style
from mta4dpr.report.training import Training


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with style():
        yield
    plt.close("all")


def training(steps: list[dict[str, Any]] | None = None, rounds: list[dict[str, Any]] | None = None) -> Training:
    return Training("mta4dpr", [{"step": n, **line} for n, line in enumerate(steps or [], 1)], rounds or [])


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_training_that_logged_nothing_has_no_curves() -> None:
    """Rate and learning rate are numbers too, and no terms of a loss."""
    empty = training([{"lr": 0.1, "examples_per_second": 1.0, "assistant": None, "loss": None}])
    assert training_curves(empty) is assistants_chosen(empty) is student_by_round(empty) is None


def test_each_logged_term_of_the_loss_has_a_panel() -> None:
    """What the steps do not have is left out, and three terms leave the fourth place empty."""
    figure = training_curves(training([{"loss": 2.0 - n, "ce": 1.0, "kl_teacher": 0.5} for n in range(3)]))
    assert figure is not None
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert shown == ["total loss", "cross-entropy", "KL to the teacher (nats)"]
    assert len(figure.axes) == 4
    assert figure.axes[0].lines[1].get_ydata().tolist() == [2.0, 1.0, 0.0]
    assert figure.axes[0].get_ylim()[0] == 0.0


def test_a_diverged_loss_leaves_a_gap() -> None:
    figure = training_curves(training([{"loss": 2.0}, {"loss": math.nan}, {"loss": math.inf}, {"loss": 1.0}]))
    assert figure is not None
    pale = figure.axes[0].lines[0].get_ydata().tolist()
    assert [value for value in pale if not math.isnan(value)] == [2.0, 1.0]


def test_the_mean_is_over_the_last_values_that_are_numbers() -> None:
    assert _running_mean([1.0, 3.0, math.nan, 5.0], 2) == [1.0, 2.0, 3.0, 5.0]
    assert math.isnan(_running_mean([math.nan], 3)[0])


def test_assistants_are_counted_by_batch_and_by_query() -> None:
    """A batch names one assistant for all of its queries, or one for each."""
    figure = assistants_chosen(
        training([{"round": 0, "assistant": "a"}, {"round": 0, "assistant": "b"}, {"round": 1, "assistant": ["a", "a", "a", "b"]}])
    )
    assert figure is not None
    assert texts(figure) == ["50 %", "50 %", "75 %", "25 %"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["round 0 (2 batches)", "round 1 (4 batches)"]


def test_more_assistants_than_colours_are_others() -> None:
    """Seven colours can be told apart: the six most chosen have their own, shares still add up."""
    figure = assistants_chosen(training([{"assistant": f"a{n}"} for n in range(9) for _ in range(9 - n)]))
    assert figure is not None
    [labels] = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert labels == ["a0", "a1", "a2", "a3", "a4", "a5", "3 others"]
    assert math.isclose(sum(bar.get_width() for bar in figure.axes[0].patches), 1.0)


def test_a_replaced_assistant_is_crossed_out_where_it_ended() -> None:
    rounds = [
        {"round": 0, "student": 0.31, "assistants": {"x": 0.4, "y": 0.2}, "replaced": "y", "measure": "RR@10", "queries": 92},
        {"round": 1, "student": 0.35, "assistants": {"x": 0.4, "student-r0": 0.31}, "replaced": None},
    ]
    figure = student_by_round(training(rounds=rounds))
    assert figure is not None
    lines = {tuple(line.get_xdata()): list(line.get_ydata()) for line in figure.axes[0].lines if line.get_marker() == "x"}
    assert lines == {(0,): [0.2]}
    assert figure.axes[0].get_ylabel() == "RR@10"
    assert "92 queries" in " ".join(text.get_text() for text in figure.texts)


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
