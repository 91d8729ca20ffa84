"""README and docs/: links lead somewhere, and commands are ones that the command line takes. Runs none of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from mta4dpr.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


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


def test_the_checks_find_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What R@k means\n[a](#what-rk-means) [b](#other) [c](no.md) [d](https://example.org)\n```\n[e](f.md)\n# not a heading\n```\n"
    )
    assert dead_links(page) == ["#other", "no.md"]
    assert refused("run quickstart --seed 1") == ""
    assert all(map(refused, ("walk quickstart", "run quickstart --sede 1", "run quickstart --seed one", "search quickstart")))


def test_readme_begins_with_the_two_commands() -> None:
    first = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0]
    assert first.splitlines()[1:-1] == ["pip install uv && uv run mta4dpr-bench run quickstart", "uv run pytest"]
