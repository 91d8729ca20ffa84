"""Compares each cell of a paper's table, the published figure, with what we measured there.

The same measure (by its definition, not by its name), the same queries and the same collection, else there is no verdict. A verdict
follows from the two figures as they are printed, so a reader can check it by eye. Knows no format and reads no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from mta4dpr.errors import UserError
from mta4dpr.report.layouts import Layout, LayoutColumn, LayoutRow, Tolerance
from mta4dpr.report.published import PublishedFigure, PublishedResults

NOT_RUN = "not run"
DIGITS = 1  # of a column without a published figure: what papers print


@dataclass(frozen=True)
class Measurement:
    """A measure of one system on one eval set, over the seeds that it was run with."""

    benchmark: str
    eval_set: str
    system: str
    measure: str
    value: float  # a fraction, the mean over seeds
    std: float | None  # between seeds; None for one run, and for what no seed decides
    seeds: tuple[int, ...]
    queries: int
    passages: int | None  # None: an older run, which did not write it down
    titled: bool | None


@dataclass(frozen=True)
class Entry:
    """A cell of the paper: the figure published there, and what we measured."""

    row: LayoutRow
    column: LayoutColumn
    figure: PublishedFigure | None
    found: Measurement | None

    @property
    def digits(self) -> int:
        """Digits after the point: as many as the published figure has, DIGITS where there is none."""
        return self.figure.digits if self.figure else DIGITS

    @property
    def measured(self) -> str:
        """What we measured, in percent with `digits` digits; empty where nothing was."""
        return "" if self.found is None else percent(self.found.value, self.digits)

    @property
    def std(self) -> str:
        """The standard deviation between seeds, printed likewise; empty for a single run."""
        return "" if self.found is None or self.found.std is None else percent(self.found.std, self.digits)

    @property
    def other_definition(self) -> bool:
        """Whether the source counts something else than the column's measure, or does not say what it counts."""
        return self.figure is not None and self.figure.definition != self.column.definition

    @property
    def other_collection(self) -> tuple[str, ...]:
        """In what the measured collection is not the published one, in words."""
        column, found, titled = self.column, self.found, self.row.titled
        if found is None or not column.dataset:
            return ()
        words = []
        if column.queries not in (None, found.queries):
            words.append(f"measured on {found.queries:,} queries, not {column.queries:,}")
        if column.passages not in (None, found.passages):
            over = "an unrecorded number of" if found.passages is None else f"{found.passages:,}"
            words.append(f"measured over {over} passages, not {column.passages:,}")
        if None not in (titled, found.titled) and titled != found.titled:
            with_or_without = ["with" if it else "without" for it in (found.titled, titled)]
            words.append("measured over passages {} titles, published {}".format(*with_or_without))
        return tuple(words)

    @property
    def verdict(self) -> str:
        """reproduced | near | off | not run, or '' where there is nothing like to compare with."""
        tolerance = self.row.tolerance or self.column.tolerance
        if not self.column.dataset:
            return ""
        if self.found is None:
            return NOT_RUN
        if self.figure is None or tolerance is None or self.other_definition or self.other_collection:
            return ""
        return verdict(self.figure.value, self.measured, tolerance)


def percent(fraction: float, digits: int) -> str:
    """A fraction in percent, with that many digits after the point."""
    return f"{100 * fraction:.{digits}f}"


def verdict(published: str, measured: str, tolerance: Tolerance) -> str:
    """Of two figures as printed; a difference of exactly the tolerance is inside."""
    difference = abs(Decimal(measured) - Decimal(published))
    return "reproduced" if difference <= tolerance.reproduced else "near" if difference <= tolerance.near else "off"


def entries(layout: Layout, published: PublishedResults, measured: Sequence[Measurement]) -> list[list[Entry]]:
    """One list a row, an entry a column."""
    return [[Entry(row, c, _figure(row, c, published), _found(row, c, measured)) for c in layout.columns] for row in layout.rows]


def _figure(row: LayoutRow, column: LayoutColumn, published: PublishedResults) -> PublishedFigure | None:
    return published.figure(row.published, column.dataset, column.published, definition=column.definition) if row.published else None


def _found(row: LayoutRow, column: LayoutColumn, measured: Sequence[Measurement]) -> Measurement | None:
    wanted = (column.eval_set, row.measured_as(column.eval_set), column.measure)
    found = [m for m in measured if (m.eval_set, m.system, m.measure) == wanted and column.benchmark in ("", m.benchmark)]
    if len(found) > 1:
        raise UserError(
            f"{wanted[1]} was measured on {column.eval_set} by the benchmarks {' and '.join(m.benchmark for m in found)}; "
            "name with --runs the folders of the one to show"
        )
    return found[0] if found else None
