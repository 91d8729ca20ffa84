"""SIGTERM, SIGHUP and Ctrl-C at any stage: one line, the status that shells expect, nothing half-written, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

PATIENCE = 300.0  # seconds after which a moment must have come
SYSTEMS = "bm25,teacher,kd"
MOMENTS = [  # (signal, what has to be there): in the order in which a run comes to them
    (signal.SIGHUP, "cache/corpora/**/.*.part"),  # a store that is being written
    (signal.SIGTERM, "cache/corpora/*/store.json"),
    (signal.SIGTERM, "cache/**/*.json"),  # Lucene, tokens, vectors
    (signal.SIGINT, "run/runs/*/bm25.trec"),
    (signal.SIGTERM, "run/training/kd/checkpoint/*"),
    (signal.SIGTERM, "run/models/kd/model.safetensors"),
    (signal.SIGHUP, "run/per_query/*/*.csv"),
]


def started(root: Path, *before: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "MTA4DPR_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    command = [*before, "-m", "mta4dpr", "run", "tiny", "--systems", SYSTEMS, "--output", str(root / "run")]
    with open(root / "stderr", "wb") as errors:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def wait_for(process: subprocess.Popen[bytes], root: Path, pattern: str) -> None:
    """Until something of that pattern is there, or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not any(root.glob(pattern)):
        assert time.monotonic() < deadline, pattern
        time.sleep(0.002)


def left(root: Path) -> list[str]:
    """What nobody is writing any more."""
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.name.endswith(".part") or path.name == ".lock.json"]


def results(root: Path) -> dict[str, bytes]:
    patterns = ("runs/*/*.trec", "per_query/*/*.csv", "models/*/model.safetensors", "leaderboard.json")
    return {path.name: path.read_bytes() for pattern in patterns for path in (root / "run").glob(pattern)}


def test_a_run_that_is_asked_to_stop_at_each_stage_goes_on(tmp_path: Path) -> None:
    """The last of the commands ends with the bytes of one that nobody stopped."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for root in (whole, stopped):
        root.mkdir()
    assert started(whole, sys.executable).wait(timeout=PATIENCE) == 0, (whole / "stderr").read_text()[-2000:]
    came = []
    for number, pattern in MOMENTS:
        process = started(stopped, sys.executable)
        wait_for(process, stopped, pattern)
        process.send_signal(number)
        status, told = process.wait(timeout=PATIENCE), (stopped / "stderr").read_text()
        if status == -number:  # before Python had come to our first line
            continue
        if status:
            assert status == 128 + number, told[-2000:]
            assert told.splitlines()[-1] == "interrupted; the same command continues"
            came.append(pattern)
        assert "Traceback" not in told
        assert left(stopped) == []
    assert len(came) >= 5, came
    assert started(stopped, sys.executable).wait(timeout=PATIENCE) == 0, (stopped / "stderr").read_text()[-2000:]
    assert results(stopped) == results(whole)


def test_processes_of_a_launch_stop_together(tmp_path: Path) -> None:
    """torchrun hands the signal on to each of them; none waits for another, and the run goes on with one."""
    process = started(tmp_path, sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    wait_for(process, tmp_path, "run/training/kd/checkpoint/*")
    process.terminate()
    began = time.monotonic()
    assert process.wait(timeout=PATIENCE) != 0
    told = (tmp_path / "stderr").read_text()
    assert time.monotonic() - began < 25, told[-2000:]  # torchrun would kill them after 30 seconds
    assert told.count("interrupted; the same command continues") == 2, told[-3000:]
    assert "a bug of ours" not in told
    assert left(tmp_path) == []
    assert started(tmp_path, sys.executable).wait(timeout=PATIENCE) == 0, (tmp_path / "stderr").read_text()[-2000:]


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}])
def test_a_launch_that_is_none_does_nothing_and_says_so(tmp_path: Path, variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "mta4dpr", "run", "tiny", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
