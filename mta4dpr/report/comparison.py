"""Like with like: each cell of a paper's table with its published figure, what we measured, and what the two say.

The same measure (by its definition, not by its name), the same queries and the same collection, else there is no verdict. A verdict
follows from the two figures as they are printed, so a reader can check it by eye. Knows no format and reads no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from mta4dpr.errors import UserError
from mta4dpr.report.layouts import Column, Layout, Row, Tolerance
from mta4dpr.report.published import Figure, Published

NOT_RUN = "not run"
DIGITS = 1  # of a column without a published figure: what papers print


@dataclass(frozen=True)
class Measured:
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
    """A cell of the paper: the figure published there, what we measured, and what the two say."""

    row: Row
    column: Column
    figure: Figure | None
    found: Measured | None
    differs: str  # "definition" or "collection": why there is no verdict although both are there; "" otherwise
    verdict: str

    @property
    def digits(self) -> int:
        return self.figure.digits if self.figure else DIGITS

    @property
    def measured(self) -> str:
        return "" if self.found is None else percent(self.found.value, self.digits)

    @property
    def std(self) -> str:
        return "" if self.found is None or self.found.std is None else percent(self.found.std, self.digits)


def percent(fraction: float, digits: int) -> str:
    return f"{100 * fraction:.{digits}f}"


def verdict(published: str, measured: str, tolerance: Tolerance) -> str:
    """reproduced | near | off, of two figures as printed; a difference of exactly the tolerance is inside."""
    difference = abs(Decimal(measured) - Decimal(published))
    return "reproduced" if difference <= tolerance.reproduced else "near" if difference <= tolerance.near else "off"


def entries(layout: Layout, published: Published, measured: Sequence[Measured]) -> list[list[Entry]]:
    """One list a row, an entry a column."""
    return [[_entry(row, column, published, measured) for column in layout.columns] for row in layout.rows]


def _entry(row: Row, column: Column, published: Published, measured: Sequence[Measured]) -> Entry:
    figure = published.figure(row.published, column.dataset, column.published, definition=column.definition) if row.published else None
    found = _found(row, column, measured)
    differs = _differs(column, figure, found)
    said = ""
    tolerance = row.tolerance or column.tolerance
    if column.dataset and found is None:
        said = NOT_RUN
    elif figure and found and tolerance and not differs:
        said = verdict(figure.value, percent(found.value, figure.digits), tolerance)
    return Entry(row, column, figure, found, differs, said)


def _found(row: Row, column: Column, measured: Sequence[Measured]) -> Measured | None:
    wanted = (column.eval_set, row.measured_as(column.eval_set), column.measure)
    found = [m for m in measured if (m.eval_set, m.system, m.measure) == wanted and column.benchmark in ("", m.benchmark)]
    if len(found) > 1:
        raise UserError(
            f"{wanted[1]} was measured on {column.eval_set} by the benchmarks {' and '.join(m.benchmark for m in found)}; "
            "name with --runs the folders of the one to show"
        )
    return found[0] if found else None


def _differs(column: Column, figure: Figure | None, found: Measured | None) -> str:
    if figure and figure.definition != column.definition:
        return "definition"
    same_queries = found is None or column.queries in (None, found.queries)
    same_passages = found is None or column.passages in (None, found.passages)
    return "" if same_queries and same_passages else "collection"
