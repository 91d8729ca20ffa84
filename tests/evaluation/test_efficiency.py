"""Timing of callables and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from mta4dpr.evaluation.efficiency import (
    available_memory_bytes,
    energy_used,
    load_seen,
    peak_memory_bytes,
    time_calls,
    timing_of,
    turns,
    why_busy,
)
from mta4dpr.machine.environment import memory_bytes

CpuTimes = namedtuple("CpuTimes", ["user", "nice", "system", "steal"])


def test_warmup_is_called_and_not_timed() -> None:
    """The first calls are slow here, as they are with lazy loading; with fewer inputs than warm-up calls they start again."""
    calls: list[int] = []

    def call(value: int) -> None:
        calls.append(value)
        if len(calls) <= 3:
            time.sleep(0.03)

    nanoseconds = time_calls(call, [1, 2], warmup=3)
    assert calls == [1, 2, 1, 1, 2]
    assert nanoseconds.shape == (2,)
    assert nanoseconds.max() < 25e6


def test_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of 1, 2, ..., 101 ms on a clock of our own: the percentiles can be counted off."""
    clock = 0

    def call(milliseconds: int) -> None:
        nonlocal clock
        clock += milliseconds * 1_000_000

    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock)
    timing = timing_of(time_calls(call, range(1, 102), warmup=5)[None])
    assert (timing.p50, timing.p95, timing.p99, timing.calls) == (51, 96, 100, 101)


def test_disturbed_rounds_widen_the_range_and_leave_the_median() -> None:
    """Two of five rounds were ten times as slow: they are in the range, not in the percentiles."""
    rounds = np.array([[4, 5, 6], [40, 50, 60], [4, 4, 6], [5, 5, 5], [400, 500, 600]]) * 1_000_000
    timing = timing_of(rounds)
    assert (timing.p50, timing.calls) == (5.0, 9)
    assert timing.p99 <= 6
    assert (timing.low, timing.high) == (4.0, 500.0)
    assert timing.rounds == [5, 50, 4, 5, 500]


def test_turns_go_round_and_back() -> None:
    """Nobody always comes after the same one, or first."""
    assert list(turns(["a", "b", "c"], 3)) == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]


def test_load_tells_our_work_from_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: in 10 s we worked 5 s and all processes 18 s, on four cores; a hypervisor took 2 s."""
    now: Any = SimpleNamespace(wall=0.0, own=0.0, cpu=CpuTimes(100.0, 0.0, 50.0, 7.0))
    monkeypatch.setattr(time, "perf_counter", lambda: now.wall)
    monkeypatch.setattr(time, "process_time", lambda: now.own)
    monkeypatch.setattr(psutil, "cpu_times", lambda: now.cpu)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (2.0, 1.0, 1.0), raising=False)
    with load_seen() as seen:
        now.wall, now.own, now.cpu = 10.0, 5.0, CpuTimes(115.0, 0.0, 53.0, 9.0)
    assert seen == {"cores": 4, "own_cores": 0.5, "other_cores": 1.3, "stolen": 0.05, "load_average": [2.0, 2.0]}
    assert why_busy(seen, []) == ["other programs used 1.3 of 4 cores", "other machines on the same hardware took 5% of the time"]


def test_a_machine_is_busy_when_rounds_disagree() -> None:
    """Where no counter tells, the same queries do."""
    steady, unsteady = (timing_of(np.array([[5, 5], [slow, slow]]) * 1_000_000) for slow in (6, 10))
    assert why_busy({"cores": 2, "other_cores": 0.1}, [steady, steady, unsteady]) == []
    assert why_busy({}, [steady, unsteady, unsteady]) == ["the same queries took 2.0 times as long in the slowest round as in the fastest"]


def test_memory_that_is_left_is_less_than_there_is() -> None:
    assert 0 < available_memory_bytes() < memory_bytes()


def test_nothing_to_time() -> None:
    with pytest.raises(ValueError, match="at least one input"):
        time_calls(print, [], warmup=1)


def test_peak_memory_grows_with_what_is_touched() -> None:
    before = peak_memory_bytes()
    block = bytearray(b"x") * (before + 50_000_000)
    assert peak_memory_bytes() >= len(block)


def test_peak_memory_is_not_the_parents() -> None:
    """getrusage of a small child reports its big parent's peak on Linux."""
    block = bytearray(b"x") * 300_000_000
    command = "from mta4dpr.evaluation.efficiency import peak_memory_bytes as peak; print(peak())"
    child = int(subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout)
    assert 5_000_000 < child < len(block)


class Measure(Enum):
    """As much of tirex-tracker 0.2.24 as is used; its results are bytes, and null where the machine has no counter."""

    CPU_ENERGY_SYSTEM_JOULES = 8
    RAM_ENERGY_SYSTEM_JOULES = 24
    GPU_ENERGY_SYSTEM_JOULES = 33


def tracker(*values: bytes) -> Any:
    @contextmanager
    def tracking(measures: list[Measure]) -> Iterator[Any]:
        handle = SimpleNamespace(results={})
        yield handle
        handle.results.update({m: SimpleNamespace(value=value) for m, value in zip(measures, values, strict=False)})

    return SimpleNamespace(Measure=Measure, tracking=tracking)


def test_energy_is_what_has_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part without a counter is left out, never 0 joules: a table would show that as free."""
    monkeypatch.setitem(sys.modules, "tirex_tracker", tracker(b"12.5", b"null", b"n/a"))
    with energy_used() as used:
        assert used == {}
    assert used == {"cpu": 12.5}


@pytest.mark.parametrize("module", [None, tracker(b"null", b"null")])
def test_without_tracker_or_counters_nothing_is_known(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setitem(sys.modules, "tirex_tracker", module)
    with energy_used() as used:
        pass
    assert used == {}
