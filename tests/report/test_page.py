"""The page, the plots and `write_report`: content, escapes, stable bytes, and runs that lack a part."""

from __future__ import annotations

import io
import json
import logging
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from mta4dpr import report
from mta4dpr.errors import UserError
from mta4dpr.report.cost import duration, size
from mta4dpr.report.figures import shortened
from mta4dpr.report.training import Training, load_trainings

TEXTS = ["leaderboard.csv", "leaderboard.md", "leaderboard.tex", "leaderboard.html", "efficiency.md"]


class Page(HTMLParser):
    """Ids, links and text of a page, and that every tag closes."""

    VOID = ("meta", "br", "input", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _look(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.targets += [value or "" for name, value in attrs if name in ("href", "xlink:href", "src")]


def page_of(folder: Path) -> Page:
    report.write_report(folder)
    return Page((folder / "leaderboard.html").read_text(encoding="utf-8"))


def test_page_is_whole_and_self_contained(trained: Path) -> None:
    page = page_of(trained)
    assert page.open == []
    assert "link" not in page.tags and "img" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    assert page.targets and all(target[:1] == "#" and target[1:] in page.ids for target in page.targets)
    words = " ".join(page.text.split())
    for said in ("<script>alert(1)</script> & co", "a&b_<c>%", "0.3900ac", "[0.340, 0.440]", "seed 42", "5 % level."):
        assert said in words
    for said in ("cannot tell: smallest detectable difference 0.027", "no result for 3 of 300 queries"):
        assert said in words
    for said in ("device cpu, 2 threads", "2.2 MB", "81.2", "4.1 ms", "5 min 12 s", "75.0 %", "8 min 00 s"):
        assert said in words
    assert "0.2000×" in words and "× after round 0: $y$ replaced by student-r0." in words


def test_page_without_training_and_efficiency(run: Path) -> None:
    page = page_of(run)
    assert "Training" not in page.text and "Measured on one machine" not in page.text
    assert "compare" not in page.ids  # no per_query/
    assert [path.name for path in sorted((run / "plots").iterdir())] == ["frontier-parameters-mini-test.svg", "leaderboard-mini-test.svg"]


def test_efficiency_may_lack_everything(run: Path) -> None:
    (run / "efficiency.json").write_text('{"systems": {}, "stages": [{"stage": "data", "seconds": null, "share": null}]}')
    assert "data" in page_of(run).text


def test_an_eval_set_without_rows_yet(run: Path) -> None:
    """As `--eval-sets` leaves it when a run is interrupted: an empty table, no plot, no crash."""
    document = json.loads((run / "leaderboard.json").read_text())
    document["eval_sets"].append({"id": "mini/dev", "primary": "RR@10", "measures": ["RR@10"], "queries": 7})
    (run / "leaderboard.json").write_text(json.dumps(document))
    assert "mini/dev" in page_of(run).text
    assert "## mini/dev" in (run / "leaderboard.md").read_text(encoding="utf-8")
    report.to_rich(report.load(run), Console(file=io.StringIO(), width=80))


def test_plots_hold_names_as_text(trained: Path) -> None:
    plots = report.draw(trained)
    assert [(plot.kind, plot.subject) for plot in plots] == [
        ("leaderboard", "mini/test"),
        ("frontier-parameters", "mini/test"),
        ("training", "mta4dpr"),
        ("assistants", "mta4dpr"),
        ("rounds", "mta4dpr"),
    ]
    texts = []
    for plot in plots:
        root = ElementTree.parse(plot.path).getroot()
        texts.append([element.text for element in root.iter("{http://www.w3.org/2000/svg}text")])
        assert float(root.attrib["width"].removesuffix("pt")) * 96 / 72 < 700
    assert {"a&b_<c>%", "0.3900", "RR@10 on mini/test", "95 % bootstrap interval, 300 queries"} <= set(texts[0])
    assert {"total loss", "cross-entropy", "KL to the teacher (nats)", "round 1"} <= set(texts[2])
    assert {"a&b_<c>%", "parameters (millions)"} <= set(texts[1])
    assert "KL to the chosen assistant (nats)" not in texts[2]  # the steps have none
    assert {"75 %", "50 %", "$y$", "round 0 (4 batches)"} <= set(texts[3])
    assert {"student", "$y$", "student-r0", "replaced by a copy of the student"} <= set(texts[4])


def test_plots_say_the_limit(run: Path) -> None:
    document = json.loads((run / "leaderboard.json").read_text())
    (run / "leaderboard.json").write_text(json.dumps({**document, "limit": 50}))
    assert "300 queries (--limit 50, no full run)" in report.draw(run)[0].path.read_text()


def test_bytes_are_stable(trained: Path) -> None:
    names = [*TEXTS, *(f"plots/{kind}-mta4dpr.svg" for kind in ("training", "assistants", "rounds"))]
    names += ["plots/leaderboard-mini-test.svg", "plots/frontier-parameters-mini-test.svg"]
    written = report.write_report(trained)
    assert sorted(str(path.relative_to(trained)) for path in written) == sorted(names)
    first = {name: (trained / name).read_bytes() for name in names}
    report.write_report(trained)
    assert {name: (trained / name).read_bytes() for name in names} == first


def test_markdown_and_csv_ignore_what_the_machine_decides(trained: Path) -> None:
    report.write_report(trained)
    first = [(trained / name).read_bytes() for name in TEXTS[:3]]
    (trained / "efficiency.json").unlink()
    report.write_report(trained)
    assert [(trained / name).read_bytes() for name in TEXTS[:3]] == first


def test_a_line_cut_short_by_a_kill_is_left_out(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = trained / "training" / "mta4dpr" / "steps.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"round": 1, "st')
    with caplog.at_level(logging.WARNING):
        assert len(load_trainings(trained)[0].steps) == 8
    assert "last line is incomplete" in caplog.text
    path.write_text("{broken\n" + whole)
    with pytest.raises(UserError, match=r"line 1 of .*steps.jsonl"):
        load_trainings(trained)


@pytest.mark.parametrize("steps", [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])
def test_steps_may_count_on_or_start_again(steps: list[int]) -> None:
    lines = [{"round": int(n >= 2), "step": step} for n, step in enumerate(steps)]
    training = Training("s", lines, [])
    assert training.positions() == [0, 1, 2, 3, 4]
    assert training.boundaries() == [(0, 0), (1, 2)]


def test_a_diverged_loss_leaves_a_gap(trained: Path) -> None:
    path = trained / "training" / "mta4dpr" / "steps.jsonl"
    path.write_text(path.read_text() + '{"round": 1, "step": 9, "loss": NaN, "ce": Infinity, "assistant": null}\n')
    assert len(report.draw(trained)) == 5


def test_short_forms() -> None:
    assert shortened("x" * 36) == "x" * 36
    assert shortened("a" * 30 + "b" * 30, 11) == "aaaaa…bbbbb"
    assert [duration(s) for s in (None, 2.14, 59.96, 119.6, 4000)] == ["–", "2.1 s", "60.0 s", "2 min 00 s", "1 h 07 min"]
    assert [size(n) for n in (None, 12, 2_150_400, 2e15)] == ["–", "12 B", "2.2 MB", "2000.0 TB"]
