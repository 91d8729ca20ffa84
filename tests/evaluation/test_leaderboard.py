"""leaderboard.json from per-query values: what is compared, what is called significant, and what a reader is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mta4dpr.evaluation.leaderboard import leaderboard, planned_contrasts, significant_over
from mta4dpr.evaluation.measures import Evaluation
from mta4dpr.evaluation.significance import Comparison, intervals

QUERIES = [f"q{n}" for n in range(40)]


def evaluation(*columns: np.ndarray, missing: int = 0) -> Evaluation:
    return Evaluation(QUERIES, dict(zip(("RR@10", "R@100"), columns, strict=True)), missing, 0, 0)


def system(kind: str, **more: Any) -> dict[str, Any]:
    facts = {"kind": kind, "parameters": 1, "dimensions": 2, "regime": None, "steps": None, "strategy": None, "differs": None}
    return {**facts, **more}


@pytest.fixture
def manifest() -> dict[str, Any]:
    expected = {"system": "bm25", "measure": "RR@10", "value": 0.5, "tolerance": 0.01, "source": "a paper"}
    return {
        "benchmark": "mini",
        "title": "Mini",
        "notes": [],
        "settings": {"seed": 1, "limit": None},
        "contrasts": [],
        "eval_sets": {"mini/test": {"measures": ["RR@10", "R@100"], "primary": "RR@10", "expected": [expected]}},
        "systems": {
            "kd": system("student", strategy="kd"),
            "init": system("student"),
            "big": system("teacher"),
            "bm25": system("lexical"),
            "absent": system("encoder"),
        },
    }


@pytest.fixture
def found() -> dict[str, dict[str, Evaluation]]:
    half = np.tile([0.4, 0.6], 20)
    values = {"big": half + 0.3, "init": half - 0.3, "kd": half + 0.1, "bm25": half}
    return {"mini/test": {name: evaluation(column, np.minimum(1, 2 * column)) for name, column in values.items()}}


def board(manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]]) -> dict[str, Any]:
    return leaderboard(manifest, found, titled=dict.fromkeys(found, False), teacher="big")


def comparison(a: str, b: str, difference: float, p_holm: float) -> Comparison:
    return Comparison(a, b, difference, (0.0, 0.0), p_holm / 2, p_holm, p_holm, 0.0, None, 0, 0, 0, "planned")


def test_a_row_a_system_and_measure(manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]]) -> None:
    """Means by hand; the interval is the one of significance.py, whatever else is on the board."""
    rows = {(row["system"], row["measure"]): row for row in board(manifest, found)["rows"]}
    assert len(rows) == 8
    assert rows["kd", "RR@10"]["value"] == pytest.approx(0.6)
    assert rows["big", "R@100"]["value"] == 1.0
    alone = intervals(found["mini/test"]["kd"].values["RR@10"], seed=1)
    assert rows["kd", "RR@10"]["ci95"] == alone[0].tolist()


def test_systems_stand_by_kind_and_only_those_with_rows(manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]]) -> None:
    systems = board(manifest, found)["systems"]
    assert [about["system"] for about in systems] == ["bm25", "big", "kd", "init"]
    shares = {about["system"]: about["share_of_teacher"] for about in systems}
    assert shares["big"] == 1.0
    assert shares["kd"] == pytest.approx(0.6 / 0.8)


def test_without_a_teacher_there_is_no_share(manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]]) -> None:
    del found["mini/test"]["big"]
    assert {about["share_of_teacher"] for about in board(manifest, found)["systems"]} == {None}


@pytest.mark.parametrize(("value", "limit", "verdicts"), [(0.51, None, ["reproduced"]), (0.52, None, ["off"]), (0.51, 10, [])])
def test_a_published_value_is_judged_on_full_runs(
    manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]], value: float, limit: int | None, verdicts: list[str]
) -> None:
    """The edge of the tolerance is inside; the first queries of a set are another set."""
    manifest["eval_sets"]["mini/test"]["expected"][0]["value"] = value
    manifest["settings"]["limit"] = limit
    assert [entry["verdict"] for entry in board(manifest, found)["expected"]] == verdicts


def test_contrasts_without_a_plan_are_against_the_baselines() -> None:
    """kd against kd_ta counts once; Holm's correction would suffer from a pair that is there both ways."""
    assert planned_contrasts([], ["bm25", "kd", "kd_ta", "mta4dpr"]) == [
        ("bm25", "kd"),
        ("kd_ta", "kd"),
        ("mta4dpr", "kd"),
        ("bm25", "kd_ta"),
        ("mta4dpr", "kd_ta"),
    ]
    assert planned_contrasts([], ["bm25", "big"]) == [("big", "bm25")]
    assert planned_contrasts([], ["bm25"]) == []


def test_a_plan_is_kept_as_far_as_its_systems_were_run() -> None:
    plan = [("mta4dpr", "kd"), ("mta4dpr", "margin_mse")]
    assert planned_contrasts(plan, ["kd", "mta4dpr", "bm25"]) == [("mta4dpr", "kd")]


def test_significance_needs_the_corrected_p_and_goes_the_way_of_the_difference() -> None:
    compared = [
        comparison("new", "old", 0.1, 0.01),
        comparison("new", "other", 0.1, 0.05),  # not below the level
        comparison("third", "new", -0.1, 0.01),
        comparison("fourth", "new", 0.1, 0.01),
    ]
    assert significant_over("new", compared) == ["old", "third"]
    assert significant_over("fourth", compared) == ["new"]
    assert significant_over("old", compared) == []


@pytest.mark.parametrize(
    ("about", "note"),
    [
        (system("student"), "before training"),
        (system("student", strategy="kd"), None),
        (system("student", strategy="kd", differs={"teacher": "minilm", "assistants": ["a", "b"]}), "teacher minilm; assistants a, b"),
        (
            system(
                "encoder", index={"index": "hnsw", "recall_depth": 1000, "recall": 0.9826, "recall_queries": 100, "reproducible": False}
            ),
            "HNSW: recall@1000 against exact search 0.983 (100 queries); not bit-reproducible",
        ),
    ],
)
def test_what_a_reader_must_know_of_a_row(
    manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]], about: dict[str, Any], note: str | None
) -> None:
    manifest["systems"]["kd"] = about
    assert next(entry["note"] for entry in board(manifest, found)["systems"] if entry["system"] == "kd") == note


def test_the_seed_decides_the_intervals(manifest: dict[str, Any], found: dict[str, dict[str, Evaluation]]) -> None:
    draw = np.random.default_rng(0)
    found["mini/test"]["kd"] = evaluation(draw.random(40), draw.random(40), missing=2)
    first = board(manifest, found)
    assert board(manifest, found) == first
    manifest["settings"]["seed"] = 2
    assert board(manifest, found)["rows"] != first["rows"]
    assert [row["missing_queries"] for row in first["rows"] if row["system"] == "kd"] == [2, 2]
