"""An experiment over three passages, whose stages a test may replace by stages of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta4dpr.engines.registry import ENGINES
from mta4dpr.experiment.description import command_note, describe
from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request

from .given import Given

PASSAGES = [("d1", "Foxes", "the red fox runs"), ("d2", "", "a blue whale sings"), ("d3", "", "the dog sleeps")]
QUERIES = {"q1": "red fox", "q2": "whale song", "q3": "unjudged"}
QRELS = [("q1", "d1", 1), ("q2", "d2", 1)]


@pytest.fixture
def opened(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """Opens it over `tmp_path / "run"`: BM25 on the split test of a folder, with a cache of its own."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    source = beir_folder(tmp_path / "mini", PASSAGES, QUERIES, {"test": QRELS})

    def open_it(**asked: Any) -> Experiment:
        return open_experiment(Request(str(source), output=tmp_path / "run", **asked))

    return open_it


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> type[Given]:
    """The engine `given`, a system by its own name; fresh for each test."""
    monkeypatch.setitem(ENGINES, "given", Given)
    for name, value in {"hits": {"red fox": [(0, 2.0), (2, 1.0)], "whale song": [(1, 3.0)]}, "asked": [], "found": {}}.items():
        monkeypatch.setattr(Given, name, value)
    monkeypatch.setattr(Given, "index", False)
    monkeypatch.setattr(Given, "together", False)
    return Given


@pytest.fixture
def begun(opened: Callable[..., Experiment], given: type[Given]) -> Callable[..., Experiment]:
    """An experiment of the system `given`, in whose folder a command has begun."""

    def begin(**asked: Any) -> Experiment:
        experiment = opened(systems=asked.pop("systems", ("given",)), **asked)
        experiment.manifest.begin(describe(experiment))
        experiment.manifest.document["runs"].append(command_note(experiment))
        return experiment

    return begin


@pytest.fixture
def with_students(beir_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """Opens an experiment with students over a dozen training queries, whose networks have a single layer."""
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path / "cache"))
    queries = QUERIES | {f"t{n}": f"{text} {n}" for n, (*_, text) in enumerate(PASSAGES * 4)}
    judged = {"test": QRELS, "train": [("q1", "d1", 1), *((f"t{n}", f"d{1 + n % 3}", 1) for n in range(12))]}
    beir_folder(tmp_path / "mini", PASSAGES, queries, judged)
    sizes = {"layers": 1, "hidden": 16, "heads": 2, "vocabulary": 50}
    document = {
        "name": "mine",
        "title": "Mine",
        "corpus": "./mini",
        "train": "mini/train",
        "systems": ["bm25", "kd"],
        "eval_sets": [{"id": "mini/test", "measures": ["RR@10"]}],
        "models": {role: {"untrained": {**sizes, "seed": n}} for n, role in enumerate(("teacher", "assistant", "student"))},
        "teacher": "teacher",
        "assistants": ["bm25", "assistant"],
        "student": "student",
        "distill": {"rounds": 2, "steps": 12, "batch_queries": 8, "group": 2, "depth": 2},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))

    def open_it(*systems: str, **asked: Any) -> Experiment:
        return open_experiment(Request(str(tmp_path / "mine.yaml"), systems=systems, output=tmp_path / "run", **asked))

    return open_it
