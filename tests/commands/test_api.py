"""What `import mta4dpr` offers: the commands as functions, and the results of a run as documents."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mta4dpr
from mta4dpr.commands import api
from mta4dpr.experiment.request import Request

PASSAGES = [("d1", "", "the red fox runs"), ("d2", "", "a blue whale sings")]


@pytest.fixture
def mini(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    return beir_folder(tmp_path / "mini", PASSAGES, {"q1": "red fox", "q2": "fox"}, {"test": [("q1", "d1", 1), ("q2", "d2", 1)]})


def test_a_run_and_what_it_left(mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The board is what --json prints; paths are those of the folder; nothing is printed."""
    board = mta4dpr.run(mini, settings={"k1": 1.2, "depth": 5}, output=tmp_path / "run")
    assert (board["folder"], board["benchmark"]) == (str(tmp_path / "run"), "mini")
    results = mta4dpr.open(tmp_path / "run")
    assert results.board == board
    assert list(results.systems) == ["bm25"]
    assert (results.manifest["settings"]["bm25"]["k1"], results.manifest["settings"]["depth"]) == (1.2, 5)
    assert results.efficiency["systems"]["bm25"]["index_bytes"] > 0
    assert results.run_file("bm25", "mini/test").read_text().startswith("q1 Q0 d1 1 ")
    assert results.per_query("bm25", "mini/test")["RR@10"] == {"q1": 1.0, "q2": 0.0}
    assert results.model("kd") == tmp_path / "run" / "models" / "kd"
    scored = mta4dpr.evaluate(results.run_file("bm25", "mini/test"), dataset=f"{mini}/test", measures="RR@10")
    assert scored["rows"][0]["value"] == 0.5
    assert mta4dpr.search(mini, "whale", hits=1)["hits"][0]["id"] == "d2"
    assert capsys.readouterr().out == ""


def test_settings_are_read_as_they_were_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's True and None are YAML's; a text stays as it is; a path may be a Path."""
    asked: list[Request] = []

    def note(request: Request) -> Path:
        asked.append(request)
        raise mta4dpr.UserError("enough")

    monkeypatch.setattr("mta4dpr.commands.run.run", note)
    settings = {"lr": 1e-4, "replace": False, "tau_teacher": "entropy:0.5", "fused": [["a", "b"]], "dense.deterministic": None}
    with pytest.raises(mta4dpr.UserError, match="enough"):
        mta4dpr.run(Path("mine.yaml"), systems=iter(["kd"]), settings=settings, output="out", redo="train", limit=3, seed=5)
    (request,) = asked
    assert request == Request(
        "mine.yaml",
        systems=("kd",),
        settings=("lr=0.0001", "replace=false", "tau_teacher=entropy:0.5", 'fused=[["a", "b"]]', "dense.deterministic=null"),
        output=Path("out"),
        redo="train",
        limit=3,
        seed=5,
    )


def test_a_folder_without_a_leaderboard_is_told(tmp_path: Path) -> None:
    with pytest.raises(mta4dpr.UserError, match=r"no leaderboard\.json in .*finish the run first"):
        mta4dpr.open(tmp_path)


def test_all_that_is_offered_is_there_and_nothing_heavy_is_imported_for_it() -> None:
    """`import mta4dpr` in a notebook takes no seconds; torch comes with the first thing that needs it."""
    assert all(getattr(mta4dpr, name) is not None for name in mta4dpr.__all__)
    assert set(mta4dpr.__all__) <= set(dir(mta4dpr))
    assert mta4dpr.run is api.run
    with pytest.raises(AttributeError, match="nonsense"):
        _ = mta4dpr.nonsense
    code = "import sys, mta4dpr; mta4dpr.run, mta4dpr.UserError; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
