"""leaderboard.json as data: files of other versions, files that cannot be meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mta4dpr import report
from mta4dpr.errors import UserError

from .sample import Write, cells


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
    for broken in ("", "{", "[" * 100_000):
        (tmp_path / "leaderboard.json").write_text(broken)
        with pytest.raises(UserError, match=r"expected JSON in .* to rewrite it"):
            report.load(tmp_path)
    for key, value in (("limit", "x"), ("seed", [1]), ("limit", True)):
        with pytest.raises(UserError, match=f"lacks or garbles {key}, which is"):
            report.load(write({**document, key: value}))


def test_import_is_light() -> None:
    code = "import sys, mta4dpr.report; print(sorted({'matplotlib', 'jinja2', 'numpy', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
