"""Times callables that it is given, in turns, and reads how busy the machine was, this process's memory and the machine's energy counters.

Knows nothing of models or indexes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

OTHERS, STOLEN, UNSTEADY = 0.1, 0.02, 1.3  # shares of the cores and of the time, and of the fastest round: beyond these a machine is busy


@dataclass(frozen=True)
class Timing:
    """Latency of single calls in milliseconds, percentiles interpolated linearly.

    p50 p95 p99   over the calls of the quieter rounds: those with the lower medians, one more than half of an odd number of rounds
    low high      the lowest and the highest median of a round, of all rounds: figures whose ranges meet cannot be told apart
    rounds        the median of each round
    calls         how many calls p50, p95 and p99 are of
    """

    p50: float
    p95: float
    p99: float
    low: float
    high: float
    rounds: list[float]
    calls: int


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Whose turn it is: everyone's once a round, every other round from the last to the first, so that nobody always comes first."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)


def time_calls[Input](call: Callable[[Input], Any], inputs: Sequence[Input], *, warmup: int) -> np.ndarray:
    """Calls `call` on every input, one after the other, and times each call: nanoseconds, (inputs,).

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
    return nanoseconds


def timing_of(nanoseconds: np.ndarray) -> Timing:
    """What (rounds, calls) say, where every round had the same calls. Whoever has the same work is one column beside the other."""
    medians = np.median(nanoseconds, axis=1)
    quiet = np.argsort(medians, kind="stable")[: len(medians) // 2 + 1]
    p50, p95, p99 = np.percentile(nanoseconds[quiet], [50, 95, 99]) / 1e6
    rounds = (medians / 1e6).tolist()
    return Timing(float(p50), float(p95), float(p99), min(rounds), max(rounds), rounds, calls=int(nanoseconds[quiet].size))


@contextmanager
def load_seen() -> Iterator[dict[str, Any]]:
    """How busy the machine was inside the block. The dict is filled when it ends; what the system does not tell is left out.

    cores          that there are
    own_cores      that this process used on average: its CPU time by the clock on the wall
    other_cores    that all other processes used
    stolen         share of the CPUs' time that a hypervisor gave to other machines
    load_average   of the last minute, before and after
    """
    import psutil

    def averages() -> list[float]:
        return [round(os.getloadavg()[0], 2)] if hasattr(os, "getloadavg") else []

    seen: dict[str, Any] = {}
    before, wall, own, first = psutil.cpu_times(), time.perf_counter(), time.process_time(), averages()
    yield seen
    after, seconds, cores = psutil.cpu_times(), max(time.perf_counter() - wall, 1e-9), psutil.cpu_count() or 1
    used = (time.process_time() - own) / seconds
    spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    worked = sum(spent.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")) / seconds
    seen |= {"cores": cores, "own_cores": round(used, 2), "other_cores": round(max(0.0, worked - used), 2)}
    seen |= {"stolen": round(max(0.0, spent["steal"]) / seconds / cores, 3)} if "steal" in spent else {}
    seen |= {"load_average": first + averages()} if first else {}


def why_busy(seen: Mapping[str, Any], timings: Sequence[Timing]) -> list[str]:
    """Why times that were taken under that load are to be doubted, a part of a sentence each; nothing when it was quiet.

    The load average is not asked: it holds what this process did itself in the minute before.
    """
    found = []
    cores = seen.get("cores", 1)
    if seen.get("other_cores", 0.0) > OTHERS * cores:
        found.append(f"other programs used {seen['other_cores']:.1f} of {cores} {'core' if cores == 1 else 'cores'}")
    if seen.get("stolen", 0.0) > STOLEN:
        found.append(f"other machines on the same hardware took {seen['stolen']:.0%} of the time")
    ratio = float(np.median([timing.high / timing.low for timing in timings if timing.low > 0] or [1.0]))
    if ratio > UNSTEADY:
        found.append(f"the same queries took {ratio:.1f} times as long in the slowest round as in the fastest")
    return found


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


def available_memory_bytes() -> int:
    """What this process may still take: the machine's free memory, or what its control group leaves if that is less."""
    import psutil

    from mta4dpr.machine.environment import memory_bytes

    return min(int(psutil.virtual_memory().available), memory_bytes() - int(psutil.Process().memory_info().rss))
