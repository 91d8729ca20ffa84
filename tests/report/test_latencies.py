"""Which times of queries compare, and what is said of those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mta4dpr import report
from mta4dpr.report.cost import cost_table, shares_table
from mta4dpr.report.latencies import compare, latencies, sessions
from mta4dpr.report.tables import Table

from .sample import ODD


def query(p50: float, low: float, high: float, work: str, session: str = "s") -> dict[str, Any]:
    return {"query_ms": {"p50": p50, "p95": 2 * p50, "p99": 3 * p50, "low": low, "high": high, "work": work, "session": session}}


@pytest.fixture
def together() -> dict[str, Any]:
    """kd and mta4dpr are one measurement; the teacher is slower, init between: its range meets the teacher's."""
    return {
        "systems": {
            ODD: query(40, 38, 45, "teacher's"),
            "init": query(30, 20, 39, "init's"),
            **{name: query(6, 5, 9, "students'") for name in ("kd", "mta4dpr")},
        },
        "sessions": {"s": {"queries": 100, "rounds": 5, "side_by_side": True, "busy": []}},
    }


def notes(table: Table | None) -> str:
    assert table is not None
    return " ".join("".join(note) for note in (*table.warnings, *table.notes))


def test_times_of_one_session_compare_where_their_ranges_do_not_meet(run: Path, together: dict[str, Any]) -> None:
    found = latencies(report.load(run), together)
    assert compare(found)
    assert found["kd"] == found["mta4dpr"]
    assert found["kd"].is_apart_from(found[ODD])
    assert not found["init"].is_apart_from(found[ODD])
    table = shares_table(report.load(run), together)
    assert table is not None
    assert [row[-1].text for row in table.rows] == ["cannot tell", "15.0 %", "15.0 %"]
    assert "does not tell them apart" in notes(table)


def test_a_shared_measurement_is_said_to_be_one(run: Path, together: dict[str, Any]) -> None:
    table = cost_table(report.load(run), together)
    assert "One measurement of query times, as they do the same work for a query: kd, mta4dpr." in notes(table)
    assert "100 queries in each of 5 rounds, systems in turns" in notes(table)
    assert "busy" not in notes(table)
    assert table is not None
    shown = [[cell.text for cell in row] for row in table.rows if row[0].text == "kd"]
    assert shown == [["kd", "0.3800", "13.0 M", "384", "6.0 ms", "5.0–9.0 ms", "12.0 ms", "18.0 ms"]]


def test_a_busy_machine_is_said_before_the_numbers(run: Path, together: dict[str, Any]) -> None:
    together["sessions"]["s"] |= {"busy": ["other programs used 1.5 of 2 cores"], "side_by_side": False}
    table = cost_table(report.load(run), together)
    assert table is not None
    assert "other programs used 1.5 of 2 cores" in table.warnings[0][0]
    assert "Memory does not hold all systems at once" in notes(table)


def test_a_system_that_was_added_later_is_of_another_session(run: Path, together: dict[str, Any]) -> None:
    """Its time stands there, and is compared with no other."""
    together["systems"]["mta4dpr"] = query(3, 2, 4, "other", "later")
    board = report.load(run)
    found = latencies(board, together)
    assert sessions(found) == {"s": [ODD, "init", "kd"], "later": ["mta4dpr"]}
    assert found["kd"].same == ("kd",)
    assert not found["mta4dpr"].is_apart_from(found[ODD])
    assert "Timed in 2 sessions, which do not compare: a&b_<c>%, init, kd; mta4dpr." in notes(cost_table(board, together))
    table = shares_table(board, together)
    assert table is not None
    assert [row[-1].text for row in table.rows] == ["cannot tell", "15.0 %", "–"]
    assert "no share of the teacher’s where the two were not timed in turns" in notes(table)


def test_the_same_work_has_one_time_in_all_sessions(run: Path, together: dict[str, Any]) -> None:
    """A busy machine made it ten times as slow when kd was timed again: that is not kd's."""
    together["systems"]["kd"] = query(60, 50, 90, "students'", "later")
    found = latencies(report.load(run), together)
    assert found["kd"] == found["mta4dpr"]
    assert (found["kd"].p50, found["kd"].session) == (6, "s")
    assert compare(found)


def test_times_of_an_earlier_version_rank_nothing(run: Path) -> None:
    """They were taken one after the other. Networks of one size share a median; a single one has no range."""
    times = {ODD: 100.0, "init": 35.0, "kd": 222.0, "mta4dpr": 350.0}
    old = {"systems": {name: {"query_ms": {"p50": p50, "p95": p50 + 1, "p99": p50 + 2}} for name, p50 in times.items()}}
    board = report.load(run)
    found = latencies(board, old)
    assert not compare(found)
    assert (found["kd"].p50, found["kd"].low, found["kd"].high, found["kd"].p95) == (222.0, 35.0, 350.0, 223.0)
    table = cost_table(board, old)
    assert "they rank nothing" in notes(table)
    assert table is not None
    assert [row[-3].text for row in table.rows] == ["–", "35.0–350.0 ms", "35.0–350.0 ms", "35.0–350.0 ms"]
    shares = shares_table(board, old)
    assert shares is not None
    assert "query p50" not in [column.head for column in shares.columns]


def test_a_time_of_zero_is_a_fault_of_the_file(run: Path) -> None:
    assert latencies(report.load(run), {"systems": {"kd": {"query_ms": {"p50": 0.0}}, "init": None}}) == {}
