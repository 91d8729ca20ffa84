"""An experiment over three passages, whose stages a test may replace by stages of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.experiment.experiment import Experiment, open_experiment
from mta4dpr.experiment.request import Request

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
