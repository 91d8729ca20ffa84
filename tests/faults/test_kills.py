"""SIGKILL inside every kind of work: the same command again ends with the bytes of an uninterrupted run.

.ci/run kills once in each of a few kinds, with one student; `-m faults` three times in all of them, with a student of each kind of
strategy, and prints how many kills fell where.
"""

from __future__ import annotations

import random
import shutil
import signal
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PATIENCE, STUDENTS, everything, make_bench, run_whole, said, start

pytestmark = [pytest.mark.slow, pytest.mark.faults]

KILLER = (str(Path(__file__).parent / "killed.py"),)
WORK = {
    "read the corpus": "mta4dpr.engines.workplace:open_corpus",
    "tokenise": "mta4dpr.data.tokens:tokens_of_corpus",
    "index": "mta4dpr.engines.bm25:build_index",
    "encode": "mta4dpr.engines.dense:encode",
    "build HNSW": "mta4dpr.engines.dense:Dense._built",
    "search": "mta4dpr.stages.searching:_search",
    "mining": "mta4dpr.distill.mining:rankings",
    "scoring": "mta4dpr.engines.pairs:PairScores._score_pieces",
    "draw groups": "mta4dpr.distill.rounds:generate",
    "Compare": "mta4dpr.distill.rounds:compare",
    "latency": "mta4dpr.stages.latency:Session.measure",
    "evaluate": "mta4dpr.stages.evaluation:_evaluate",
    "report": "mta4dpr.stages.reporting:_report",
}
TRAINING = {f"train {student}": f"mta4dpr.distill.trainer:Trainer.train_round@train {student}," for student in STUDENTS}
FEW = ("mining", "scoring", "train mta4dpr", "Compare", "search", "report")
ATTEMPTS = 5  # a call may be shorter than those that were timed


def timed(root: Path, bench: Path, places: dict[str, str]) -> dict[str, float]:
    """A whole run into root/run; the median seconds of a call of each kind of work."""
    root.mkdir()
    arguments = (";".join(places.values()), "time", "run", str(bench), "--output", str(root / "run"))
    process = start(root, *arguments, through=KILLER, KILLED_TIMES=str(root / "times"))
    assert process.wait(timeout=2 * PATIENCE) == 0, said(root)
    lines = [line.split("\t") for line in (root / "times").read_text().splitlines()]
    calls = {work: [float(value) for name, value in lines if name == place] for work, place in places.items()}
    assert all(calls.values()), {work for work, values in calls.items() if not values}
    return {work: statistics.median(values) for work, values in calls.items()}


def test_killed_anywhere_the_same_command_ends_with_the_same_bytes(tmp_path: Path, is_all: bool, tell: Callable[[str], None]) -> None:
    students = STUDENTS if is_all else ("mta4dpr",)
    bench = make_bench(tmp_path, students=students, steps=16 if is_all else 8, checkpoint_every=2)
    places = {**WORK, **TRAINING} if is_all else {work: place for work, place in {**WORK, **TRAINING}.items() if work in FEW}
    seconds = timed(tmp_path / "whole", bench, places)
    root, draw, fell = tmp_path / "killed", random.Random(11), dict.fromkeys(places, 0)
    root.mkdir()
    for work, place in places.items():
        for number in range(3 if is_all else 1):
            delay = seconds[work] * (0.15 + 0.25 * number + 0.2 * draw.random())
            for _ in range(ATTEMPTS):
                process = start(root, place, f"{delay:.4f}", "run", str(bench), "--output", str(root / "run"), through=KILLER)
                status = process.wait(timeout=2 * PATIENCE)
                assert status in (0, -signal.SIGKILL), said(root)
                if status:
                    fell[work] += 1
                    break
                shutil.rmtree(root / "run")  # all is done: it begins anew
                shutil.rmtree(root / "cache")
                delay /= 2
    tell(f"{sum(fell.values())} kills: {', '.join(f'{count} in {work}' for work, count in fell.items())}")
    assert all(count == (3 if is_all else 1) for count in fell.values()), fell
    run_whole(root, bench)
    assert not list((root / "run").rglob(".lock.json"))
    expected, found = everything(tmp_path / "whole" / "run"), everything(root / "run")
    assert expected.keys() == found.keys()
    assert {name for name in expected if expected[name] != found[name]} == set()
    assert len([name for name in expected if name.startswith("models/")]) == len(students)
