"""Which systems are on the frontier, and where labels go."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mta4dpr import report
from mta4dpr.machine.files import write_json
from mta4dpr.report.frontier import COSTS, Point, _spread, on_frontier, points, why_no_line
from mta4dpr.report.latencies import Latency
from mta4dpr.report.leaderboard import SystemRow
from mta4dpr.report.training import load_efficiency

from .sample import ODD


def names(*given: tuple[str, float, float]) -> list[str]:
    return [p.system.system for p in on_frontier([Point(SystemRow(name, "student"), cost, value) for name, cost, value in given])]


def test_the_frontier_by_hand() -> None:
    """c costs more than b and is worth less; d is worth what b is, at a higher cost."""
    assert names(("a", 9, 0.5), ("b", 2, 0.4), ("c", 3, 0.3), ("d", 4, 0.4), ("e", 1, 0.1)) == ["e", "b", "a"]


def test_equals_are_on_it_together() -> None:
    """Two systems of the same cost and value: none is better, so both are bold."""
    assert names(("a", 1, 0.4), ("b", 1, 0.4), ("c", 1, 0.3)) == ["a", "b"]


def timed(name: str, low: float, high: float, value: float, session: str = "s") -> Point:
    latency = Latency((low + high) / 2, None, None, low, high, (name,), session)
    return Point(SystemRow(name, "student"), latency.p50, value, latency)


def test_times_that_cannot_be_told_apart_are_no_cheaper() -> None:
    """a seems faster than b, but their ranges meet: b is worth more, so a is not on the line. c is faster than both by any count."""
    given = [timed("a", 4, 9, 0.3), timed("b", 6, 12, 0.4), timed("c", 1, 2, 0.1)]
    assert [point.system.system for point in on_frontier(given)] == ["c", "b"]
    assert why_no_line(given) == ""


def test_no_line_is_drawn_through_noise() -> None:
    """All ranges meet; or times are of two sessions; or of an earlier version, which timed one system after the other."""
    assert why_no_line([timed("a", 4, 9, 0.3), timed("b", 6, 12, 0.4)]) == "no line: the times cannot be told apart"
    assert why_no_line([timed("a", 1, 2, 0.3), timed("b", 6, 12, 0.4, "later")]) == "no line: not timed together"
    assert why_no_line([timed("a", 1, 2, 0.3, ""), timed("b", 6, 12, 0.4, "")]) == "no line: not timed together"


def test_a_picture_of_old_times_has_no_line_and_says_so(trained: Path) -> None:
    """Identical networks at 35, 222 and 350 ms are one measurement at its median, with its range."""
    efficiency = load_efficiency(trained)
    for name, p50 in (("init", 35.0), ("kd", 222.0), ("mta4dpr", 350.0), (ODD, 400.0)):
        efficiency["systems"][name] = {"index_bytes": 10 if name != ODD else 20, "query_ms": {"p50": p50}}
    write_json(trained / "efficiency.json", efficiency)
    board = report.load(trained)
    found = {point.system.system: point for point in points(board, board.eval_sets[0], COSTS[0], efficiency)}
    assert {name: (point.cost, *point.range) for name, point in found.items()} == {
        **dict.fromkeys(("init", "kd", "mta4dpr"), (222.0, 35.0, 350.0)),
        ODD: (400.0, 400.0, 400.0),
    }
    [picture] = [plot for plot in report.draw(trained) if plot.kind == "frontier-latency"]
    assert "no line: not timed together" in picture.path.read_text()
    assert "frontier" not in picture.description


def test_systems_without_a_known_cost_are_left_out(trained: Path) -> None:
    """bm25 has no parameters and no latency here; a latency of 0 would be a fault of the file and has no place on a log axis."""
    board, efficiency = report.load(trained), load_efficiency(trained)
    latency, index, parameters = COSTS
    assert [p.system.system for p in points(board, board.eval_sets[0], latency, efficiency)] == ["mta4dpr"]
    assert [p.cost for p in points(board, board.eval_sets[0], index, efficiency)] == [2_150_400]
    assert len(points(board, board.eval_sets[0], parameters, {})) == 4
    assert points(board, board.eval_sets[0], latency, {"systems": {"kd": {"query_ms": {"p50": 0.0}}}}) == []


@pytest.mark.parametrize("wanted", [[0.9, 0.9, 0.9], [0.02, 0.01, 0.0], [1.0, 0.5, 0.0], [0.5, 0.49, 0.48]])
def test_labels_keep_apart_inside_the_axes(wanted: list[float]) -> None:
    places = _spread(wanted, 0.2)
    assert all(above - below >= 0.2 - 1e-12 for above, below in pairwise(places))
    assert 0.0 <= min(places) <= max(places) <= 1.0


def test_the_limit_is_said_in_the_picture(document: dict[str, Any], write: Any) -> None:
    folder = write({**document, "limit": 50})
    [picture] = [plot for plot in report.draw(folder) if plot.kind == "frontier-parameters"]
    assert "first 50 queries only (--limit)" in picture.path.read_text()
