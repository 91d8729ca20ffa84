"""Verdicts by hand, and that only like is compared with like."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.report.comparison import Entry, Measurement, entries, verdict
from mta4dpr.report.layouts import Layout, Tolerance
from mta4dpr.report.published import PublishedFigure, PublishedResults

FIGURE = PublishedFigure("A", "d", "R@50", "41.1", "hit rate", "reported", "secondary", "a summary")
FOUND = Measurement("b", "d/dev", "a", "Success@50", 0.411, None, (0,), queries=100, passages=5000, titled=False)
COLUMN = {
    "head": "R@50",
    "dataset": "d",
    "published": "R@50",
    "eval_set": "d/dev",
    "measure": "Success@50",
    "tolerance": {"reproduced": 0.5, "near": 1.5},
    "queries": 100,
    "passages": 5000,
}


def entry(
    found: Measurement | None = FOUND, *, figure: PublishedFigure = FIGURE, row: dict[str, Any] | None = None, **column: Any
) -> Entry:
    layout = Layout.model_validate(
        {"title": "T", "columns": [{**COLUMN, **column}], "rows": [{"published": "A", "measured": "a", **(row or {})}]}
    )
    return entries(layout, PublishedResults((figure,), {}), [found] if found else [])[0][0]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ("41.1", "reproduced"),
        ("41.6", "reproduced"),  # exactly the tolerance, above and below
        ("40.6", "reproduced"),
        ("41.7", "near"),
        ("40.5", "near"),
        ("42.6", "near"),
        ("39.6", "near"),
        ("42.7", "off"),
        ("39.5", "off"),
        ("0.0", "off"),
    ],
)
def test_the_edges_of_the_tolerance_are_inside(measured: str, said: str) -> None:
    """Published 41.1, reproduced up to 0.5, near up to 1.5; in binary floating point 41.6 - 41.1 is above 0.5."""
    assert verdict("41.1", measured, Tolerance(reproduced=Decimal("0.5"), near=Decimal("1.5"))) == said


def test_a_verdict_follows_from_the_figures_as_printed() -> None:
    """0.41649 prints as 41.6, which is inside; 0.4165001 prints as 41.7, which is not. With two digits published, two count."""
    assert entry(replace(FOUND, value=0.41649)).measured == "41.6"
    assert entry(replace(FOUND, value=0.41649)).verdict == "reproduced"
    assert entry(replace(FOUND, value=0.4165001)).verdict == "near"
    precise = entry(replace(FOUND, value=0.41649), figure=replace(FIGURE, value="41.10"))
    assert (precise.measured, precise.verdict) == ("41.65", "near")


def test_a_row_may_have_its_own_tolerance() -> None:
    found = replace(FOUND, value=0.416)
    assert entry(found, row={"tolerance": {"reproduced": 0.4, "near": 0.4}}).verdict == "off"


def test_what_was_not_measured_is_not_run_and_what_is_not_known_has_no_verdict() -> None:
    assert (entry(None).verdict, entry(None).measured) == ("not run", "")
    unknown = entry(row={"published": "", "label": "B"})
    assert (unknown.figure, unknown.measured, unknown.verdict) == (None, "41.1", "")
    assert entry(replace(FOUND, system="other")).verdict == "not run"


@pytest.mark.parametrize("definition", ["per-query recall", "unknown"])
def test_another_definition_is_never_compared(definition: str) -> None:
    """R@50 of one line of work counts queries with a hit, of another it averages recall: equal figures prove nothing."""
    found = entry(figure=replace(FIGURE, definition=definition))
    assert found.other_definition
    assert found.verdict == ""


def test_a_success_figure_is_not_compared_with_recall() -> None:
    """The same the other way round: the column measures R@50, the source counted hits."""
    found = entry(replace(FOUND, measure="R@50"), measure="R@50")
    assert (found.measured, found.verdict) == ("41.1", "")
    assert entry(measure="R@50").verdict == "not run"  # Success@50 is there, R@50 is not


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queries": 99}, "measured on 99 queries, not 100"),
        ({"passages": 30}, "measured over 30 passages, not 5,000"),
        ({"passages": None}, "an unrecorded number of passages, not 5,000"),
    ],
)
def test_another_collection_gets_no_verdict(change: dict[str, Any], words: str) -> None:
    """A run over the pool of some systems has the eval set's name and a much easier collection."""
    found = entry(replace(FOUND, **change))
    assert found.verdict == ""
    assert words in "; ".join(found.other_collection)


def test_titles_count_where_both_sides_are_known() -> None:
    assert entry(row={"titled": False}).verdict == "reproduced"
    assert entry(row={"titled": True}).verdict == ""
    assert entry(row={"titled": True}).other_collection == ("measured over passages without titles, published with",)
    assert entry(replace(FOUND, titled=None), row={"titled": True}).verdict == "reproduced"


def test_one_cell_cannot_come_from_two_benchmarks() -> None:
    """Other settings, another figure: the user chooses, we do not."""
    layout = Layout.model_validate({"title": "T", "columns": [COLUMN], "rows": [{"published": "A", "measured": "a"}]})
    with pytest.raises(UserError, match="benchmarks b and c.*--runs"):
        entries(layout, PublishedResults((FIGURE,), {}), [FOUND, replace(FOUND, benchmark="c")])
