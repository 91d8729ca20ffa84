"""Progress with rate and time left: bars on a terminal, a plain line now and then elsewhere. Goes to stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Protocol

from mta4dpr.machine.console import new_console

log = logging.getLogger(__name__)

FIRST_LINE, NEXT_LINES = 10.0, 30.0  # seconds until the first plain line, and between lines


class Bar(Protocol):
    """Something that shows how far a piece of work is."""

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        ...


class _Lines:
    """A plain log line now and then."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self.started = time.monotonic()
        self.next = self.started + FIRST_LINE

    def advance(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + NEXT_LINES
        rate = self.done / (now - self.started)
        of = f" of {self.total:,}" if self.total else ""
        left = f", about {duration((self.total - self.done) / rate)} left" if self.total else ""
        log.info("%s: %s%s %s, %.1f a second%s", self.label, f"{self.done:,}", of, self.unit, rate, left)


class _Rich:
    """One task of Rich's progress display."""

    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)
        speed = self._bars.tasks[0].speed
        self._bars.update(self._task, rate=f"{speed:,.1f}/s" if speed else "")


@contextmanager
def bar(total: int | None, label: str, unit: str) -> Iterator[Bar]:
    """Something to `advance` while the block runs."""
    if not sys.stderr.isatty() or not log.isEnabledFor(logging.INFO):
        yield _Lines(label, total, unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("left", markup=False),
    )
    with Progress(*columns, console=new_console(stderr=True), transient=True) as bars:
        yield _Rich(bars, bars.add_task(label, total=total, unit=unit, rate=""))


def track[Item](items: Iterable[Item], label: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items while a bar follows."""
    with bar(len(items) if total is None and isinstance(items, Sized) else total, label, unit) as shown:
        for item in items:
            yield item
            shown.advance()


def duration(seconds: float) -> str:
    """8 s, 3 min 20 s, 2 h 5 min, 12 d 3 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400:,} d {whole % 86400 // 3600} h"
