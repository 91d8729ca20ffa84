"""leaderboard.json to tables, and tables to CSV, Markdown, LaTeX and the terminal."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mta4dpr import report
from mta4dpr.errors import UserError
from mta4dpr.report.formats import markdown_table, markdown_text
from mta4dpr.report.leaderboard import LETTERS
from mta4dpr.report.tables import Cell, Table, TableColumn, contrasts, p_text, parameters_text, table

ODD = "a&b_<c>%"
Write = Callable[[dict[str, Any]], Path]


def cells(text: str, name: str) -> list[str]:
    """The cells of the first Markdown line that names `name`."""
    line = next(line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_shows_values_marks_and_facts(run: Path) -> None:
    text = report.to_markdown(report.load(run))
    assert cells(text, "mta4dpr") == [
        "e", "`mta4dpr`", "**0.3900**ᵃᶜ", "[0.340, 0.440]", "**0.7000**", "97.5 %", "student", "static", "13.0 M",
    ]  # fmt: skip
    assert cells(text, "bm25")[1] == "`bm25`†"
    assert "- `bm25`: † no result for 3 of 300 queries; each of these scores 0." in text
    assert "300 queries, passages without titles, primary measure RR@10, seed 42." in text
    assert "p_holm < 0.05: paired t-test, Holm over the planned contrasts" in text
    assert "- `init`: before training" in text
    assert "Trained students took 300 optimiser steps each." in text
    assert "\\<script>" in text and "- \\# not a heading" in text


def test_bold_is_for_students_and_for_all_that_print_the_same(run: Path) -> None:
    """0.70004 and 0.69996 both print 0.7000: to call one of them best would be noise. The teacher is not a rival."""
    text = report.to_markdown(report.load(run))
    assert cells(text, "kd")[4] == cells(text, "mta4dpr")[4] == "**0.7000**"
    assert cells(text, ODD)[2:5] == ["0.4000", "[0.350, 0.450]", "0.8000"]


def test_bold_is_overall_without_students(document: dict[str, Any], write: Write) -> None:
    for system in document["systems"]:
        system["kind"] = "encoder"
    text = report.to_markdown(report.load(write(document)))
    assert cells(text, ODD)[2] == "**0.4000**"
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


def test_limit_is_said_in_every_table(document: dict[str, Any], write: Write) -> None:
    board = report.load(write({**document, "limit": 50}))
    said = "First 50 queries of each eval set only (--limit): not comparable with a full run."
    out = io.StringIO()
    report.to_rich(board, Console(file=out, width=200))
    assert report.to_markdown(board).count(said) == 2
    assert report.to_latex(board).count(said.replace("--", "-{}-")) == 2
    assert out.getvalue().count(said) == 2
    assert report.to_html(board).count(said) == 4  # the head, the table, the contrasts of both measures
    assert all(line["limit"] == "50" for line in csv.DictReader(io.StringIO(report.to_csv(board))))


def test_a_system_measured_on_fewer_queries_is_marked(document: dict[str, Any], write: Write) -> None:
    document["rows"][6]["queries"] = 299
    text = report.to_markdown(report.load(write(document)))
    assert cells(text, "kd")[1] == "`kd`†" and "- `kd`: † measured on 299 queries, not on 300." in text


def test_no_limit_is_not_mentioned(run: Path) -> None:
    assert "--limit" not in report.to_markdown(report.load(run))


def test_csv_is_long_and_unrounded(run: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(report.to_csv(report.load(run)))))
    assert len(lines) == 10
    line = next(x for x in lines if (x["system"], x["measure"]) == ("mta4dpr", "RR@10"))
    assert line["value"] == repr(0.1 + 0.29) and float(line["value"]) == 0.1 + 0.29
    assert line["significant_over"] == "bm25 init" and line["seed"] == "42" and line["limit"] == ""
    assert {x["system"] for x in lines} >= {ODD}


def test_latex_escapes_and_balances(run: Path) -> None:
    text = report.to_latex(report.load(run))
    assert r"a\&b\_\textless{}c\textgreater{}\%" in text
    assert r"\textbf{0.3900}\textsuperscript{ac}" in text
    assert r"bm25\textsuperscript{\textdagger{}}" in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    depth = 0
    for found in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(found, 0)
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for line in body.splitlines():  # every line of a table has as many cells as the table has columns
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) in (7, 8)
        assert not re.search(r"(?<!\\)[%#]", line)
    assert not re.search(r"[^\x00-\x7f]", body)


def test_terminal_never_cuts_a_number(run: Path) -> None:
    out = io.StringIO()
    report.to_rich(report.load(run), Console(file=out, width=60))
    assert "0.3900ᵃᶜ" in out.getvalue() and "[0.340, 0.440]" in out.getvalue() and ODD in out.getvalue()
    assert "…" not in out.getvalue()
    assert "Left out for want of width: kind, regime, parameters." in " ".join(out.getvalue().split())
    assert max(map(len, out.getvalue().splitlines())) <= 60


def test_names_are_not_rich_markup(document: dict[str, Any], write: Write) -> None:
    text = io.StringIO()
    document["title"] = "[bold]title[/bold] [/oops]"
    report.to_rich(report.load(write(document)), Console(file=text, width=120))
    assert "[bold]title[/bold] [/oops]" in text.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("p_holm < 0.05", "p_holm < 0.05"),
        ("_under_", r"\_under\_"),
        ("a*b|c`d", r"a\*b\|c\`d"),
        ("<b>", r"\<b>"),
        ("[x](http://y)", r"[x\](http://y)"),
        ("R(rel=2)@1000", "R(rel=2)@1000"),
        ("two\nlines", "two lines"),
    ],
)
def test_markdown_escapes_only_what_needs_it(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_markdown_columns_line_up_with_pipes_and_wide_characters() -> None:
    part = Table(
        "t", (TableColumn("n", names=True), TableColumn("v", right=True)), ((Cell("a|b`c"), Cell("1")), (Cell("検索"), Cell("22")))
    )
    assert markdown_table(part).splitlines() == [
        "| n          |   v |",
        "| ---------- | --: |",
        "| ``a\\|b`c`` |   1 |",
        "| `検索`     |  22 |",
    ]


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
    document["comparisons"] = []
    document["systems"] = [{"system": name, "kind": "student", "parameters": None} for name in names]
    document["rows"] = [{**document["rows"][0], "system": name} for name in names]
    document["rows"][0]["significant_over"] = [names[1], names[-1]]
    board = report.load(write(document))
    assert table(board, board.eval_sets[0]).rows[0][2].marks == "b,ab"


def test_sparse_file_of_another_version(document: dict[str, Any], write: Write) -> None:
    """What is optional may be absent, and keys of a later version do no harm."""
    for key in ("title", "notes", "seed", "limit", "comparisons"):
        del document[key]
    for found in document["rows"]:
        del found["ci95"], found["significant_over"], found["missing_queries"]
        found["later"] = 1
    del document["rows"][-1]
    text = report.to_markdown(report.load(write(document)))
    assert text.startswith("# mini\n")
    assert cells(text, "mta4dpr")[:4] == ["`mta4dpr`", "**0.3900**", "–", "–"]


def test_errors_say_what_to_do(document: dict[str, Any], write: Write, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected the folder of a run with leaderboard.json, found none in .*; give"):
        report.load(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"expected every row .*found ghost without"):
        report.load(write({**document, "rows": [{**document["rows"][0], "system": "ghost"}]}))
    with pytest.raises(UserError, match="lacks or garbles 'systems'"):
        report.load(write({key: value for key, value in document.items() if key != "systems"}))
    (tmp_path / "leaderboard.json").write_text("{")
    with pytest.raises(UserError, match=r"expected JSON in .* to rewrite it"):
        report.load(tmp_path)


def test_import_is_light() -> None:
    code = "import sys, mta4dpr.report; print(sorted({'matplotlib', 'jinja2', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
