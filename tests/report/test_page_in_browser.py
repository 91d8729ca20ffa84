"""The page in a headless Chromium: it sorts, filters and compares, asks the network for nothing, and odd names stay text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr import report
from mta4dpr.evaluation.per_query import write_per_query
from mta4dpr.experiment.folder import Folder

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; `uv sync` brings it")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; `apt-get install chromium` brings one")

EVIL = "</script><script>alert('1')</script>"
HEBREW = 'מערכת "אחת" & <b>'
QUERIES = [f"q{n}" for n in range(300)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any, make_document: Callable[[], dict[str, Any]], add_training: Callable[[Path], Path]) -> Path:
    """The trained run with the values of 300 queries, and names, queries and passages that try to be markup."""
    trained = add_training(tmp_path_factory.mktemp("run"))
    text = json.dumps(make_document()).replace('"a&b_<c>%"', json.dumps(EVIL)).replace('"init"', json.dumps(HEBREW))
    document = json.loads(text)
    document["eval_sets"].append({"id": "other/<i>set</i>", "primary": "nDCG@10", "measures": ["nDCG@10"], "queries": 2})
    (trained / "leaderboard.json").write_text(json.dumps(document))
    values = np.random.default_rng(1).random((2, 300))
    values[:, 0] = [1 / 32, 0.0]  # 0.03125 is exactly half-way: 0.0312 in C and Python, 0.0313 in JavaScript
    values[:, 7] = [0.0, 1.0]
    values[:, 8] = [1.0, 0.0]
    values[:, 9] = 0.5
    for system, row in zip(("kd", "mta4dpr"), values, strict=True):
        write_per_query(Folder(trained).per_query(system, "mini/test"), [*QUERIES[:-1], EVIL], {"RR@10": row, "R@100": np.round(row)})
    texts = {
        "queries": {"mini/test": {"q7": "<img src=x onerror=alert(2)> שאלה", "q8": "what is “8” & '8'?"}},
        "hits": {"mini/test": {"kd": {"q7": [["d<1>", 2], ["gone", None]]}, "mta4dpr": {"q7": []}}},
        "passages": {"d<1>": ["<b>Title</b>", "text & <script>alert(3)</script>"]},
    }
    (trained / "texts.json").write_text(json.dumps(texts))
    report.write_report(trained)
    return trained


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """An open page. In the end it must have said nothing on the console, thrown nothing and asked for nothing but itself."""
    context = browser.new_context()
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((folder / "leaderboard.html").as_uri())
    yield opened
    assert said == []
    assert asked == [(folder / "leaderboard.html").as_uri()]
    context.close()


def names(page: Any, table: int = 0) -> list[str]:
    """The first column's names of the rows that can be seen."""
    found = page.locator("table.systems").nth(table).locator("tbody tr:visible td.key bdi")
    return [str(text) for text in found.all_text_contents()]


def test_it_sorts_by_keyboard_too(page: Any) -> None:
    """Numbers from the largest by their unrounded values, then from the smallest, then as they were; what has no value comes last."""
    before = names(page)
    head = page.locator("table.systems").first.locator("th", has_text="R@100").locator("button")
    head.click()
    assert names(page) == [EVIL, "kd", "mta4dpr", "bm25", HEBREW]  # kd 0.70004, mta4dpr 0.69996
    assert page.locator("th[aria-sort=descending]").all_text_contents() == ["R@100"]
    head.focus()
    page.keyboard.press("Enter")
    assert names(page) == [HEBREW, "bm25", "mta4dpr", "kd", EVIL]
    page.keyboard.press("Enter")
    assert names(page) == before
    for place in (-1, 0):
        page.locator("table.systems").first.locator("th", has_text="parameters").locator("button").click()
        assert names(page)[-1] == "bm25", place


def test_it_filters_every_table(page: Any) -> None:
    page.fill("#filter", "MTA")
    assert names(page) == ["mta4dpr"]
    assert "1 of 5 systems" in page.inner_text("#filters")
    page.fill("#filter", "")
    page.select_option("#kind", "student")
    assert names(page) == [HEBREW, "kd", "mta4dpr"]
    page.fill("#filter", "no such")
    assert names(page) == []
    assert page.get_by_text("No row matches the filter.").first.is_visible()
    page.click("#clear")
    assert len(names(page)) == 5


def test_it_compares_two_systems(page: Any) -> None:
    """mta4dpr and kd are chosen at first, as two students of a planned contrast; q7 and q8 differ by 1."""
    assert (page.input_value("#side-a"), page.input_value("#side-b")) == ("mta4dpr", "kd")
    said = page.inner_text("#verdicts")
    assert "RR@10 0.3900" in said and "+0.0100" in said and "p (Holm) 0.210: cannot tell" in said
    assert page.locator("#queries > li").count() == 10
    first = page.locator("#queries > li").first
    assert "+1.0000" in first.inner_text() and "<img src=x onerror=alert(2)> שאלה" in first.inner_text()
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    opened = first.inner_text()
    for text in ("relevant (2)", "<b>Title</b>", "text & <script>alert(3)</script>", "d<1>", "gone", "found nothing"):
        assert text in opened
    page.click("#swap")
    assert page.locator("#queries .by").first.inner_text() == "−1.0000"
    page.select_option("#way", "1")
    assert "A 1.0000 · B 0.0000" in page.locator("#queries > li").first.inner_text()
    page.select_option("#way", "0")
    page.fill("#find", "Q0")
    assert "A 0.0312 · B 0.0000" in page.locator("#queries > li").first.inner_text()
    page.fill("#find", "</script>")
    assert page.locator("#queries .words").all_text_contents() == [EVIL]
    page.select_option("#measure", "R@100")
    assert "0.001" in page.inner_text("#verdicts")
    page.select_option("#side-b", "kd")
    assert "the same system" in page.inner_text("#verdicts")
    page.fill("#find", "")
    assert page.locator("#queries > li").count() == 0


def test_counts_are_those_of_the_files(page: Any, folder: Path) -> None:
    a, b = ([float(line.split(",")[1]) for line in lines(folder, system)] for system in ("mta4dpr", "kd"))
    better, equal = sum(x > y for x, y in zip(a, b, strict=True)), sum(x == y for x, y in zip(a, b, strict=True))
    assert f"A better on {better}, equal on {equal}, B better on {300 - better - equal}" in page.inner_text("#verdicts")
    assert f"of {300 - equal} queries" in page.inner_text("#found")
    page.click("#more")
    assert page.locator("#queries > li").count() == 20


def lines(folder: Path, system: str) -> list[str]:
    return Folder(folder).per_query(system, "mini/test").read_text().splitlines()[1:]


def test_nothing_can_be_fetched(browser: Any, folder: Path) -> None:
    """The page's own policy forbids it, so that not even a hole in our escaping could send anything away."""
    page = browser.new_page()
    page.goto((folder / "leaderboard.html").as_uri())
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/x.png"}));
        })"""
    )
    assert blocked == "img-src"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, folder: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, color_scheme=scheme)
    page = context.new_page()
    page.goto((folder / "leaderboard.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[scheme]
    context.close()


def test_it_reads_without_a_script(browser: Any, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "leaderboard.html").as_uri())
    assert names(page) == ["bm25", EVIL, HEBREW, "kd", "mta4dpr"]
    assert not page.locator("#filters").is_visible()
    assert page.locator("noscript p").is_visible()
    context.close()
