"""A run of five systems whose numbers a reader checks by eye; one name needs escaping in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .sample import ODD


def row(system: str, measure: str, value: float, **more: Any) -> dict[str, Any]:
    ci95 = [value - 0.05, value + 0.05]
    found = {"system": system, "eval_set": "mini/test", "measure": measure, "value": value, "queries": 300}
    return {**found, "missing_queries": 0, "ci95": ci95, "significant_over": [], **more}


def contrast(a: str, b: str, difference: float, p_holm: float, **more: Any) -> dict[str, Any]:
    found = {"eval_set": "mini/test", "measure": "RR@10", "a": a, "b": b, "difference": difference}
    tests = {"p": p_holm / 2, "p_holm": p_holm, "p_randomisation": p_holm, "detectable": 0.0271}
    counts = {"wins": 60, "ties": 200, "losses": 40, "effect_size": 0.1, "family": "planned"}
    return {**found, "ci95": [difference - 0.01, difference + 0.01], **tests, **counts, **more}


@pytest.fixture
def document(make_document: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_document()


@pytest.fixture
def tested(document: dict[str, Any]) -> dict[str, Any]:
    """Every row was tested against init by RR@10 and is better; mta4dpr alone was tested against bm25."""
    document["comparisons"] += [contrast(system, "init", 0.2, 0.01) for system in ("bm25", ODD, "kd")]
    document["comparisons"].append(contrast("mta4dpr", "bm25", 0.09, 0.01))
    for row in document["rows"]:
        if row["measure"] == "RR@10" and row["system"] in ("bm25", ODD):
            row["significant_over"] = ["init"]
    return document


@pytest.fixture(scope="session")
def make_document() -> Callable[[], dict[str, Any]]:
    return _document


def _document() -> dict[str, Any]:
    student = {"kind": "student", "parameters": 13_000_000, "dimensions": 384, "regime": "static", "steps": 300}
    return {
        "benchmark": "mini",
        "title": "mini: <script>alert(1)</script> & co",
        "notes": ["Tests are paired; 5 % level.", "# not a heading"],
        "seed": 42,
        "limit": None,
        "eval_sets": [{"id": "mini/test", "primary": "RR@10", "measures": ["RR@10", "R@100"], "queries": 300, "titled": False}],
        "systems": [
            {"system": "bm25", "kind": "lexical", "parameters": None, "dimensions": None, "share_of_teacher": 0.75},
            {"system": ODD, "kind": "teacher", "parameters": 22_713_216, "dimensions": 384, "share_of_teacher": 1.0},
            {"system": "init", **student, "share_of_teacher": 0.1, "note": "before training", "steps": None},
            {"system": "kd", **student, "share_of_teacher": 0.95},
            {"system": "mta4dpr", **student, "share_of_teacher": 0.975},
        ],
        "rows": [
            row("bm25", "RR@10", 0.3, missing_queries=3),
            row("bm25", "R@100", 0.6, missing_queries=3),
            row(ODD, "RR@10", 0.4),
            row(ODD, "R@100", 0.8),
            row("init", "RR@10", 0.04),
            row("init", "R@100", 0.1),
            row("kd", "RR@10", 0.38, significant_over=["init"]),
            row("kd", "R@100", 0.70004),
            row("mta4dpr", "RR@10", 0.1 + 0.29, significant_over=["bm25", "init"]),
            row("mta4dpr", "R@100", 0.69996),
        ],
        "comparisons": [
            contrast("mta4dpr", "init", 0.35, 0.0004),
            contrast("mta4dpr", "kd", 0.01, 0.21),
            contrast("kd", ODD, -0.02, 0.03),
            contrast("mta4dpr", "kd", 0.001, 0.9, measure="R@100"),
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def written(document: dict[str, Any]) -> Path:
        (tmp_path / "leaderboard.json").write_text(json.dumps(document), encoding="utf-8")
        return tmp_path

    return written


@pytest.fixture
def run(document: dict[str, Any], write: Callable[[dict[str, Any]], Path]) -> Path:
    return write(document)


@pytest.fixture
def trained(run: Path, add_training: Callable[[Path], Path]) -> Path:
    return add_training(run)


@pytest.fixture(scope="session")
def add_training() -> Callable[[Path], Path]:
    return _trained


def _trained(run: Path) -> Path:
    """The run with training/mta4dpr (2 rounds of 4 steps) and efficiency.json."""
    folder = run / "training" / "mta4dpr"
    folder.mkdir(parents=True)
    chosen = ["x+y", "x+y", "x+y", "$y$", "$y$", "x+y", "student-r0", "student-r0"]
    steps = [
        {"round": n // 4, "step": n + 1, "loss": 2.0 - n / 10, "ce": 3.0 - n / 10, "kl_teacher": 0.5, "assistant": label}
        for n, label in enumerate(chosen)
    ]
    rounds = [
        {"round": 0, "student": 0.31, "assistants": {"x": 0.4, "$y$": 0.2}, "replaced": "$y$", "by": "student-r0"},
        {"round": 1, "student": 0.35, "assistants": {"x": 0.4, "student-r0": 0.31}, "replaced": None, "by": None},
    ]
    more = {"queries": 92, "measure": "RR@10", "false_negatives": 12, "seconds": 75.2}
    (folder / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    (folder / "rounds.jsonl").write_text("".join(json.dumps({**line, **more}) + "\n" for line in rounds))
    cost = {"index_bytes": 2_150_400, "encode_passages_per_second": 81.25, "training_seconds": 312}
    efficiency = {
        "systems": {"mta4dpr": {**cost, "query_ms": {"p50": 4.1, "p95": 6.2, "p99": 9.9}}, "bm25": {}},
        "stages": [{"stage": "train", "seconds": 480, "share": 0.75}],
        "device": "cpu",
        "threads": 2,
    }
    (run / "efficiency.json").write_text(json.dumps(efficiency))
    return run
