"""Texts come out as they were written, on a terminal and piped: Rich and Typer read no styles, pictures or escapes in them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console

import mta4dpr
from mta4dpr import terminal
from mta4dpr.__main__ import main
from mta4dpr.cli import app
from mta4dpr.machine import progress
from mta4dpr.machine.console import new_console
from mta4dpr.report.formats import to_rich
from mta4dpr.report.leaderboard import ComparisonRow, EvalSetRow, Leaderboard, ScoreRow, SystemRow

NAME = r":x: [bold]b [link] :1: \["  # what a file may be called too
TEXT = rf"{NAME} [/bold] [/] \[red] :smile:"


class Screen:
    """What the test printed until now."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *, tty: bool) -> None:
        self.tty = tty
        self._capsys = capsys
        self._out = self._err = ""

    def raw(self) -> str:
        """Standard output with colours."""
        out, err = self._capsys.readouterr()
        self._out, self._err = self._out + out, self._err + err
        return self._out

    def out(self) -> str:
        return _plain(self.raw())

    def err(self) -> str:
        self.raw()
        return _plain(self._err)


def _plain(text: str) -> str:
    """Without colours and movements of the cursor, and without the spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines())


@pytest.fixture(params=[True, False], ids=["terminal", "piped"])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Screen:
    """Standard output and stderr, wide enough that nothing folds."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "600")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: request.param)  # of the class: the streams are made anew for the test
    return Screen(capsys, tty=request.param)


@pytest.fixture
def bench(screen: Screen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Runs the command line in this process, in an empty folder; the exit status."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["mta4dpr-bench", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        return int(leaving.value.code or 0)

    return call


@pytest.fixture
def collection(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in BEIR's format whose passages, titles, queries and ids hold what Rich could read as its own."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    passages = [(f"d{n}:x:[b]", f"title {n} {TEXT}", f"passage {n} about foxes {TEXT}") for n in range(12)]
    qrels = {"test": [("q1[red]", "d1:x:[b]", 1), ("q2:1:", "d2:x:[b]", 1)]}
    return beir_folder(tmp_path / "mini", passages, {"q1[red]": f"foxes {TEXT}", "q2:1:": f"passage {TEXT}"}, qrels)


def test_the_console_takes_texts_literally(screen: Screen) -> None:
    console = new_console()
    console.print(TEXT)
    assert screen.out() == TEXT


def test_width_is_the_terminals_or_120_or_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: False)
    assert new_console().width == 77
    monkeypatch.delenv("COLUMNS")
    assert new_console().width == 120


def test_tables_titles_heads_and_cells(screen: Screen) -> None:
    terminal.print_table(f"title {TEXT}", [{"a": f"cell {TEXT}", "b": 1}, {"a": None, "b": 2}], {"a": f"head {TEXT}", "b": "b"})
    for what in ("title", "head", "cell"):
        assert f"{what} {TEXT}" in screen.out()


def evaluated(runs: list[str], measures: list[str]) -> dict[str, object]:
    """What `evaluate` says of those runs."""
    values = {"queries": 323, "missing_queries": 0, "ci95": [0.288, 0.357], "value": 0.32164}
    return {"eval_set": "mini/test", "rows": [{"run": run, "measure": measure, **values} for run in runs for measure in measures]}


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_several_runs_and_measures_are_a_matrix(screen: Screen, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """A run a line with the measures side by side; intervals where there is room, those of the first measures before the others."""
    monkeypatch.setenv("COLUMNS", str(width))
    runs = [f"runs/nfcorpus/seed-{n}/runs/beir-nfcorpus-test/kd.trec" for n in range(3)]
    terminal.print_rows(evaluated(runs, ["nDCG@10", "R@100", "RR@10"]), "run")
    lines = screen.out().splitlines()
    assert max(map(len, lines)) <= width
    assert "run" in lines[2] and "nDCG@10" in lines[2] and "R@100" in lines[2]
    [line] = [line for line in lines if "seed-1" in line]
    assert line.count("0.3216") == 3
    assert line.count("[0.2880, 0.3570]") == {40: 0, 60: 0, 80: 1, 120: 3, 200: 3}[width]
    assert ("…/seed-1/…" in line) == (width < 200)
    left_out = " ".join(lines).partition("columns left out:")[2]
    assert ("of R@100" in left_out, "missing" in left_out) == (width < 120, width < 60)


def test_one_run_is_a_line_a_measure(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal.print_rows(evaluated(["runs/nfcorpus/seed-0/runs/beir-nfcorpus-test/kd.trec"], ["nDCG@10", "R@100"]), "run")
    assert [line for line in screen.out().splitlines() if "R@100" in line] == ["…/kd.trec  R@100    0.3216  [0.2880, 0.3570]        0"]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_of_a_contrast_is_folded(screen: Screen, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    one = {
        "a": "mta4dpr-no-replacement",
        "b": "検索" * 12,
        "difference": -0.01234,
        "ci95": [-0.02, 0.01],
        "p_holm": 0.00001,
        "family": "planned",
    }
    one |= {"p_randomisation": 0.04567, "effect_size": 0.1, "wins": 1000, "ties": 5980, "losses": 1000, "detectable": 0.03456}
    terminal.print_comparisons("nDCG@10", [one])
    text = screen.out()
    assert max(map(cell_len, text.splitlines())) <= width
    shown = text.partition("columns left out")[0]
    numbers = ["-0.0123", "<0.0001", "[-0.0200, 0.0100]", "1000/5980/1000", "0.0346", "+0.10", "0.0457"]
    count = {40: 2, 60: 3, 80: 4}.get(width, len(numbers))
    assert [number in shown for number in numbers] == [True] * count + [False] * (len(numbers) - count)


def test_lines_and_errors(screen: Screen) -> None:
    terminal.print_text(TEXT)
    terminal.print_error(f"error: {TEXT}")
    assert (screen.out(), screen.err()) == (TEXT, f"error: {TEXT}")


def test_hits(screen: Screen) -> None:
    hit = {"rank": 1, "score": 2.5, "id": f"id {TEXT}", "title": f"title {TEXT}", "text": f"text\n {TEXT}"}
    terminal.print_hits([hit, {**hit, "rank": 2, "title": ""}])
    assert screen.out().splitlines() == [
        f" 1  2.5000  id {TEXT}  title {TEXT}",
        f"    text {TEXT}",
        f" 2  2.5000  id {TEXT}",
        f"    text {TEXT}",
    ]


def test_no_hits(screen: Screen) -> None:
    terminal.print_hits([])
    assert screen.out() == "no passage matches"


def test_a_query_of_compare(screen: Screen) -> None:
    passage = {"id": f"id {TEXT}", "title": f"title {TEXT}", "text": f"text {TEXT}", "relevance": None}
    values = {"value_a": 1.0, "value_b": 0.5, "first_a": [passage], "first_b": []}
    terminal.print_query({"query_id": "q[b]", "query": TEXT, "a": f"a {TEXT}", "b": f"b {TEXT}", "measure": "RR@10", **values})
    assert screen.out().splitlines() == [
        f"q[b] {TEXT}",
        f"  a {TEXT}: RR@10 1.0000",
        f"    1  grade -  id {TEXT}  title {TEXT} text {TEXT}",
        f"  b {TEXT}: RR@10 0.5000",
    ]


def test_ids_and_ranks_still_have_colours(screen: Screen) -> None:
    terminal.print_hits([{"rank": 1, "score": 2.5, "id": "d1", "title": "A title", "text": "text"}])
    coloured = "\x1b[1;36m 1\x1b[0m  2.5000  \x1b[32md1\x1b[0m  \x1b[1mA title\x1b[0m"
    assert (coloured in screen.raw()) == screen.tty


def test_a_plan(screen: Screen) -> None:
    row = {"stage": f"stage {TEXT}", "state": "to do", "disk": "1 MB", "memory": "", "time": "1 s", "note": f"note {TEXT}"}
    document = {
        "benchmark": f"benchmark {TEXT}",
        "title": f"title {TEXT}",
        "downloads": [{"what": f"file {TEXT}", "bytes": None, "state": "to do", "from": f"https {TEXT}"}],
        "stages": [row],
        "disk": [{"bytes": 10, "place": f"place {TEXT}", "set_by": f"set {TEXT}", "free": 10}],
        "summary": f"summary {TEXT}",
        "rates": [{"work": f"work {TEXT}", "measured": True}],
    }
    terminal.print_plan(document)
    for what in ("stage", "note", "benchmark", "title", "file", "https", "place", "set", "summary", "work"):
        assert f"{what} {TEXT}" in screen.out(), what


def test_a_leaderboard(screen: Screen) -> None:
    """Titles, notes and names of eval sets, systems and their remarks, also on a console that somebody else made."""
    name, eval_set = f"kd {TEXT}", EvalSetRow(f"set {TEXT}", "RR@10", ("RR@10",), 2)
    systems = (SystemRow(name, "student", note=f"remark {TEXT}"), SystemRow("bm25", "lexical"))
    rows = tuple(ScoreRow(system.system, eval_set.id, "RR@10", 0.5, 2, missing_queries=1) for system in systems)
    contrast = ComparisonRow(eval_set.id, "RR@10", name, "bm25", 0.1, family="planned")
    board = Leaderboard("mini", f"title {TEXT}", 0, None, (f"note {TEXT}",), (eval_set,), systems, rows, (contrast,))
    to_rich(board, new_console())
    to_rich(board, Console(width=600))
    for what in ("title", "note", "set", "kd", "remark"):
        times = screen.out().count(f"{what} {TEXT}")
        assert times >= 2 and times % 2 == 0, what


def test_a_bar_of_progress(screen: Screen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Label and unit; a unit is no template either. Where there is no terminal it is a plain log line."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    label, unit = f"label {TEXT} {{task}}", f"unit {TEXT} {{task}}"
    with progress.bar(2, label, unit) as shown:
        shown.advance()
    found = screen.err() if screen.tty else caplog.text
    assert label in found
    assert unit in found


def test_list_options_has_no_pictures(bench: Callable[..., int], screen: Screen) -> None:
    """Options are explained with colons: entropy:X: became a picture."""
    assert bench("list", "options") == 0
    assert "entropy:X:" in screen.out()


def test_search_and_run_on_a_collection(bench: Callable[..., int], screen: Screen, collection: Path) -> None:
    """Passages of the collection, and its folder's name on the leaderboard."""
    assert bench("search", str(collection), "--query", "foxes", "--hits", "12") == 0
    for n in range(12):
        assert f"d{n}:x:[b]  title {n} {TEXT}" in screen.out()
        assert f"    passage {n} about foxes {TEXT}" in screen.out()
    assert bench("run", str(collection), "--systems", "bm25", "--output", "run") == 0
    assert f"{collection.name}/test" in screen.out()


def test_evaluate_and_compare_name_files_and_texts(bench: Callable[..., int], screen: Screen, collection: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{which} {NAME}.trec" for which in ("one", "two")]
    files[0].write_text("q1[red] Q0 d1:x:[b] 1 2.0 x\nq2:1: Q0 d2:x:[b] 1 1.0 x\n")
    files[1].write_text("q1[red] Q0 d0:x:[b] 1 2.0 x\nq2:1: Q0 d2:x:[b] 1 1.0 x\n")
    judged = ["--dataset", f"{collection}/test", "--measures", "RR@10"]
    assert bench("evaluate", *map(str, files), *judged) == 0
    assert f"one {NAME}.trec" in screen.out()
    assert bench("compare", *map(str, files), *judged) == 0
    assert f"two {NAME} - one {NAME}" in screen.out()
    assert f"q1[red] foxes {TEXT}" in screen.out()
    assert f"    1  grade 1  d1:x:[b]  title 1 {TEXT} passage 1 about foxes {TEXT}" in screen.out()
    assert f"    1  grade -  d0:x:[b]  title 0 {TEXT} passage 0 about foxes {TEXT}" in screen.out()
    assert bench("evaluate", f"nowhere {NAME}", *judged) == 2
    assert f"nowhere {NAME}" in screen.err()


def test_plan_of_a_collection(bench: Callable[..., int], screen: Screen, collection: Path) -> None:
    assert bench("plan", str(collection), "--output", f"run {NAME}") == 0
    assert f"plan of {collection.name}" in screen.out()
    assert f"run {NAME}" in screen.out()


def test_errors_of_the_command_line(bench: Callable[..., int], screen: Screen) -> None:
    """Typer's own and ours name what was typed."""
    odd = TEXT.replace("\\", "")  # which repr doubles
    assert bench("list", odd) == 2
    assert bench("list", "options", f"--{odd}") == 2
    assert screen.err().count(odd) == 2


def test_help_shows_texts_as_they_are_written(screen: Screen) -> None:
    """Ours is set up as `shown` is: of the group, its epilog, its commands, their options and arguments."""
    shown = typer.Typer(cls=terminal.HelpAsWritten, rich_markup_mode="rich", help=f"group {TEXT}", epilog=f"epilog {TEXT}")

    @shown.command(help=f"first {TEXT}\n\nsecond {TEXT}")
    def one(
        argument: Annotated[str, typer.Argument(help=f"argument {TEXT}")],
        option: Annotated[str, typer.Option(metavar=f"meta {TEXT}", help=f"option {TEXT}")] = f"default {TEXT}",
    ) -> None: ...

    @shown.command(help="two")
    def two() -> None: ...

    shown(args=["--help"], standalone_mode=False)
    for what in ("group", "epilog", "first"):
        assert f"{what} {TEXT}" in screen.out()
    shown(args=["one", "--help"], standalone_mode=False)
    for what in ("second", "argument", "meta", "option", "default"):
        assert f"{what} {TEXT}" in screen.out()
    assert app.info.cls is terminal.HelpAsWritten


def test_help_is_as_pretty_as_typers(screen: Screen) -> None:
    """The same panels and colours as without our class: only what is in the texts changes nothing."""
    plain = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich", help=app.info.help, epilog=app.info.epilog)
    plain.registered_commands = app.registered_commands
    for arguments in (["--help"], ["search", "--help"]):
        before = len(screen.raw())
        for one in (app, plain):
            one(args=arguments, prog_name="mta4dpr-bench", standalone_mode=False)
        shown = screen.raw()[before:]
        assert ("\x1b[1;36m" in shown) == screen.tty
        assert "╭─" in shown
        assert shown == 2 * shown[: len(shown) // 2]


def test_there_is_one_console_and_no_markup() -> None:
    """What prints elsewhere could read markup again: it takes `new_console`, and styles by `Text`."""
    package = Path(mta4dpr.__file__).parent
    forbidden = {
        r"\bConsole\(": "use new_console of mta4dpr/machine/console.py",
        r"rich\.markup|from_markup|rich\.print\b|from rich import print|render_markup": "texts are never markup; use rich.text.Text",
        r"\b(markup|emoji)=True|Prompt\.ask|\bPanel\(": "reads texts as markup",
        r"\bTextColumn\((?!.*markup=False)": "TextColumn reads markup unless told markup=False",
        r"\[/[a-z ]*\]": "a closing tag of Rich's markup; use Text with a style",
    }
    for path in sorted(set(package.rglob("*.py")) - {package / "machine" / "console.py"}):
        text = path.read_text(encoding="utf-8")
        for pattern, why in forbidden.items():
            found = re.search(pattern, text)
            assert not found, f"{path.name}: {found[0]}: {why}"
