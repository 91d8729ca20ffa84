"""Tables of costs, and how they print."""

from __future__ import annotations

from pathlib import Path

from mta4dpr import report
from mta4dpr.report.cost import cost_table, cost_tables, duration, energy, machine, share, shares_table, size, stages
from mta4dpr.report.training import load_efficiency


def test_costs_stand_beside_the_measure(trained: Path) -> None:
    table = cost_table(report.load(trained), load_efficiency(trained))
    assert table is not None
    assert [column.head for column in table.columns] == [
        *("system", "RR@10", "parameters", "dimensions", "index", "passages/s", "query p50", "p95", "p99", "training")
    ]
    assert [cell.text for cell in table.rows[1]] == [
        *("mta4dpr", "0.3900", "13.0 M", "384", "2.2 MB", "81.2", "4.1 ms", "6.2 ms", "9.9 ms", "5 min 12 s")
    ]
    assert "warm, 2 threads" in table.notes[0][0]


def test_students_as_shares_of_their_teacher(trained: Path) -> None:
    """0.39 of 0.4, 13 of 22.7 million; the teacher's latency is unknown, so that share is not made up."""
    table = shares_table(report.load(trained), load_efficiency(trained))
    assert table is not None
    assert [column.head for column in table.columns] == ["student", "RR@10", "parameters"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["init", "10.0 %", "57.2 %"],
        ["kd", "95.0 %", "57.2 %"],
        ["mta4dpr", "97.5 %", "57.2 %"],
    ]


def test_energy_is_shown_where_the_machine_told(trained: Path) -> None:
    efficiency = load_efficiency(trained)
    efficiency["systems"]["mta4dpr"] |= {"query_joules": {"cpu": 0.25, "ram": 0.05}, "training_joules": {"cpu": 51_000}}
    table = cost_table(report.load(trained), efficiency)
    assert table is not None
    shown = dict(zip([column.head for column in table.columns], [cell.text for cell in table.rows[1]], strict=True))
    assert (shown["query energy"], shown["training energy"]) == ("300.0 mJ", "51.0 kJ")
    assert any("its counters tell (cpu, ram)" in note[0] for note in table.notes)


def test_amounts_in_words() -> None:
    assert [duration(s) for s in (None, 2.14, 59.96, 119.6, 4000)] == ["–", "2.1 s", "60.0 s", "2 min 00 s", "1 h 07 min"]
    assert [size(n) for n in (None, 12, 2_150_400, 2e15)] == ["–", "12 B", "2.2 MB", "2000.0 TB"]
    assert [energy({"cpu": joules}).text for joules in (0.002, 3.0, 4_500.0, 2e6)] == ["2.0 mJ", "3.0 J", "4.5 kJ", "2.0 MJ"]
    assert energy({"cpu": 2.0, "ram": 1.0}).value == 3.0
    assert energy({}).text == "–"


def test_a_share_of_what_is_not_known_is_not_made_up() -> None:
    assert share(1, 4).text == "25.0 %"
    assert [share(part, whole).text for part, whole in ((None, 4), (1, None), (1, 0))] == ["–"] * 3


def test_stages_and_machine_are_said_as_far_as_they_are_known() -> None:
    assert stages(
        {"stages": [{"stage": "train", "seconds": 480, "share": 0.75}, {"stage": "data", "seconds": None, "share": None}, {}]}
    ) == [{"name": "train", "time": "8 min 00 s", "percent": "75.0"}, {"name": "data", "time": "–", "percent": "0.0"}]
    assert stages({}) == []
    assert machine({"device": "cpu", "threads": 1}) == "device cpu, 1 thread"
    assert machine({}) == ""


def test_nothing_measured_makes_no_table(run: Path) -> None:
    assert cost_tables(report.load(run), {}) == []
