"""The page and `write_report`: content, escapes, stable bytes, and runs that lack a part."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rich.console import Console

from mta4dpr import report

from .sample import Write

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
    for said in ("<script>alert(1)</script> & co", "a&b_<c>%", "0.3900", "[0.340, 0.440]", "seed 42", "5 % level."):
        assert said in words
    for said in ("cannot tell: smallest detectable difference 0.027", "no result for 3 of 300 queries"):
        assert said in words
    for said in ("device cpu, 2 threads", "2.2 MB", "81.2", "4.1 ms", "5 min 12 s", "75.0 %", "8 min 00 s"):
        assert said in words
    assert "0.2000×" in words and "× after round 0: $y$ replaced by student-r0." in words


def test_letters_say_what_they_mean(tested: dict[str, Any], write: Write) -> None:
    page = write(tested)
    report.write_report(page)
    assert '<sup title="significantly better than init">a</sup>' in (page / "leaderboard.html").read_text(encoding="utf-8")


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
