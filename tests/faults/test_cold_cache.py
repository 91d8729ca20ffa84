"""Two runs that begin at once on one cold cache, killed in turn: both end with the bytes of one alone."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PATIENCE, everything, make_bench, run_whole, said, start

pytestmark = pytest.mark.faults


def test_two_runs_on_one_cold_cache_killed_in_turn(tmp_path: Path, is_all: bool, tell: Callable[[str], None]) -> None:
    bench = make_bench(tmp_path, students=("mta4dpr",), steps=8, checkpoint_every=2)
    began = time.monotonic()
    expected = everything(run_whole(tmp_path / "whole", bench))
    lasted = time.monotonic() - began
    root, draw = tmp_path / "both", random.Random(7)
    root.mkdir()
    runs = {name: start(root, "run", str(bench), "--output", str(root / name)) for name in ("a", "b")}
    killed, kills = 0, 20 if is_all else 4
    for number in range(kills):
        name = "ab"[number % 2]
        time.sleep(draw.uniform(0.05, 0.6) * lasted / 2)
        if runs[name].poll() is None:
            runs[name].send_signal(signal.SIGKILL)
            killed += 1
        assert runs[name].wait() in (0, -signal.SIGKILL), said(root)
        runs[name] = start(root, "run", str(bench), "--output", str(root / name))
    for process in runs.values():
        assert process.wait(timeout=PATIENCE) == 0, said(root)
    tell(f"{killed} of {kills} kills fell into a run that was at work")
    assert killed >= kills // 2
    for name in ("a", "b"):
        run_whole(root, bench, into=name)
        found = everything(root / name)
        assert {one for one in expected if expected[one] != found.get(one)} == set()
    assert not list((root / "cache").rglob("*.pieces"))
