"""Times callables that it is given, and reads this process's peak memory and the machine's energy counters.

Knows nothing of models or indexes.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Latency of single calls in milliseconds (percentiles interpolate linearly), and how many calls were timed."""

    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    seconds: float


def time_calls[Input](call: Callable[[Input], Any], inputs: Sequence[Input], *, warmup: int) -> Timing:
    """Calls `call` on every input, one after the other, and times each call.

    Before that, `warmup` calls (on the first inputs, again from the start when there are fewer) go untimed: caches, JIT, lazy loading.
    ValueError without inputs: a latency of nothing would be made up.
    """
    if not inputs:
        raise ValueError("expected at least one input to time, found none")
    for i in range(warmup):
        call(inputs[i % len(inputs)])
    nanoseconds = np.empty(len(inputs), np.int64)
    for i, value in enumerate(inputs):
        start = time.perf_counter_ns()
        call(value)
        nanoseconds[i] = time.perf_counter_ns() - start
    p50, p95, p99 = np.percentile(nanoseconds, [50, 95, 99]) / 1e6
    return Timing(calls=len(inputs), p50_ms=float(p50), p95_ms=float(p95), p99_ms=float(p99), seconds=float(nanoseconds.sum() / 1e9))


@contextmanager
def energy_used() -> Iterator[dict[str, float]]:
    """Joules that the whole machine used inside the block, by what its counters cover: {"cpu": ..., "ram": ..., "gpu": ...}.

    The dict is filled when the block ends. It stays empty without the extra `energy` (tirex-tracker), and where the machine has no
    counters or lets nobody read them (Intel's and AMD's RAPL often need root).
    """
    used: dict[str, float] = {}
    try:
        from tirex_tracker import Measure, tracking
    except (ImportError, OSError) as error:  # OSError: its shared library does not load on this machine
        log.debug("no energy counters: %s", error)
        yield used
        return
    parts = {"cpu": Measure.CPU_ENERGY_SYSTEM_JOULES, "ram": Measure.RAM_ENERGY_SYSTEM_JOULES, "gpu": Measure.GPU_ENERGY_SYSTEM_JOULES}
    with tracking(measures=list(parts.values())) as tracked:
        yield used
    for part, measure in parts.items():
        entry = tracked.results.get(measure)
        try:
            value = json.loads(entry.value) if entry is not None else None
        except ValueError:
            value = None
        if isinstance(value, int | float) and value > 0:  # null: this part has no counter
            used[part] = float(value)


def peak_memory_bytes() -> int:
    """The most memory this process has held resident so far.

    Linux's own VmHWM is preferred: getrusage's figure is inherited from the parent that started this process.
    """
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    if sys.platform == "linux":
        try:
            with open("/proc/self/status", encoding="ascii", errors="replace") as status:
                return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
        except (OSError, StopIteration):
            pass  # some sandboxes lack it
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
