"""An open experiment in one of several processes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.data.collection import load_query_set
from mta4dpr.experiment import experiment
from mta4dpr.experiment.experiment import open_experiment
from mta4dpr.experiment.request import Request


def test_processes_of_a_launch_read_the_source_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a fresh machine ir_datasets would download one archive to one place from all of them. Threads stand for processes."""
    monkeypatch.setenv("WORLD_SIZE", "3")
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
