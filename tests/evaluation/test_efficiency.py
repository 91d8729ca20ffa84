"""Timing of callables and peak memory."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from mta4dpr.evaluation.efficiency import peak_memory_bytes, time_calls


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
