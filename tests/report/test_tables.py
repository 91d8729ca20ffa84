"""A leaderboard as tables: marks, bold figures, notes, contrasts, numbers in words."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

from mta4dpr import report
from mta4dpr.report.leaderboard import LETTERS
from mta4dpr.report.tables import baselines, contrasts, p_text, parameters_text, table

from .conftest import contrast
from .sample import ODD, Write, cells


def test_bold_is_for_students_and_for_all_that_print_the_same(run: Path) -> None:
    """0.70004 and 0.69996 both print 0.7000: to call one of them best would be noise. The teacher is not a rival."""
    text = report.to_markdown(report.load(run))
    assert cells(text, "kd")[3] == cells(text, "mta4dpr")[3] == "**0.7000**"
    assert cells(text, ODD)[1:4] == ["0.4000", "[0.350, 0.450]", "0.8000"]


def test_bold_compares_like_with_like(document: dict[str, Any], write: Write) -> None:
    """mta4dpr was run with one seed: by luck it can be above a mean of three. init has no draw in it, so it is compared with anything."""
    document["seeds"] = [0, 1, 2]
    seeds = {"init": None, "kd": 3, "mta4dpr": 1}
    for row in document["rows"]:
        row["seeds"] = seeds.get(row["system"])
    text = report.to_markdown(report.load(write(document)))
    assert (cells(text, "kd")[1], cells(text, "mta4dpr")[1]) == ("**0.3800**", "0.3900")
    assert "Bold: the best student of the column of those over 3 seeds." in text
    assert "Not among them, as measured over fewer seeds or queries: `mta4dpr`." in text


def test_a_contrast_over_other_seeds_is_said_to_be_one(document: dict[str, Any], write: Write) -> None:
    for row in document["rows"]:
        row["seeds"] = {"kd": 3, "mta4dpr": 1}.get(row["system"])
    board = report.load(write(document))
    found = contrasts(board, board.eval_sets[0], "RR@10")
    assert found is not None
    said = ["".join(note) for note in found.notes if "like with like" in "".join(note)]
    assert said == ["mta4dpr over 1 of the seeds and kd over 3: no comparison of like with like."]


def test_bold_passes_over_a_row_of_fewer_queries(document: dict[str, Any], write: Write) -> None:
    for row in document["rows"]:
        row["queries"] = 299 if row["system"] == "mta4dpr" else 300
    text = report.to_markdown(report.load(write(document)))
    assert (cells(text, "kd")[1], cells(text, "mta4dpr")[1]) == ("**0.3800**", "0.3900")
    assert "fewer seeds or queries: `mta4dpr`." in text


def test_letters_are_of_systems_that_all_rows_were_tested_against(tested: dict[str, Any], write: Write) -> None:
    """mta4dpr alone was tested against bm25: with its letter there, a better row that was not tested would seem not to be better."""
    board = report.load(write(tested))
    assert baselines(board) == {("mini/test", "RR@10"): ["init"], ("mini/test", "R@100"): []}
    found = table(board, board.eval_sets[0])
    assert [row[0].text for row in found.rows] == ["", "", "a", "", ""]
    assert [row[2].marks for row in found.rows] == ["a", "a", "", "a", "a"]
    said = "".join("".join(note) for note in found.notes)
    assert "Every row was tested against init; other pairs were not, so the letters say nothing of them." in said


def test_one_pair_that_was_not_tested_takes_the_letter_away(tested: dict[str, Any], write: Write) -> None:
    tested["comparisons"] = [c for c in tested["comparisons"] if (c["a"], c["b"]) != ("kd", "init")]
    board = report.load(write(tested))
    found = table(board, board.eval_sets[0])
    assert not any(cell.marks for row in found.rows for cell in row if cell.marks != "†")
    assert found.columns[0].head == "system"
    assert "No raised letters: no system was tested against all others." in "".join("".join(note) for note in found.notes)


def test_pairs_of_two_families_do_not_add_up(tested: dict[str, Any], write: Write) -> None:
    """Each family has its own correction."""
    tested["comparisons"][0]["family"] = "exploratory"
    board = report.load(write(tested))
    assert baselines(board)["mini/test", "RR@10"] == []


def test_bold_is_overall_without_students(document: dict[str, Any], write: Write) -> None:
    for system in document["systems"]:
        system["kind"] = "encoder"
    text = report.to_markdown(report.load(write(document)))
    assert cells(text, ODD)[1] == "**0.4000**"
    assert "Bold: the best of the column." in text


def test_contrasts_say_what_cannot_be_told(run: Path) -> None:
    board = report.load(run)
    found = contrasts(board, board.eval_sets[0], "RR@10")
    assert found is not None
    lines = [[cell.text for cell in line] for line in found.rows]
    assert lines[0][2:] == ["+0.3500", "[+0.340, +0.360]", "<0.001", "better", "60/200/40", "<0.001"]
    assert lines[1][4:6] == ["0.210", "cannot tell: smallest detectable difference 0.027"]
    assert lines[2][2:6] == ["−0.0200", "[−0.030, −0.010]", "0.030", "worse"]
    assert "3 planned contrasts" in found.notes[0][0]
    assert contrasts(board, board.eval_sets[0], "nDCG@10") is None


def test_exploratory_pairs_are_apart_and_labelled(document: dict[str, Any], write: Write) -> None:
    document["comparisons"][1]["family"] = "exploratory"
    text = report.to_markdown(report.load(write(document)))
    assert "### All pairs (exploratory): RR@10 on mini/test" in text
    assert "these pairs were not planned beforehand" in text
    assert "over the 2 planned contrasts" in text


def test_without_a_difference_in_any_query(document: dict[str, Any], write: Write) -> None:
    document["comparisons"][1].update(difference=0.0, p=None, p_holm=None, wins=0, losses=0, ties=300)
    assert "the same on every query" in report.to_markdown(report.load(write(document)))


def test_a_system_measured_on_fewer_queries_is_marked(document: dict[str, Any], write: Write) -> None:
    document["rows"][6]["queries"] = 299
    text = report.to_markdown(report.load(write(document)))
    assert cells(text, "kd")[0] == "`kd`†" and "- `kd`: † measured on 299 queries, not on 300." in text


def test_small_numbers() -> None:
    assert [p_text(p) for p in (None, 0.0, 0.0009, 0.0312, 0.04996, 0.0504, 1.0)] == [
        "–", "<0.001", "<0.001", "0.031", "0.0500", "0.0504", "1.000",
    ]  # fmt: skip
    assert [parameters_text(n) for n in (None, 812, 45_000, 22_713_216, 7_100_000_000)] == [
        "–", "812", "45.0 k", "22.7 M", "7.1 B",
    ]  # fmt: skip


def test_more_systems_than_letters(document: dict[str, Any], write: Write) -> None:
    """Two-letter marks are separated, else "aab" could be three systems or two."""
    names = [f"s{number:02}" for number in range(len(LETTERS) + 2)]
    document["comparisons"] = [contrast(a, b, 0.1, 0.01) for a, b in combinations(names, 2)]
    document["systems"] = [{"system": name, "kind": "student", "parameters": None} for name in names]
    document["rows"] = [{**document["rows"][0], "system": name} for name in names]
    document["rows"][0]["significant_over"] = [names[1], names[-1]]
    board = report.load(write(document))
    assert table(board, board.eval_sets[0]).rows[0][2].marks == "b,ab"
