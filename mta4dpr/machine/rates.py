"""How fast this machine was at each kind of work: one line a finished piece in CACHE/rates.jsonl, and what follows for the next.

A rate is an amount a second; the amount is what the work's time is proportional to (bytes read, passages indexed, operations of
a network). Where a kind of work has never been done here, its rate is what such work was measured to take elsewhere, or a share of
the rate of a matrix product that is measured in a second. Knows no benchmark and no model.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mta4dpr.machine import environment

log = logging.getLogger(__name__)

FILE = "rates.jsonl"
LATEST = 20  # lines of a kind that count
# amounts: of a smaller piece, most of the time is not the work itself
SMALLEST = {"read": 20e6, "tokenise": 1e6, "index": 20_000, "bm25": 1e8, "encode": 1e12, "train": 1e12, "search": 1e13}
SMALLEST |= {"hnsw": 1e9, "ivfpq": 1e12}

# a second and thread, on a 2-core x86 machine of 2024 without a GPU
BY_THREAD = {
    "read": 12e6,  # bytes of text
    "tokenise": 250e3,  # tokens
    "index": 2500.0,  # passages
    "bm25": 8e6,  # queries times passages
    "hnsw": 150e6,  # passages times dimensions times candidates looked at
    "ivfpq": 8e9,  # operations
}
BY_MATRIX = {"encode": 0.6, "train": 0.4, "search": 0.25}  # share of a float32 product's operations
BY_ITSELF = {"download": 10e6, "write": 300e6}  # bytes a second


@dataclass(frozen=True)
class Rate:
    """An amount a second, and where it is from."""

    value: float
    measured: bool  # by an earlier run here, on the same device and with as many threads


class Rates:
    """The rates of one machine, for one device and number of threads. `device` is asked when a network's work is."""

    def __init__(self, cache: Path, *, device: Callable[[], str], threads: int) -> None:
        self._path, self._device, self._threads = cache / FILE, device, threads

    def _machine(self, work: str) -> list[object]:
        """What a rate of an earlier run must share to count."""
        device = self._device() if work in BY_MATRIX else "cpu"
        name = _gpu_name(device) if device.startswith("cuda") else environment.processor()
        return [device.split(":")[0], name, self._threads]

    def note(self, work: str, amount: float, seconds: float, *, shape: str = "") -> None:
        """Keeps what a piece of work took. A disk that takes no more lines is no reason to stop a run."""
        if amount < SMALLEST[work] or seconds <= 0:
            return
        line = {"work": work, "shape": shape, "machine": self._machine(work), "amount": amount, "seconds": round(seconds, 3)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")  # one write: lines of two processes do not mix
        except OSError as error:
            log.debug("%s is not written: %s", self._path, error)

    def of(self, work: str, *, shape: str = "") -> Rate:
        """From the latest pieces of that work: on a network of that shape, else on any, else as it usually is."""
        if work in BY_ITSELF:
            return Rate(BY_ITSELF[work], False)
        machine = self._machine(work)
        lines = [line for line in self._lines() if line["work"] == work and line["machine"] == machine]
        lines = ([line for line in lines if line["shape"] == shape] or lines)[-LATEST:]
        if lines:
            return Rate(sum(line["amount"] for line in lines) / sum(line["seconds"] for line in lines), True)
        if work in BY_THREAD:
            return Rate(BY_THREAD[work] * self._threads, False)
        return Rate(BY_MATRIX[work] * self.matrix, False)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:  # a kill or a full disk cut it
                continue
        return found

    @cached_property
    def matrix(self) -> float:
        """Operations a second of a float32 matrix product on the device."""
        return matrix_rate(self._device(), self._threads)


def matrix_rate(device: str, threads: int) -> float:
    """Floating-point operations a second of a float32 product by torch: the best of those that fit into half a second.

    The best, since whatever else the machine does for the moment makes a product slower.
    """
    import torch

    if device == "cpu":
        torch.set_num_threads(threads)
    size = 1024 if device == "cpu" else 8192
    a = torch.ones((size, size), device=device)

    def product() -> None:
        (a @ a)[0, 0].item()  # waits for a GPU to finish

    product()
    until, best = time.perf_counter() + 0.5, float("inf")
    while time.perf_counter() < until:
        started = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _gpu_name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name(device))
