"""Timing of callables and peak memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from mta4dpr.evaluation.efficiency import energy_used, peak_memory_bytes, time_calls


def test_warmup_is_called_and_not_timed() -> None:
    """The first calls are slow here, as they are with lazy loading; with fewer inputs than warm-up calls they start again."""
    calls: list[int] = []

    def call(value: int) -> None:
        calls.append(value)
        if len(calls) <= 3:
            time.sleep(0.03)

    timing = time_calls(call, [1, 2], warmup=3)
    assert calls == [1, 2, 1, 1, 2]
    assert timing.calls == 2
    assert timing.p99_ms < 25


def test_percentiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of 1, 2, ..., 101 ms on a clock of our own: the percentiles can be counted off."""
    clock = 0

    def call(milliseconds: int) -> None:
        nonlocal clock
        clock += milliseconds * 1_000_000

    monkeypatch.setattr(time, "perf_counter_ns", lambda: clock)
    timing = time_calls(call, range(1, 102), warmup=5)
    assert (timing.p50_ms, timing.p95_ms, timing.p99_ms) == (51, 96, 100)
    assert timing.seconds == pytest.approx(5.151)


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
