"""README and docs/: links lead somewhere, files and names of code are there, and the command line takes the commands. Runs none of them."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest
import typer

import mta4dpr
from mta4dpr.cli import app
from mta4dpr.engines.engine import Engine
from mta4dpr.stages.stage import Stage

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SCRIPTS_OF_OTHERS = {"msmarco_eval.py", "inference_DE_marco.py", "inference_de.py", "metrics.py", "msmarco_passages.py"}
VARIABLES_OF_OTHERS = {"HF_HOME"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of headings: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@cache
def sources() -> dict[str, str]:
    """{path from the root: text} of every Python file of the repository."""
    files = (path for folder in ("mta4dpr", "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def files_named(path: str) -> list[str]:
    """The files of the repository of that full path, or that end in that folder/file."""
    wanted = path.lstrip("./")
    return [known for known in sources() if known == wanted or known.endswith(f"/{wanted}")]


def absent_files(page: Path) -> list[str]:
    """Python files that a page names and that are neither here, nor shown by the page itself, nor named as somebody else's."""
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"^```python\n# (\S+\.py)$", text, re.MULTILINE))
    given = set(re.findall(r"[\w./-]*\w\.py\b", text)) - shown - SCRIPTS_OF_OTHERS - {"PATH.py"}
    return sorted(path for path in given if not files_named(path))


def absent_names(page: Path) -> list[str]:
    """Modules (`mta4dpr.x.y`) and names in capitals (`STRATEGIES`) in a page's text that the package does not have."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    package = "\n".join(source for path, source in sources().items() if path.startswith("mta4dpr/"))
    modules = {name for name in re.findall(r"`mta4dpr\.([a-z_]\w*(?:\.\w+)*)`", text) if name not in mta4dpr.__all__}
    absent = {f"mta4dpr.{name}" for name in modules if not files_named(f"mta4dpr/{name.replace('.', '/')}.py")}
    words = set(re.findall(r"`([A-Z][A-Z_]{3,})`", text)) - VARIABLES_OF_OTHERS
    return sorted(absent | {word for word in words if not re.search(rf"\b{word}\b", package)})


def items(page: Path) -> list[str]:
    """Rows of tables, points of lists and paragraphs of a page."""
    return re.split(r"\n(?=\s*(?:[-|#\n]|\d+\.))", FENCE.sub("", page.read_text(encoding="utf-8")))


def absent_functions(page: Path) -> list[str]:
    """What a page calls NAME() or CLASS.NAME() and no file of the package in the same row, point or paragraph defines."""
    absent = []
    for item in items(page):
        files = [sources()[path] for name in re.findall(r"`([\w/]+\.py)`", item) for path in files_named(f"mta4dpr/{name}")]
        for called in re.findall(r"`([\w.]+)\(\)`", item):
            defined = [rf"^ *(?:def|class) {name}\b" for name in called.split(".")]
            if not any(all(re.search(one, text, re.MULTILINE) for one in defined) for text in files):
                absent.append(called)
    return absent


def commands(page: Path) -> list[str]:
    """What follows `mta4dpr-bench` in blocks of code, without comments."""
    blocks = "\n".join(FENCE.findall(page.read_text(encoding="utf-8")))
    return [line.partition(" # ")[0] for line in re.findall(r"mta4dpr-bench (\S.*)$", blocks, re.MULTILINE)]


def refused(command: str) -> str:
    """What the command line says of it before anything runs; empty when it is taken."""
    group = typer.main.get_command(app)
    name, *arguments = shlex.split(command)
    if name not in group.commands:
        return f"no command {name}"
    try:
        group.commands[name].make_context(name, arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Pages and headings are renamed; a link to the old name looks as before and shows the top of the page, or nothing."""
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_in_the_docs_are_taken(page: Path) -> None:
    """An option that was renamed would stay in the docs."""
    assert {command: refused(command) for command in commands(page) if refused(command)} == {}


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "benchmarks").rglob("*.yaml"))], ids=named)
def test_files_and_names_of_code_in_the_docs_are_there(page: Path) -> None:
    """Files move, and a page that still names the old place sends its reader to nothing."""
    assert absent_files(page) == []
    assert absent_names(page) == []


def rows_under(heading: str) -> list[str]:
    """The first cells of the table below that heading of docs/architecture.md, without back quotes."""
    text = ARCHITECTURE.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def test_ways_through_the_package_name_functions_of_the_files_beside_them() -> None:
    """A newcomer who follows a way must not end at a function that has been renamed or has moved."""
    assert absent_functions(ARCHITECTURE) == []


def test_rooms_stand_in_the_order_of_the_import_contract() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    rooms = [module.strip().removeprefix("mta4dpr.") for layer in contract["layers"] for module in layer.split("|")]
    assert [row.rstrip("/").removesuffix(".py") for row in rows_under("## The rooms, from top to bottom")] == rooms


def test_the_two_types_are_described_as_they_are() -> None:
    assert rows_under("### A stage") == [field.name for field in dataclasses.fields(Stage)]
    (written,) = (item for item in items(ARCHITECTURE) if item.startswith("- *Must be written:*"))
    assert set(re.findall(r"`(\w+)`", written)) == Engine.__abstractmethods__


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What R@k means\n[a](#what-rk-means) [b](#other) [c](no.md) [d](https://example.org)\n```\n[e](f.md)\n# not a heading\n```\n"
    )
    assert dead_links(page) == ["#other", "no.md"]
    page.write_text(
        "`distill/losses.py` distill/lost.py `lost.py` `metrics.py` `PATH.py:NAME`\n```python\n# mine.py\n```\nmine.py\n"
        "`mta4dpr.distill.losses` `mta4dpr.distill.lost` `mta4dpr.run` `mta4dpr.walk` `STRATEGIES` `STRATEGEMS`\n"
    )
    assert absent_files(page) == ["distill/lost.py", "lost.py"]
    assert absent_names(page) == ["STRATEGEMS", "mta4dpr.distill.lost", "mta4dpr.walk"]
    page.write_text("- `distill/trainer.py`: `Trainer.restore()`, `Batch.lost()`, `Lost.restore()`\n  `set_dropout()`\n- `set_dropout()`\n")
    assert absent_functions(page) == ["Batch.lost", "Lost.restore", "set_dropout"]
    assert refused("run quickstart --seed 1") == ""
    assert all(map(refused, ("walk quickstart", "run quickstart --sede 1", "run quickstart --seed one", "search quickstart")))


def test_readme_begins_with_the_two_commands() -> None:
    first = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    assert first.splitlines()[1:-1] == ["pip install uv && uv run mta4dpr-bench run quickstart", "uv run pytest"]
