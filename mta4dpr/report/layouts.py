"""How the paper's tables are laid out: benchmarks/paper/*.yaml, one table a file, in the order of their names.

A row names a system as results.csv and as our runs call it; a column names an eval set with its measure and the published figures
that are the same measurement. Knows no figure and no run. Every name in a layout is checked against the published figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from pydantic import Field, ValidationError

from mta4dpr.config.options import Section
from mta4dpr.config.yaml_files import read_yaml
from mta4dpr.errors import UserError, nearest
from mta4dpr.report.published import DEFINITIONS, UNKNOWN, PublishedResults

MEASURE = re.compile(r"(RR|nDCG|R|Success)@(\d+)")
PUBLISHED = re.compile(r"(MRR|nDCG|R)@(\d+k?)")
SAME = {"MRR": ("RR",), "nDCG": ("nDCG",), "R": ("R", "Success")}  # what papers call R is one or the other


class Tolerance(Section):
    """In percentage points between two printed figures."""

    reproduced: Decimal = Field(ge=0, description="up to here a figure counts as reproduced")
    near: Decimal = Field(ge=0, description="up to here it is near, beyond it is off")


class LayoutColumn(Section):
    """A measure on an eval set; with `dataset` it is compared with published figures, without it only shown."""

    head: str
    group: str = ""  # a second head over this column and its neighbours of the same group; compared columns have their own
    eval_set: str = Field(description="of our runs")
    measure: str = Field(description="in ir-measures' notation")
    benchmark: str = Field("", description="only runs of this benchmark; empty: of any")
    dataset: str = Field("", description="in results.csv")
    published: str = Field("", description="the measure in results.csv")
    tolerance: Tolerance | None = None
    queries: int | None = Field(None, description="a run over fewer or more queries gets no verdict")
    passages: int | None = Field(None, description="a run over another number of passages gets no verdict")

    @property
    def definition(self) -> str:
        """What the measure means, in the words of results.csv."""
        family = self.measure.partition("@")[0]
        return next((words for words, name in DEFINITIONS.items() if name == family), UNKNOWN)


class LayoutRow(Section):
    """A system of the paper, under the names that the published figures and our runs have for it."""

    label: str = Field("", description="shown instead of the published name")
    published: str = Field("", description="the system in results.csv; empty: nothing is known")
    about: str = Field("", description="the system in systems.csv")
    parameters: str = Field("", description="instead of those in systems.csv, which may name several sizes")
    measured: str | dict[str, str] = Field("", description="the system in our runs, or {eval set: system} where it has several names")
    titled: bool | None = Field(None, description="published over passages with titles; a run over the other kind gets no verdict")
    group: str = Field("", description="a rule is drawn where it changes")
    tolerance: Tolerance | None = Field(None, description="instead of the columns'")

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.label or self.published

    def measured_as(self, eval_set: str) -> str:
        """The name that our runs on that eval set have for the system; empty where none was measured."""
        return self.measured if isinstance(self.measured, str) else self.measured.get(eval_set, "")


class Layout(Section):
    """One table of the paper: what it shows, not the figures in it."""

    title: str
    lead: str = ""
    columns: list[LayoutColumn] = Field(min_length=1)
    rows: list[LayoutRow] = Field(min_length=1)
    notes: list[str] = Field([])


def read_layouts(folder: Path, published: PublishedResults) -> dict[str, Layout]:
    """{file's stem: layout}. One UserError with all mistakes of a file."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise UserError(f"expected table layouts (*.yaml) in {folder}, found none")
    layouts = {}
    for path in paths:
        try:
            layout = Layout.model_validate(read_yaml(path))
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, e['loc'])) or 'the table'}: {e['msg']} (found {e['input']!r:.60})" for e in error.errors()]
        else:
            mistakes = [*_mistakes(layout, published)]
            layouts[path.stem] = layout
        if mistakes:
            raise UserError("\n  ".join([f"{path} has {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}:", *mistakes]))
    return layouts


def _mistakes(layout: Layout, published: PublishedResults) -> Iterator[str]:
    for n, column in enumerate(layout.columns):
        for mistake in _column_mistakes(column, published):
            yield f"columns.{n} ({column.head}): {mistake}"
    systems = sorted({figure.system for figure in published.figures})
    names = [row.name for row in layout.rows]
    for n, row in enumerate(layout.rows):
        if not row.name:
            yield f"rows.{n}: a row needs a label or the name of a published system"
        elif names.count(row.name) > 1:
            yield f"rows.{n}: {row.name!r} is there twice"
        if row.published and row.published not in systems:
            yield f"rows.{n}: results.csv has no system {row.published!r}{nearest(row.published, systems)}"
        if row.about and row.about not in published.systems:
            yield f"rows.{n}: systems.csv has no system {row.about!r}{nearest(row.about, list(published.systems))}"
        for eval_set in row.measured if isinstance(row.measured, dict) else ():
            if eval_set not in [column.eval_set for column in layout.columns]:
                yield f"rows.{n}: no column shows the eval set {eval_set!r}"
        yield from (f"rows.{n}: {m}" for m in _tolerance_mistakes(row.tolerance))


def _column_mistakes(column: LayoutColumn, published: PublishedResults) -> Iterator[str]:
    ours = MEASURE.fullmatch(column.measure)
    if column.dataset and column.group:
        yield "group has no effect on a compared column, whose head stands over its three parts; leave it out"
    if not (column.dataset or column.published):
        idle = [name for name in ("tolerance", "queries", "passages") if getattr(column, name) is not None]
        if idle:
            yield f"{', '.join(idle)} has no effect without a published figure to compare with; leave it out"
        return
    theirs = PUBLISHED.fullmatch(column.published)
    known = sorted({(f.dataset, f.measure) for f in published.figures})
    if (column.dataset, column.published) not in known:
        yield f"results.csv has no {column.published} on {column.dataset!r}; it has {', '.join(f'{m} on {d}' for d, m in known)}"
    elif not ours or not theirs:
        yield f"{column.measure} cannot be compared with a published {column.published}; expected RR, nDCG, R or Success with a cutoff"
    elif ours[1] not in SAME[theirs[1]] or int(ours[2]) != int(theirs[2].replace("k", "000")):
        yield f"{column.measure} and the published {column.published} are different measures"
    if column.tolerance is None:
        yield "a comparison needs a tolerance: {reproduced: ..., near: ...}, in percentage points"
    yield from _tolerance_mistakes(column.tolerance)


def _tolerance_mistakes(tolerance: Tolerance | None) -> Iterator[str]:
    if tolerance is not None and tolerance.near < tolerance.reproduced:
        yield f"tolerance: near ({tolerance.near}) must not be below reproduced ({tolerance.reproduced})"
