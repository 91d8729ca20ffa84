"""The paper's tables in every format: the same figures everywhere, footnotes that lead to sources, escaping, empty cells."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mta4dpr.config.yaml_files import benchmark_folder
from mta4dpr.report.comparison import Measurement
from mta4dpr.report.layouts import Layout
from mta4dpr.report.paper import Paper, read_tables, table, to_json
from mta4dpr.report.published import PublishedFigure, PublishedResults, PublishedSystem

ODD = "a&b_<c>%|$#"
DEV, DL = "msmarco-passage/dev/small", "msmarco-passage/trec-dl-2019/judged"


def measured(system: str, measure: str, value: float, std: float | None = None, *, eval_set: str = DEV, queries: int = 6980) -> Measurement:
    seeds = (0, 1, 2) if std is not None else (0,)
    return Measurement("msmarco", eval_set, system, measure, value, std, seeds, queries=queries, passages=8841823, titled=False)


@pytest.fixture
def paper() -> Paper:
    """As if MS MARCO had been run: figures that a reader checks by eye."""
    found = [measured("bm25", "RR@10", 0.18401), measured("bm25", "R@1000", 0.8526), measured("mta4dpr", "RR@10", 0.4052, 0.00149)]
    found += [measured("kd", "RR@10", 0.3806, 0.001), measured("simlm", "RR@10", 0.4109), measured("tas-b", "Success@50", 0.877)]
    found += [measured("mta4dpr", "nDCG@10", 0.75, 0.004, eval_set=DL, queries=43)]
    found += [Measurement("nfcorpus-strategies", "beir/nfcorpus/test", "mta4dpr", "nDCG@10", 0.2736, 0.003, (0, 1), 323, 3633, True)]
    return read_tables(benchmark_folder() / "paper").filled(found)


def cells(text: str, table: str, row: str) -> list[str]:
    """The cells of a row of the Markdown."""
    part = next(part for part in text.split("\n## ") if part.startswith(table))
    line = next(line for line in part.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_published_measured_and_verdict_stand_side_by_side(paper: Paper) -> None:
    """18.40 of 18.401; 40.5 ± 0.1 is 0.6 from 41.1, so near; 38.1 is 1.8 from 39.9, so off. SimLM was published over titles."""
    text = paper.text("md")
    name = "Main results: MS MARCO"
    assert cells(text, name, "BM25")[2:5] == ["18.40ᵃ", "18.40", "reproduced"]
    assert cells(text, name, "BM25")[8:] == ["85.26ᵃ", "85.26", "reproduced"]
    assert cells(text, name, "MTA4DPR (66M student)")[2:5] == ["41.1ᵗ", "40.5 ± 0.1", "near"]
    assert cells(text, name, "MTA4DPR without")[2:5] == ["39.9ᵗ", "38.1 ± 0.1", "off"]
    assert cells(text, name, "SimLM")[2:5] == ["41.1ᵏ", "41.1†", ""]
    assert "- † measured over passages without titles, published with: no verdict (SimLM (distilled), MRR@10)." in text
    assert cells(text, name, "ANCE")[2:5] == ["33.0ᵇ", "–", "not run"]
    assert cells(text, "Main results: TREC", "MTA4DPR (66M student)")[2:5] == ["71.2ᵒ", "75.0 ± 0.4", "off"]
    assert cells(text, "Ablation", "MTA4DPR")[-1] == "27.4 ± 0.3"


def test_a_published_figure_leads_to_its_source_and_trust(paper: Paper) -> None:
    text = paper.text("md")
    assert "- t: public machine-made summary of the MTA4DPR paper (secondary; PDF not seen) (secondary, reported)." in text
    assert "Measured by the benchmark `msmarco`: seeds 0, 1, 2, passages without titles. ± is the standard deviation" in text


def test_what_is_not_known_is_empty(paper: Paper) -> None:
    """The summary has no figure of the criteria, of the rounds, or of most ablations; nothing may stand there."""
    text = paper.text("md")
    assert cells(text, "Ablation", "without fused")[1:4] == ["", "–", "not run"]
    for name, rows in (("Selection criteria", ("KL divergence |", "Spearman", "rank-biased")), ("Rounds", ("one", "two", "three"))):
        for row in rows:
            found = cells(text, name, row.rstrip(" |"))
            assert (found[1], found[4]) == ("", "")


def test_a_hit_rate_is_marked_and_not_judged_beside_recall(paper: Paper) -> None:
    """PROD's R@1k counts queries with a hit; the column measures recall."""
    text = paper.text("md")
    assert cells(text, "Main results: MS MARCO", "PROD")[8:] == ["98.4ˢ‡", "–", "not run"]
    assert "‡ The source counts something else" in text


def test_all_formats_have_the_same_figures(paper: Paper) -> None:
    """Whoever takes one format must not see other numbers than who takes another."""
    lines = list(csv.DictReader(io.StringIO(paper.text("csv"))))
    document = [cell for part in to_json(paper)["tables"] for cell in part["cells"]]
    assert [{k: v for k, v in line.items() if k not in ("seeds", "value")} for line in lines] == [
        {k: v or "" for k, v in cell.items() if k not in ("seeds", "value")} for cell in document
    ]
    wanted = [text for line in lines for text in (line["published"], line["measured"], line["verdict"]) if text]
    assert {"18.40", "40.5", "reproduced", "near", "off", "not run"} <= set(wanted)

    def shown(text: str, cell: str) -> list[str]:
        """Published figures, measured ones and verdicts in the order of the table's cells."""
        return [found for found in re.findall(cell, text) if found]

    pattern = r"(\d+\.\d+|reproduced|near|off|not run)"
    markdown = "\n".join(line for line in paper.text("md").splitlines() if line.startswith("| ") and "published" not in line)
    assert shown(markdown, rf"(?<=\| ){pattern}(?=[^|]*\|)") == wanted
    page = re.sub(r"<thead>.*?</thead>|<th scope=\"row\">.*?</th>", "", paper.text("html"), flags=re.DOTALL)
    assert shown(page, rf"<td[^>]*>{pattern}") == wanted
    body = "\n".join(line for line in paper.text("tex").splitlines() if line.endswith(r" \\"))
    assert shown(body, rf"(?<=& ){pattern}") == wanted
    stds = [line["std"] for line in lines if line["std"]]
    for form, sign in (("md", " ± "), ("html", " ± "), ("tex", r" $\pm$ ")):
        assert re.findall(rf"{re.escape(sign)}(\d+\.\d+)", paper.text(form)) == stds


@pytest.fixture
def odd() -> Paper:
    """A table whose every word needs escaping somewhere."""
    column = {"head": ODD, "dataset": ODD, "published": "R@50", "eval_set": "x", "measure": "Success@50"}
    column["tolerance"] = {"reproduced": 1, "near": 2}
    rows = [{"published": ODD, "measured": "a", "about": ODD}]
    layout = Layout.model_validate({"title": ODD, "lead": ODD, "columns": [column], "rows": rows, "notes": [ODD]})
    figure = PublishedFigure(ODD, ODD, "R@50", "41.1", "hit rate", "reported", "low", ODD)
    found = Measurement(ODD, "x", "a", "Success@50", 0.411, None, (0,), 5, None, None)
    return Paper({"odd": layout}, PublishedResults((figure,), {ODD: PublishedSystem(ODD, ODD)}), (found,))


def test_names_are_escaped_in_html(odd: Paper) -> None:
    page = odd.text("html")
    assert "<c>" not in page
    assert page.count(html.escape(ODD)) >= 7


def test_names_are_escaped_in_latex(odd: Paper) -> None:
    """Braces balance, every row has the columns of the table, and no character is left that LaTeX would act on."""
    text = odd.text("tex")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert body.count(r"a\&b\_\textless{}c\textgreater{}\%\textbar{}\$\#") >= 7
    assert not re.search(r"(?<!\\)[%#]", body)
    depth = 0
    for found in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(found, 0)
        assert depth >= 0
    assert depth == 0
    rows = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [2, 4, 4]  # the first has one head over three columns
    assert r"\multicolumn{3}{c}" in rows[0] and r"\cmidrule(lr){3-5}" in body


def test_names_are_escaped_in_markdown_and_whole_in_csv(odd: Paper) -> None:
    line = next(line for line in odd.text("md").splitlines() if line.startswith("| a&b"))
    assert len(re.split(r"(?<!\\)\|", line)) == 7
    assert next(csv.DictReader(io.StringIO(odd.text("csv"))))["row"] == ODD


def test_latex_has_no_character_beyond_ascii(paper: Paper) -> None:
    assert not re.search(r"[^\x00-\x7f]", paper.text("tex"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here; `apt-get install texlive-latex-recommended` brings it")
@pytest.mark.parametrize("which", ["paper", "odd"])
def test_latex_compiles(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "tables.tex").write_text(request.getfixturevalue(which).text("tex"))
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage{graphicx}"
    (tmp_path / "doc.tex").write_text(rf"\documentclass{{article}}{packages}\begin{{document}}\input{{tables}}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search(r"Overfull \\hbox", done.stdout)


def test_one_table_is_made_without_any_run(paper: Paper) -> None:
    """Published figures alone are worth printing, and every compared cell says that it was not run."""
    alone = table(paper.layouts["3-nq"], paper.published, [])
    assert {row[-1].text for row in alone.rows} == {"not run"}
    assert alone.rows[-1][5].text == "83.6"
