"""The paper's tables again, as Markdown, LaTeX, HTML, CSV or JSON: published figures beside measured ones, with verdict and sources.

Reads no run (`measurements` gathers what was measured) and compares nothing (`comparison` does).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from mta4dpr.report import tables
from mta4dpr.report.comparison import Entry, Measurement, entries
from mta4dpr.report.formats import LATEX_NEEDS, head_groups, latex_table, markdown_item, markdown_note, markdown_table, markdown_text
from mta4dpr.report.layouts import Layout, LayoutColumn, read_layouts
from mta4dpr.report.leaderboard import LETTERS
from mta4dpr.report.published import UNKNOWN, PublishedResults, read_published
from mta4dpr.report.tables import Cell, Note, Table

OTHER_DEFINITION, OTHER_COLLECTION, OTHERS_DIFFER = "‡", "†", "§"


def table(layout: Layout, published: PublishedResults, measured: Sequence[Measurement]) -> Table:
    """The layout as a table that every format shares. A compared column becomes three: published, measured, verdict."""
    rows = entries(layout, published, measured)
    cited = list(dict.fromkeys((e.figure.trust, e.figure.kind, e.figure.source) for line in rows for e in line if e.figure))
    marks = dict(zip(cited, _letters(), strict=False))
    parameters = any(row.about or row.parameters for row in layout.rows)
    columns = [tables.TableColumn("system", wraps=True)]
    columns += [tables.TableColumn("parameters", right=True)] if parameters else []
    for column in layout.columns:
        if column.dataset:
            columns += [tables.TableColumn(head, group=column.head) for head in ("published", "measured", "verdict")]
        else:
            columns += [tables.TableColumn(column.head, group=column.group)]
    lines = []
    for row, line in zip(layout.rows, rows, strict=True):
        cells = [Cell(row.name)]
        cells += [Cell(row.parameters or _parameters(published, row.about))] if parameters else []
        for entry in line:
            cells += _cells(entry, published, marks)
        lines.append(tuple(cells))
    return Table(
        title=layout.title,
        lead=(layout.lead,) if layout.lead else (),
        columns=tuple(columns),
        rows=tuple(lines),
        groups=tuple(row.group for row in layout.rows),
        notes=tuple(_notes(layout, rows, published, marks)),
    )


def _cells(entry: Entry, published: PublishedResults, marks: Mapping[tuple[str, str, str], str]) -> Iterator[Cell]:
    figure, found = entry.figure, entry.found
    text = entry.measured + (f" ± {entry.std}" if entry.std else "")
    shown = Cell(text, marks=OTHER_COLLECTION if entry.other_collection else "") if found else Cell()
    if not entry.column.dataset:
        yield shown
        return
    if figure is None:
        yield Cell("")
    else:
        raised = marks[figure.trust, figure.kind, figure.source]
        raised += OTHER_DEFINITION if entry.other_definition else ""
        raised += OTHERS_DIFFER if published.others(figure) else ""
        yield Cell(figure.value, marks=raised)
    yield shown
    yield Cell(entry.verdict)


def _notes(
    layout: Layout, rows: Sequence[Sequence[Entry]], published: PublishedResults, marks: Mapping[tuple[str, str, str], str]
) -> Iterator[Note]:
    flat = [entry for line in rows for entry in line]
    yield from ((note,) for note in layout.notes)
    compared = [column for column in layout.columns if column.dataset]
    if compared:
        yield (f"Empty: not known. {tables.NOTHING}: not run. {_tolerances(layout)}",)
    elif any(entry.found is None for entry in flat):
        yield (f"{tables.NOTHING}: not run.",)
    yield from _sources_of_runs(flat)
    for words in dict.fromkeys(entry.other_collection for entry in flat if entry.other_collection):
        names = dict.fromkeys(f"{e.row.name}, {e.column.head}" for e in flat if e.other_collection == words)
        yield (f"{OTHER_COLLECTION} {'; '.join(words)}: no verdict ({'; '.join(names)}).",)
    others = [entry for entry in flat if entry.other_definition]
    if others:
        counted = sorted({(e.column.measure, e.figure.definition) for e in others if e.figure})
        how = "; ".join(f"beside {measure}: {'definition unknown' if word == UNKNOWN else word}" for measure, word in counted)
        yield (f"{OTHER_DEFINITION} The source counts something else than the measure of this column ({how}): no verdict.",)
    differing = [(e, published.others(e.figure)) for e in flat if e.figure and published.others(e.figure)]
    if differing:
        listed = [f"{e.row.name}, {e.column.head}: {', '.join(sorted({f.value for f in found}))}" for e, found in differing]
        yield (f"{OTHERS_DIFFER} Other sources print other figures ({'; '.join(listed)}).",)
    for (trust, kind, source), letter in marks.items():
        yield (f"{letter}: {source} ({trust}, {kind}).",)


def _sources_of_runs(flat: Sequence[Entry]) -> Iterator[Note]:
    found = [entry.found for entry in flat if entry.found]
    for benchmark in dict.fromkeys(m.benchmark for m in found):
        own = [m for m in found if m.benchmark == benchmark]
        seeds = sorted({seed for m in own for seed in m.seeds})
        text = f": {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        for titled, words in ((True, "passages with titles"), (False, "passages without titles")):
            text += f", {words}" if all(m.titled is titled for m in own) else ""
        text += (
            ". ± is the standard deviation between seeds; a figure without it is of one seed, or needs none"
            if any(m.std is not None for m in own)
            else ""
        )
        fewer = {m.system: len(m.seeds) for m in own if m.std is not None and len(m.seeds) < len(seeds)}
        text += "".join(f"; {system} was run with {count} of them" for system, count in fewer.items())
        yield ("Measured by the benchmark ", tables.Name(benchmark), text + ".")


def _tolerances(layout: Layout) -> str:
    """How a verdict comes about: the columns' tolerances, and those of rows that have their own."""
    found: dict[tuple[Decimal, Decimal], list[str]] = {}
    for column in layout.columns:
        if column.tolerance:
            found.setdefault((column.tolerance.reproduced, column.tolerance.near), []).append(column.head)
    parts = [
        f"reproduced up to {reproduced} points from the published figure, near up to {near}, off beyond"
        + (f" ({', '.join(heads)})" if len(found) > 1 else "")
        for (reproduced, near), heads in found.items()
    ]
    own: dict[tuple[Decimal, Decimal], list[str]] = {}
    for row in layout.rows:
        if row.tolerance:
            own.setdefault((row.tolerance.reproduced, row.tolerance.near), []).append(row.name)
    parts += [f"{reproduced} and {near} for {', '.join(names)}" for (reproduced, near), names in own.items()]
    return f"Verdict, of the figures as printed: {'; '.join(parts)}."


def _parameters(published: PublishedResults, about: str) -> str:
    text = published.systems[about].params if about else ""
    return text if text and text != "-" else tables.NOTHING


def _letters() -> list[str]:
    singles = list(LETTERS)
    return singles + [first + second for first in singles for second in singles]


@dataclass(frozen=True)
class Paper:
    """Layouts, published figures and what was measured: all that the tables show."""

    layouts: dict[str, Layout]
    published: PublishedResults
    measured: tuple[Measurement, ...] = ()

    def filled(self, measured: Sequence[Measurement]) -> Paper:
        """The same tables with these measurements instead of those that are there."""
        return replace(self, measured=tuple(measured))

    def benchmarks(self) -> list[str]:
        """Those that a column asks for by name."""
        return sorted({column.benchmark for column in self._columns() if column.benchmark})

    def eval_sets(self) -> list[str]:
        """Those that a column shows of any benchmark."""
        return sorted({column.eval_set for column in self._columns() if not column.benchmark})

    def _columns(self) -> Iterator[LayoutColumn]:
        return (column for layout in self.layouts.values() for column in layout.columns)

    def tables(self) -> dict[str, Table]:
        """{name of the layout: its table}, in the layouts' order."""
        return {name: table(layout, self.published, self.measured) for name, layout in self.layouts.items()}

    def text(self, form: str) -> str:
        """All tables in the form md, tex, html or csv."""
        return {"md": to_markdown, "tex": to_latex, "html": to_html, "csv": to_csv}[form](self)


def _why_not(entry: Entry) -> str | None:
    """Why there is no verdict although a figure was published and something measured."""
    if not entry.figure or not entry.found:
        return None
    return "the published measure is defined otherwise" if entry.other_definition else "; ".join(entry.other_collection) or None


def read_tables(folder: Path) -> Paper:
    """The tables of `folder` (benchmarks/paper), with nothing measured yet."""
    published = read_published(folder)
    return Paper(read_layouts(folder, published), published)


HEAD = "Tables of the MTA4DPR paper"
UNREAD = (
    "Published figures beside measured ones. The paper itself was not at hand: its figures come from a public summary "
    "(trust: secondary), and what is not known of it is an empty cell."
)


def to_markdown(paper: Paper) -> str:
    """A Markdown document with a section for each table."""
    parts = [f"# {HEAD}", UNREAD]
    for part in paper.tables().values():
        parts += [f"## {markdown_text(part.title)}", *([markdown_note(part.lead)] if part.lead else []), markdown_table(part)]
        parts += ["\n".join(markdown_item(note) for note in part.notes)]
    return "\n\n".join(parts) + "\n"


def to_latex(paper: Paper) -> str:
    r"""Table environments to \input into a document."""
    head = [f"% {HEAD}. {UNREAD}", LATEX_NEEDS]
    return "\n".join(head) + "\n\n" + "\n".join(latex_table(part, "paper") for part in paper.tables().values())


def to_html(paper: Paper) -> str:
    """A page of its own, without scripts."""
    from mta4dpr.report.page import environment

    return environment().get_template("paper.html.j2").render(title=HEAD, lead=UNREAD, tables=paper.tables(), spans=head_groups)


def to_csv(paper: Paper) -> str:
    """Long format, one line a cell of the paper; `measured` and `std` as the tables print them, `value` unrounded."""
    out = io.StringIO()
    lines = [line for name in paper.layouts for line in _records(paper, name)]
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: " ".join(map(str, v)) if isinstance(v, list) else v for key, v in line.items()} for line in lines)
    return out.getvalue()


def to_json(paper: Paper) -> dict[str, Any]:
    """The records of `to_csv` by table, with None for what is not there and seeds as a list."""
    found = [{"name": name, "title": layout.title, "cells": [*_records(paper, name)]} for name, layout in paper.layouts.items()]
    return {"tables": found}


def _records(paper: Paper, name: str) -> Iterator[dict[str, Any]]:
    for entry in [entry for line in entries(paper.layouts[name], paper.published, paper.measured) for entry in line]:
        figure, found, column = entry.figure, entry.found, entry.column
        yield {
            "table": name,
            "row": entry.row.name,
            "column": column.head,
            "published_system": figure.system if figure else None,
            "dataset": column.dataset or None,
            "published_measure": column.published or None,
            "published": figure.value if figure else None,
            "definition": figure.definition if figure else None,
            "kind": figure.kind if figure else None,
            "trust": figure.trust if figure else None,
            "source": figure.source if figure else None,
            "benchmark": found.benchmark if found else None,
            "eval_set": column.eval_set,
            "measure": column.measure,
            "system": found.system if found else None,
            "measured": entry.measured or None,
            "std": entry.std or None,
            "value": found.value if found else None,
            "seeds": list(found.seeds) if found else [],
            "verdict": entry.verdict or None,
            "no_verdict_because": _why_not(entry),
        }
