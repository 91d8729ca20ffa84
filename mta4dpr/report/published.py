"""The published figures in benchmarks/paper: results.csv (a figure a line, with its source) and systems.csv (what the systems are).

Knows no run and no table: it reads, checks, and says which of several figures for one thing to show.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path

from mta4dpr.errors import UserError, nearest

TRUST = ("primary", "quoted", "secondary", "low")  # the most trusted first
KINDS = ("reported", "reproduced")  # by the authors; by somebody else
UNKNOWN = "unknown"
# what a published measure means, and the name that ir-measures has for it
DEFINITIONS = {"reciprocal rank": "RR", "nDCG": "nDCG", "per-query recall": "R", "hit rate": "Success", UNKNOWN: ""}


@dataclass(frozen=True)
class PublishedFigure:
    """A line of results.csv: the figure that one source prints for one system, data set and measure."""

    system: str
    dataset: str
    measure: str  # as the source calls it: R@50
    value: str  # in percent, with the digits of the source
    definition: str  # one of DEFINITIONS
    kind: str
    trust: str
    source: str

    @property
    def digits(self) -> int:
        """Digits after the point, as the source prints it."""
        return len(self.value.partition(".")[2])


@dataclass(frozen=True)
class PublishedSystem:
    """A line of systems.csv. `params` is the number of parameters in the source's words."""

    system: str
    params: str


@dataclass(frozen=True)
class PublishedResults:
    """All published figures, and {name: what is known of that system}."""

    figures: tuple[PublishedFigure, ...]
    systems: dict[str, PublishedSystem]

    def figure(self, system: str, dataset: str, measure: str, *, definition: str) -> PublishedFigure | None:
        """The figure to show: one of that definition first, then the most trusted, then the authors' own, then the most precise."""
        found = [f for f in self.figures if (f.system, f.dataset, f.measure) == (system, dataset, measure)]
        order = [(f.definition != definition, TRUST.index(f.trust), KINDS.index(f.kind), -f.digits, n) for n, f in enumerate(found)]
        return found[min(order)[-1]] if found else None

    def others(self, shown: PublishedFigure) -> list[PublishedFigure]:
        """Figures for the same thing that differ from the one shown by more than rounding."""
        same = [f for f in self.figures if (f.system, f.dataset, f.measure) == (shown.system, shown.dataset, shown.measure)]
        return [f for f in same if not _agree(f, shown)]


def _agree(a: PublishedFigure, b: PublishedFigure) -> bool:
    """Whether two figures are one number that was rounded to different digits (a half is rounded either way)."""
    coarse = Decimal(1).scaleb(-min(a.digits, b.digits))
    return abs(Decimal(a.value) - Decimal(b.value)) <= (coarse / 2 if a.digits != b.digits else 0)


def read_published(folder: Path) -> PublishedResults:
    """What `folder` holds in results.csv and systems.csv. UserError with file and line for anything that cannot be meant."""
    figures: list[PublishedFigure] = []
    seen: dict[tuple[str, ...], int] = {}
    path = folder / "results.csv"
    for line, row in _rows(path, [field.name for field in fields(PublishedFigure)]):
        figure = PublishedFigure(**row)
        for name, valid in (("definition", tuple(DEFINITIONS)), ("kind", KINDS), ("trust", TRUST)):
            if row[name] not in valid:
                raise UserError(f"{path}, line {line}: expected {name} to be one of {', '.join(valid)}, found {row[name]!r}")
        empty = [name for name, text in row.items() if not text]
        if empty:
            raise UserError(f"{path}, line {line}: {empty[0]} is empty; a figure needs system, dataset, measure, value and its source")
        if not _is_percent(figure.value):
            raise UserError(f"{path}, line {line}: expected a value from 0 to 100 such as 41.1, found {figure.value!r}")
        key = (figure.system, figure.dataset, figure.measure, figure.source)
        if key in seen:
            raise UserError(f"{path}, line {line}: the same source gives this figure on line {seen[key]} already; keep one of them")
        seen[key] = line
        figures.append(figure)
    path, systems = folder / "systems.csv", {}
    for line, row in _rows(path, [field.name for field in fields(PublishedSystem)]):
        if row["system"] in systems:
            raise UserError(f"{path}, line {line}: the system {row['system']!r} is there twice")
        systems[row["system"]] = PublishedSystem(**row)
    return PublishedResults(tuple(figures), systems)


def _rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """(line, the needed columns) of a CSV with a header; other columns are left."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            head = next(reader, [])
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise UserError(f"expected the published figures in {path}, found no such file") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid CSV: {error}") from error
    for name in needed:
        if name not in head:
            raise UserError(f"{path}: expected a column {name}, found {', '.join(head) or 'nothing'}{nearest(name, head)}")
    for line, row in rows:
        if len(row) != len(head):
            raise UserError(f"{path}, line {line}: expected {len(head)} columns, found {len(row)}; quote a cell that has a comma")
    return [(line, {name: row[head.index(name)].strip() for name in needed}) for line, row in rows]


def _is_percent(text: str) -> bool:
    try:
        return text.replace(".", "", 1).isdigit() and 0 <= Decimal(text) <= 100
    except InvalidOperation:
        return False
