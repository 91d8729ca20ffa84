"""Tables as CSV, Markdown, LaTeX and on the terminal: values, escapes, widths."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mta4dpr import report
from mta4dpr.report.formats import markdown_table, markdown_text
from mta4dpr.report.tables import Cell, Table, TableColumn

from .sample import ODD, Write, cells


def test_markdown_shows_values_marks_and_facts(tested: dict[str, Any], write: Write) -> None:
    text = report.to_markdown(report.load(write(tested)))
    assert cells(text, "mta4dpr") == [
        "", "`mta4dpr`", "**0.3900**ᵃ", "[0.340, 0.440]", "**0.7000**", "97.5 %", "student", "static", "13.0 M",
    ]  # fmt: skip
    assert cells(text, "bm25")[1] == "`bm25`†"
    assert "- `bm25`: † no result for 3 of 300 queries; each of these scores 0." in text
    assert "300 queries, passages without titles, primary measure RR@10, seed 42." in text
    assert "Raised letters: significantly better than `init` (p_holm < 0.05: paired t-test, Holm over the contrasts" in text
    assert "- `init`: before training" in text
    assert "Trained students took 300 optimiser steps each." in text
    assert "\\<script>" in text and "- \\# not a heading" in text


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


def test_no_limit_is_not_mentioned(run: Path) -> None:
    assert "--limit" not in report.to_markdown(report.load(run))


def test_csv_is_long_and_unrounded(run: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(report.to_csv(report.load(run)))))
    assert len(lines) == 10
    line = next(x for x in lines if (x["system"], x["measure"]) == ("mta4dpr", "RR@10"))
    assert line["value"] == repr(0.1 + 0.29) and float(line["value"]) == 0.1 + 0.29
    assert line["significant_over"] == "bm25 init" and line["seed"] == "42" and line["limit"] == ""
    assert {x["system"] for x in lines} >= {ODD}


def test_latex_escapes_and_balances(tested: dict[str, Any], write: Write) -> None:
    text = report.to_latex(report.load(write(tested)))
    assert r"a\&b\_\textless{}c\textgreater{}\%" in text
    assert r"\textbf{0.3900}\textsuperscript{a}" in text
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


def test_terminal_never_cuts_a_number(tested: dict[str, Any], write: Write) -> None:
    out = io.StringIO()
    report.to_rich(report.load(write(tested)), Console(file=out, width=60))
    assert "0.3900ᵃ" in out.getvalue() and "[0.340, 0.440]" in out.getvalue() and ODD in out.getvalue()
    assert "…" not in out.getvalue()
    assert "columns left out: kind, regime, parameters; a wider terminal or --json shows them" in " ".join(out.getvalue().split())
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
