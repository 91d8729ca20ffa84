"""docs/your-own.md is run as it stands: every file that it shows is written, every command that it shows is run, in its order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "your-own.md"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str]]:
    """(language, text) of each block of code."""
    return re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def said(blocks: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the page wrote to standard output."""
    folder = tmp_path_factory.mktemp("your-own")
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    outputs = {}
    for language, text in blocks:
        first, _, rest = text.partition("\n")
        if first.startswith("# ") and language in ("python", "yaml"):
            (folder / first.removeprefix("# ")).write_text(rest, encoding="utf-8")
        for command in text.splitlines() if language == "sh" else ():
            done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
            outputs[command] = done.stdout
    return outputs


def test_the_page_shows_files_and_commands(blocks: list[tuple[str, str]]) -> None:
    """A page whose blocks were renamed would pass without running anything."""
    assert sum(language == "sh" for language, _ in blocks) == 5
    assert sum(text.startswith("# my_") for _, text in blocks) == 4


def test_an_idea_becomes_a_row_with_significance(said: dict[str, str]) -> None:
    board = json.loads(said["mta4dpr-bench run tiny --systems kd,mta4dpr,my_idea.py:mine --json"])
    assert {row["system"] for row in board["rows"]} == {"kd", "mta4dpr", "mine"}
    assert ("mine", "kd") in {(one["a"], one["b"]) for one in board["comparisons"]}


def test_the_yaml_has_all_kinds_of_ideas(said: dict[str, str]) -> None:
    for system in ("overlap", "idea", "nearer"):
        assert system in said["mta4dpr-bench run mine.yaml"]
    assert "My ideas on the docstrings" in said["MTA4DPR_BENCHMARKS=. mta4dpr-bench list benchmarks"]
    assert re.search(r"mine nDCG@10 0\.\d+", said["python my_analysis.py"])
