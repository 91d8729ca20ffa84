"""An open experiment in one of several processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.config import plugins
from mta4dpr.data.collection import load_query_set
from mta4dpr.engines.engine import SearchScorer
from mta4dpr.experiment import experiment
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request
from mta4dpr.machine.files import key_of


def test_processes_of_a_launch_read_the_source_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh machine ir_datasets would download one archive to one place from all of them. Threads stand for processes."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MTA4DPR_CACHE", str(tmp_path))
    inside, most, counting = [0], [0], threading.Lock()

    def load(*arguments: Any, **options: Any) -> Any:
        with counting:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.1)
        found = load_query_set(*arguments, **options)
        with counting:
            inside[0] -= 1
        return found

    monkeypatch.setattr(experiment, "load_query_set", load)
    runs = [open_experiment(Request("tiny")) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda run: (run.eval_sets, run.train_set, run.corpus.text_hash), runs))
    assert most == [1]
    assert found[0][0] == found[1][0] == found[2][0]


ENGINE = """
import mta4dpr

class Mine(mta4dpr.Engine):
    @property
    def identity(self):
        return dict(self.options)

    def search(self, queries, k):
        return iter({found})
"""


def test_a_student_is_told_by_the_engines_of_its_teacher_and_assistants(tmp_path: Path, tiny: Callable[..., Path]) -> None:
    """Another option or another line there gives other scores, so what was trained with the former ones is not this student."""
    found = []
    for results, least in (("[]", 1), ("[]", 2), ("[None]", 1), ("[]", 1)):
        plugins._modules.clear()
        (tmp_path / "mine.py").write_text(ENGINE.format(found=results))
        path = tiny(engines={"mine": {"use": "mine.py:Mine", "options": {"least": least}}}, assistants=["mine", "bm25"])
        opened = open_experiment(Request(str(path), systems=("mta4dpr",)))
        recipe = opened.systems[0].recipe
        assert recipe is not None
        scorer = SearchScorer(opened.engine_of_role("mine"), opened.train_set)
        found.append((key_of(opened.training_inputs(recipe)), scorer.key))
    first, *others, again = found
    assert first == again
    assert len({key for pair in (first, *others) for key in pair}) == 6


def test_a_student_that_is_not_trained_is_planned_over_the_model_it_starts_from(tiny: Callable[..., Path], tmp_path: Path) -> None:
    """Its index and its searches are most of what a run takes."""
    opened = open_experiment(Request(str(tiny()), systems=("kd",), output=tmp_path / "out"))
    engine = opened.planned_engine(opened.systems[0])
    assert engine.model_size == opened.engine_of_role("student").model_size
    opened.folder.model("kd").mkdir(parents=True)
    assert opened.planned_engine(opened.systems[0]) is opened.engine(opened.systems[0])
