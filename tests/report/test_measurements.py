"""Which runs the paper's tables read, and what comes of several seeds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.report.measurements import measurements


def a_run(folder: Path, seed: int, values: dict[str, float], *, name: str = "x", limit: int | None = None, **settings: Any) -> Path:
    """What `run` leaves of the systems in `values` (their RR@10), as far as the paper's tables are concerned."""
    folder.mkdir(parents=True)
    strategies = {system: None if system == "bm25" else system for system in values}
    manifest = {
        "benchmark": name,
        "passages": 50,
        "settings": {"seed": seed, "limit": limit, "distill": {"steps": 9}, **settings},
        "systems": {system: {"strategy": strategy} for system, strategy in strategies.items()},
    }
    row = {"eval_set": f"{name}/test", "measure": "RR@10", "queries": 6}
    board = {
        "benchmark": name,
        "seed": seed,
        "eval_sets": [{"id": f"{name}/test", "primary": "RR@10", "measures": ["RR@10"], "queries": 6, "titled": False}],
        "systems": [{"system": system, "kind": "student"} for system in values],
        "rows": [{**row, "system": system, "value": value} for system, value in values.items()],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "leaderboard.json").write_text(json.dumps(board))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("runs")


def test_several_seeds_are_a_mean_and_a_deviation_and_one_seed_is_neither(tmp_path: Path) -> None:
    """By hand: 0.5, 0.6 and 0.7 have a deviation of 0.1; bm25 ran once, kd_ta with one seed; no seed changes bm25."""
    for seed, kd in enumerate((0.5, 0.6, 0.7)):
        a_run(tmp_path / f"seed-{seed}", seed, {"kd": kd, "bm25": 0.3, **({"kd_ta": 0.4} if seed == 1 else {})})
    found = {m.system: m for m in measurements([tmp_path], ["x"], [])}
    kd, bm25, kd_ta = found["kd"], found["bm25"], found["kd_ta"]
    assert (kd.value, kd.std, kd.seeds) == (pytest.approx(0.6), pytest.approx(0.1), (0, 1, 2))
    assert (bm25.value, bm25.std) == (pytest.approx(0.3), None)
    assert (kd_ta.value, kd_ta.std, kd_ta.seeds) == (0.4, None, (1,))
    assert (kd.queries, kd.passages, kd.titled, kd.benchmark, kd.eval_set) == (6, 50, False, "x", "x/test")


def test_own_runs_come_before_the_reference_ones_of_the_same_benchmark(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And every folder is named, with what became of it."""
    caplog.set_level(logging.INFO)
    a_run(here / "mine", 0, {"kd": 0.9})
    a_run(here / "reference" / "x" / "seed-0", 0, {"kd": 0.1})
    a_run(here / "reference" / "y" / "seed-0", 0, {"kd": 0.2}, name="y")
    a_run(here / "other", 0, {"kd": 0.3}, name="z")
    a_run(here / "short", 0, {"kd": 0.4}, limit=2)
    assert {m.benchmark: m.value for m in measurements([], ["x", "y"], [])} == {"x": 0.9, "y": 0.2}
    assert caplog.messages == [
        "runs/mine: read (x, seed 0)",
        "runs/other: left out, no table shows the benchmark z",
        "runs/short: left out, it has the first 2 queries only (--limit), which is not comparable",
        "runs/reference/x/seed-0: left out, runs of x outside runs/reference come first",
        "runs/reference/y/seed-0: read (y, seed 0)",
    ]
    assert [m.value for m in measurements([here / "reference" / "x"], ["x"], [])] == [0.1]


def test_a_benchmark_counts_by_its_eval_set_too(here: Path) -> None:
    """MS MARCO may be run by somebody's own YAML."""
    a_run(here / "mine", 0, {"kd": 0.9}, name="x")
    assert len(measurements([], [], ["x/test"])) == 1


def test_without_runs_nothing_is_measured(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert measurements([], ["x"], []) == []
    assert "no run to show" in caplog.text


def test_a_leaderboard_over_seeds_is_passed_over_and_links_are_followed(here: Path, tmp_path: Path) -> None:
    """`report A B --output DIR` leaves a leaderboard without a manifest; and runs/ may hold links to a larger disk."""
    a_run(tmp_path / "disk" / "seed-0", 0, {"kd": 0.5})
    here.mkdir()
    (here / "mine").symlink_to(tmp_path / "disk")
    joined = a_run(here / "joined", 0, {"kd": 0.9})
    (joined / "manifest.json").unlink()
    assert [m.value for m in measurements([], ["x"], [])] == [0.5]
    with pytest.raises(UserError, match=r"no manifest\.json in"):
        measurements([joined], ["x"], [])


def test_a_folder_named_twice_is_read_once(tmp_path: Path) -> None:
    run = a_run(tmp_path / "seed-0", 0, {"kd": 0.5})
    assert [m.value for m in measurements([tmp_path, run], ["x"], [])] == [0.5]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [({}, {}, ["both have kd on x/test with seed 0", "--runs"]), ({}, {"seed": 1, "distill": {"steps": 10}}, ["distill.steps differs"])],
)
def test_runs_that_cannot_be_averaged_are_refused(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], words: list[str]) -> None:
    a_run(tmp_path / "a", **{"seed": 0, "values": {"kd": 0.5}, **first})
    a_run(tmp_path / "b", **{"seed": 0, "values": {"kd": 0.5}, **second})
    with pytest.raises(UserError) as caught:
        measurements([tmp_path], ["x"], [])
    assert all(word in str(caught.value) for word in words)


def test_the_same_seed_may_have_its_systems_in_two_folders(tmp_path: Path) -> None:
    a_run(tmp_path / "a", 0, {"kd": 0.5})
    a_run(tmp_path / "b", 0, {"bm25": 0.3})
    assert sorted(m.system for m in measurements([tmp_path], ["x"], [])) == ["bm25", "kd"]


def test_a_named_run_that_cannot_be_shown_is_an_error(tmp_path: Path) -> None:
    """What a user asks for by name must not be left out in silence."""
    short = a_run(tmp_path / "short", 0, {"kd": 0.5}, limit=2)
    with pytest.raises(UserError, match=r"short cannot be shown: it has the first 2 queries only \(--limit\)"):
        measurements([short], ["x"], [])
    other = a_run(tmp_path / "other", 0, {"kd": 0.5}, name="z")
    with pytest.raises(UserError, match="no table shows the benchmark z"):
        measurements([other], ["x"], [])


def test_folders_without_a_finished_run_are_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", 0, {"kd": 0.5})
    (run / "leaderboard.json").rename(run / "elsewhere.json")
    with pytest.raises(UserError, match=r"no leaderboard\.json in"):
        measurements([run], ["x"], [])
    with pytest.raises(UserError, match="expected finished runs in"):
        measurements([tmp_path], ["x"], [])
    with pytest.raises(UserError, match="found no folder"):
        measurements([tmp_path / "nowhere"], ["x"], [])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("manifest.json", None, "no manifest.json in"),
        ("manifest.json", "{", "expected JSON in"),
        ("manifest.json", "{}", "garbles 'benchmark'"),
        ("manifest.json", "[]", "it lacks or garbles"),
        ("leaderboard.json", "{", "expected JSON in"),
        ("leaderboard.json", "{}", "expected a leaderboard in"),
    ],
)
def test_a_run_with_a_broken_file_is_one_error(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    run = a_run(tmp_path / "run", 0, {"kd": 0.5})
    (run / name).unlink() if text is None else (run / name).write_text(text)
    with pytest.raises(UserError) as caught:
        measurements([run], ["x"], [])
    assert words in str(caught.value)
    assert str(run) in str(caught.value)
