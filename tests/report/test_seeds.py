"""Runs with different seeds as one leaderboard: per-query values are averaged first, students alone vary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.errors import UserError
from mta4dpr.evaluation.per_query import read_per_query
from mta4dpr.experiment.folder import Folder
from mta4dpr.report.leaderboard import load
from mta4dpr.report.seeds import join

QUERIES = [f"q{n}" for n in range(6)]
STUDENT = {"kind": "student", "strategy": "kd", "regime": "rounds", "steps": 9, "differs": {}, "parameters": 1, "dimensions": 2}
BM25 = {"kind": "lexical", "strategy": None, "regime": None, "steps": None, "differs": None, "parameters": None, "dimensions": None}


def a_run(folder: Path, seed: int, values: dict[str, list[float]], **settings: Any) -> Path:
    """What `run` leaves of the systems in `values` (query values of RR@10), as far as seeds are concerned."""
    (folder / "per_query" / "x-test").mkdir(parents=True)
    for system, column in values.items():
        lines = ["query_id,RR@10", *(f"{q},{v!r}" for q, v in zip(QUERIES, column, strict=True))]
        (folder / "per_query" / "x-test" / f"{system}.csv").write_text("\n".join(lines) + "\n")
    manifest = {
        "benchmark": "x",
        "title": "X",
        "notes": [],
        "contrasts": [],
        "settings": {"seed": seed, "limit": None, "distill": {"steps": 9}, **settings},
        "eval_sets": {"x/test": {"measures": ["RR@10"], "primary": "RR@10", "expected": []}},
        "systems": {system: BM25 if system == "bm25" else STUDENT for system in values},
    }
    rows = [{"eval_set": "x/test", "system": s, "measure": "RR@10", "missing_queries": int(s == "bm25")} for s in values]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "leaderboard.json").write_text(json.dumps({"rows": rows, "eval_sets": [{"id": "x/test", "titled": False}]}))
    return folder


def test_per_query_values_are_averaged_over_seeds_before_anything_else(tmp_path: Path) -> None:
    """By hand: kd has 0.5 and 0.7 on average, so 0.6 with a deviation of 0.1414; bm25 was run once and has none."""
    first = a_run(tmp_path / "a", 0, {"bm25": [1, 0, 0, 0, 0, 0.5], "kd": [1, 1, 1, 0, 0, 0], "mta4dpr": [1, 1, 1, 1, 0, 0.5]})
    second = a_run(tmp_path / "b", 1, {"kd": [1, 1, 1, 1, 0.2, 0]})
    board = load(join([first, second], tmp_path / "both"))
    kd, bm25, other = (board.row(system, "x/test", "RR@10") for system in ("kd", "bm25", "mta4dpr"))
    assert kd is not None
    assert bm25 is not None
    assert other is not None
    assert (kd.value, kd.seeds) == (pytest.approx(0.6), 2)
    assert kd.std == pytest.approx(0.2 / 2**0.5)
    assert (bm25.value, bm25.seeds, bm25.std, bm25.missing_queries) == (0.25, None, None, 1)
    assert (other.seeds, other.std) == (1, None)
    assert board.seeds == (0, 1)
    [contrast] = [c for c in board.comparisons if (c.a, c.b) == ("mta4dpr", "kd")]
    assert contrast.difference == pytest.approx((4.5 - 3.6) / 6)
    assert (contrast.wins, contrast.ties, contrast.losses) == (2, 3, 1)  # q3 and q5 against q4, on the means over seeds
    page = (tmp_path / "both" / "leaderboard.html").read_text()
    assert "mean over the seeds 0, 1" in page and 'id="comparison"' in page
    _, values = read_per_query(Folder(tmp_path / "both").per_query("kd", "x/test"))
    assert values["RR@10"].tolist() == [1, 1, 1, 0.5, 0.1, 0]
    table = (tmp_path / "both" / "leaderboard.md").read_text()
    assert "0.6000 ± 0.1414" in table
    assert "seeds 0, 1" in table


def test_costs_and_texts_are_those_of_the_first_run_that_has_them(tmp_path: Path) -> None:
    """Times of different runs are not averaged, and found passages are one seed's: the page says whose."""
    first, second = a_run(tmp_path / "a", 3, {"bm25": [0] * 6, "kd": [1] * 6}), a_run(tmp_path / "b", 4, {"kd": [0] * 6})
    (first / "efficiency.json").write_text('{"systems": {"bm25": {"index_bytes": 7}}, "threads": 2}')
    (second / "efficiency.json").write_text('{"systems": {"kd": {"index_bytes": 9}, "bm25": {"index_bytes": 8}}, "threads": 4}')
    (second / "texts.json").write_text('{"queries": {"x/test": {"q0": "what is it?"}}, "hits": {}, "passages": {}}')
    output = join([first, second], tmp_path / "both")
    efficiency = json.loads((output / "efficiency.json").read_text())
    assert efficiency["systems"] == {"kd": {"index_bytes": 9}, "bm25": {"index_bytes": 7}}
    assert efficiency["threads"] == 2
    page = (output / "leaderboard.html").read_text()
    for said in ("what is it?", "the run with seed 4 found them", "seed 3 before others"):
        assert said in page


def test_a_seed_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Averaging a run with itself would halve its deviation."""
    runs = [a_run(tmp_path / name, 3, {"kd": [0] * 6}) for name in "ab"]
    with pytest.raises(UserError, match="different seeds"):
        join(runs, tmp_path / "both")


def test_the_folder_of_a_run_is_not_overwritten(tmp_path: Path) -> None:
    """`report a b --output a` would put means in the place of what run a has measured."""
    runs = [a_run(tmp_path / "a", 0, {"kd": [0] * 6}), a_run(tmp_path / "b", 1, {"kd": [1] * 6})]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="folder of a run, whose own leaderboard"):
        join(runs, tmp_path / "a")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    """A mean over runs of 9 and of 10 steps is a mean of nothing."""
    runs = [a_run(tmp_path / "a", 0, {"kd": [0] * 6}), a_run(tmp_path / "b", 1, {"kd": [0] * 6}, distill={"steps": 10})]
    with pytest.raises(UserError, match=r"distill\.steps"):
        join(runs, tmp_path / "both")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """The error names the file that is lacking and where."""
    with pytest.raises(UserError, match=r"no manifest\.json in"):
        join([tmp_path, tmp_path / "b"], tmp_path / "both")


def test_runs_over_different_queries_are_refused(tmp_path: Path) -> None:
    """Per-query means need the same queries, in the same order."""
    runs = [a_run(tmp_path / "a", 0, {"kd": [0] * 6}), a_run(tmp_path / "b", 1, {"kd": [0] * 6})]
    path = runs[1] / "per_query" / "x-test" / "kd.csv"
    path.write_text(path.read_text().replace("q5", "q9"))
    with pytest.raises(UserError, match="different queries"):
        join(runs, tmp_path / "both")
