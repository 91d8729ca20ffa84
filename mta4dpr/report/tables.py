"""A leaderboard as tables of one shape that every format shares.

Must not know any format: a `Table` holds plain text, `formats` and `page` escape and decorate it. Must not compute
a measure or a test either: every number comes from the file, only rounding and choice of the best happen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mta4dpr.report.leaderboard import LETTERS, ComparisonRow, EvalSetRow, Leaderboard, ScoreRow, SystemRow, one_line

ALPHA = 0.05  # a planned contrast counts as significant when its p_holm is below
NOTHING = "–"  # a cell without a value


class Name(str):
    """A system's name inside a note: formats set it as code."""


Note = tuple[str, ...]  # fragments; those of type Name are names


@dataclass(frozen=True)
class TableColumn:
    """The head of a column, and how the formats lay out what stands below it."""

    head: str
    right: bool = False  # aligned to the right
    names: bool = False  # holds system names
    wraps: bool = False  # holds words that may run over several lines
    group: str = ""  # a second head over this column and its neighbours of the same group


@dataclass(frozen=True)
class Cell:
    """One cell. Formats escape `text`; `marks` are shown raised behind it."""

    text: str = NOTHING
    marks: str = ""  # superscript
    bold: bool = False
    value: float | None = None  # unrounded: what the page sorts by


@dataclass(frozen=True)
class Table:
    """A table that every format can show. Each row has a cell for each column."""

    title: str
    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    groups: tuple[str, ...] = ()  # one a row; a rule is drawn where it changes
    warnings: tuple[Note, ...] = ()  # what a reader must know before the numbers
    notes: tuple[Note, ...] = ()
    subject: str = ""  # the eval set's id
    lead: Note = ()  # one sentence above the table


def table(board: Leaderboard, eval_set: EvalSetRow) -> Table:
    """Systems x measures on one eval set. The primary measure carries its interval.

    Bold is the best student of a column (the best system where there is no student): teacher and assistants are
    larger models and are there to compare with. Values equal as printed are all bold. Raised letters are of `baselines` alone.
    """
    systems = [s for s in board.systems if any(r.system == s.system and r.eval_set == eval_set.id for r in board.rows)]
    marks = letters(board)
    tested = baselines(board)
    against = {measure: tested.get((eval_set.id, measure), []) for measure in eval_set.measures}
    named = {baseline for found in against.values() for baseline in found}
    students = [system for system in systems if system.kind == "student"]
    shares = board.eval_sets[:1] == (eval_set,) and any(s.share_of_teacher is not None for s in systems)
    regimes = any(system.regime for system in systems)
    steps = {system.steps for system in systems if system.steps is not None}

    measures = [eval_set.primary, *(m for m in eval_set.measures if m != eval_set.primary)]
    alike = _alike(board, eval_set, students or systems)
    best = {m: _best(board, eval_set.id, m, alike) for m in measures}
    # results first, facts about the model after them: a narrow screen or terminal shows the head of a line
    columns = [TableColumn("")] if named else []
    columns += [TableColumn("system", names=True), TableColumn(eval_set.primary), TableColumn("95 % interval")]
    columns += [TableColumn(measure) for measure in measures[1:]]
    columns += [TableColumn("of teacher", right=True)] if shares else []
    columns += [TableColumn("kind")]
    columns += [TableColumn("regime")] if regimes else []
    columns += [TableColumn("parameters", right=True)]
    columns += [TableColumn("steps", right=True)] if len(steps) > 1 else []
    columns += [TableColumn("seeds", right=True)] if board.seeds else []

    lines = []
    for system in systems:
        cells = [Cell(marks[system.system] if system.system in named else "")] if named else []
        cells.append(Cell(system.system, marks="†" if _lacking(board, system.system, eval_set) else ""))
        for measure in measures:
            row = board.row(system.system, eval_set.id, measure)
            text = NOTHING if row is None else f"{row.value:.4f}"
            spread = "" if row is None or row.std is None else f" ± {row.std:.4f}"
            over = [] if row is None else [marks[other] for other in against[measure] if other in row.significant_over]
            bold = row is not None and text == best[measure] and system in alike
            cells.append(Cell(text + spread, marks=_joined(over), bold=bold, value=row.value if row else None))
            if measure == eval_set.primary:
                ci95 = row.ci95 if row else None
                cells.append(Cell(interval_text(ci95), value=ci95[0] if ci95 else None))
        if shares:
            share = system.share_of_teacher
            cells.append(Cell(NOTHING if share is None else f"{100 * share:.1f} %", value=share))
        cells.append(Cell(system.kind))
        cells += [Cell(system.regime or NOTHING)] if regimes else []
        cells.append(Cell(parameters_text(system.parameters), value=system.parameters))
        cells += [Cell(_count(system.steps), value=system.steps)] if len(steps) > 1 else []
        first = board.row(system.system, eval_set.id, eval_set.primary)
        cells += [Cell(_count(first.seeds if first else None), value=first.seeds if first else None)] if board.seeds else []
        lines.append(tuple(cells))

    return Table(
        title=eval_set.id,
        subject=eval_set.id,
        lead=(_lead(board, eval_set),),
        columns=tuple(columns),
        rows=tuple(lines),
        groups=tuple("students" if system in students else "others" for system in systems),
        warnings=limit_notes(board),
        notes=(
            *_test_notes(board, eval_set, against),
            *_bold_notes(board, students or systems, alike, students=bool(students)),
            *_notes(board, eval_set, systems, shares, steps),
        ),
    )


def baselines(board: Leaderboard) -> dict[tuple[str, str], list[str]]:
    """By eval set and measure: the systems against which every other row was tested there, in one family.

    Only for them does a letter that a row lacks say something: it was tested and is not significantly better. A letter of any other
    system would stand at rows that happened to be tested, beside better ones that were not.
    """
    there: dict[tuple[str, str], set[str]] = {}
    for row in board.rows:
        there.setdefault((row.eval_set, row.measure), set()).add(row.system)
    against: dict[tuple[str, str], dict[tuple[str | None, str], set[str]]] = {}  # by family and system: those it was tested against
    for c in board.comparisons:
        tested = against.setdefault((c.eval_set, c.measure), {})
        tested.setdefault((c.family, c.a), set()).add(c.b)
        tested.setdefault((c.family, c.b), set()).add(c.a)
    found: dict[tuple[str, str], list[str]] = {}
    for where, tested in against.items():
        rows = there.get(where, set())
        whole = {system for (_, system), others in tested.items() if system in rows and others >= rows - {system} > set()}
        found[where] = [system.system for system in board.systems if system.system in whole]
    return found


def letters(board: Leaderboard) -> dict[str, str]:
    """A mark for each system that is a baseline anywhere on the leaderboard: a, b, c, … and aa, ab, … when the letters are used up."""
    of = {baseline for found in baselines(board).values() for baseline in found}
    marks = [*LETTERS, *(first + second for first in LETTERS for second in LETTERS)]
    return dict(zip((system.system for system in board.systems if system.system in of), marks, strict=False))


def contrasts(board: Leaderboard, eval_set: EvalSetRow, measure: str, *, exploratory: bool = False) -> Table | None:
    """The paired comparisons on one eval set and measure, or None when there are none.

    Planned ones, or with `exploratory` those whose family is "exploratory" (all pairs).
    """
    found = [
        c for c in board.comparisons if (c.eval_set, c.measure) == (eval_set.id, measure) and (c.family == "exploratory") == exploratory
    ]
    if not found:
        return None
    randomised = any(c.p_randomisation is not None for c in found)
    columns = [TableColumn("system", names=True), TableColumn("against", names=True), TableColumn("difference", right=True)]
    columns += [TableColumn("95 % interval"), TableColumn("p (Holm)", right=True), TableColumn("verdict", wraps=True)]
    columns += [TableColumn("wins/ties/losses", right=True)]
    columns += [TableColumn("p (random.)", right=True)] if randomised else []
    lines = []
    for c in found:
        cells = [Cell(c.a), Cell(c.b), Cell(signed(c.difference), value=c.difference)]
        cells += [Cell(interval_text(c.ci95, sign=True), value=c.ci95[0] if c.ci95 else None)]
        cells += [Cell(p_text(c.p_holm), bold=significant(c), value=c.p_holm), Cell(verdict(c))]
        counts = (c.wins, c.ties, c.losses)
        cells.append(Cell(NOTHING if None in counts else "/".join(str(count) for count in counts), value=c.wins))
        cells += [Cell(p_text(c.p_randomisation), value=c.p_randomisation)] if randomised else []
        lines.append(tuple(cells))
    notes: list[Note] = [
        (
            f"Paired two-sided t-test over queries, Holm's correction over the {len(found)} "
            f"{'pairs' if exploratory else 'planned contrasts'} of this eval set and measure, level {ALPHA}.",
        )
    ]
    if randomised:
        notes.append(("p (random.): randomisation test by sign flips, not corrected, as a check of the t-test.",))
    if any(not significant(c) for c in found):
        notes.append(
            ("“Cannot tell” is not “equal”: with these queries a true difference below the stated one would usually go unnoticed.",)
        )
    for c in found:
        seeds = [row.seeds for system in (c.a, c.b) if (row := board.row(system, eval_set.id, measure))]
        if None not in seeds and len(set(seeds)) > 1:
            notes.append(
                (Name(c.a), f" over {seeds[0]} of the seeds and ", Name(c.b), f" over {seeds[1]}: no comparison of like with like.")
            )
    if exploratory:
        notes.append(("Exploratory: these pairs were not planned beforehand; confirm a finding on other queries.",))
    kind = "All pairs (exploratory)" if exploratory else "Planned contrasts"
    return Table(
        title=f"{kind}: {measure} on {eval_set.id}",
        subject=eval_set.id,
        columns=tuple(columns),
        rows=tuple(lines),
        warnings=limit_notes(board),
        notes=tuple(notes),
    )


def limit_notes(board: Leaderboard) -> tuple[Note, ...]:
    """The warning that only the first queries were evaluated (--limit); nothing for a full run."""
    if board.limit is None:
        return ()
    return ((f"First {board.limit:,} queries of each eval set only (--limit): not comparable with a full run.",),)


def significant(comparison: ComparisonRow) -> bool:
    """Whether the difference is significant after Holm's correction, at level ALPHA."""
    return comparison.p_holm is not None and comparison.p_holm < ALPHA


def verdict(c: ComparisonRow) -> str:
    """The comparison in words, from `a`'s side. A test that is not significant says what difference it could have found."""
    if significant(c):
        return "better" if c.difference > 0 else "worse"
    if c.wins == 0 and c.losses == 0:
        return "the same on every query"
    if c.detectable is None:
        return "cannot tell"
    return f"cannot tell: smallest detectable difference {c.detectable:.3f}"


def signed(value: float) -> str:
    """A difference with four decimals and its sign."""
    return f"{value:+.4f}".replace("-", "−")


def p_text(p: float | None) -> str:
    """Three decimals; a fourth where three would say 0.050 and leave open on which side of the level p lies."""
    if p is None:
        return NOTHING
    if p < 0.001:
        return "<0.001"
    return f"{p:.4f}" if f"{p:.3f}" == "0.050" else f"{p:.3f}"


def interval_text(ci95: tuple[float, float] | None, *, sign: bool = False) -> str:
    """[low, high] with three decimals, or with `sign` their signs; NOTHING for None."""
    if ci95 is None:
        return NOTHING
    low, high = (f"{bound:+.3f}" if sign else f"{bound:.3f}" for bound in ci95)
    return f"[{low}, {high}]".replace("-", "−")


def parameters_text(count: int | None) -> str:
    """A number of parameters in k, M or B (thousands, millions, billions), with one decimal."""
    if count is None:
        return NOTHING
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def _joined(marks: list[str]) -> str:
    return ("," if any(len(mark) > 1 for mark in marks) else "").join(marks)


def _alike(board: Leaderboard, eval_set: EvalSetRow, systems: Sequence[SystemRow]) -> list[SystemRow]:
    """Those of the systems that were measured on all queries, over as many seeds as the one with most of them or without any draw."""
    rows = [(system, board.row(system.system, eval_set.id, eval_set.primary)) for system in systems]
    whole = [(system, row) for system, row in rows if row is not None and row.queries == board.queries(eval_set)]
    most = max((row.seeds or 0 for _, row in whole), default=0)
    return [system for system, row in whole if row.seeds in (None, most)]


def _best(board: Leaderboard, eval_set: str, measure: str, systems: Iterable[SystemRow]) -> str:
    rows = [board.row(system.system, eval_set, measure) for system in systems]
    values = [row.value for row in rows if row is not None]
    return f"{max(values):.4f}" if len(values) > 1 else ""  # the best of one says nothing


def _bold_notes(board: Leaderboard, systems: Sequence[SystemRow], alike: Sequence[SystemRow], *, students: bool) -> Iterator[Note]:
    """What bold says, and which rows it passes over."""
    passed = [system.system for system in systems if system not in alike]
    over = f" of those over {max((row.seeds or 0 for row in board.rows), default=0)} seeds" if passed and board.seeds else ""
    yield (f"Bold: the best {'student ' if students else ''}of the column{over}.",)
    if passed:
        yield ("Not among them, as measured over fewer seeds or queries: ", *names_note(passed), ".")


def _test_notes(board: Leaderboard, eval_set: EvalSetRow, against: Mapping[str, Sequence[str]]) -> Iterator[Note]:
    """What raised letters say, and of which pairs they say nothing."""
    tested = [c for c in board.comparisons if c.eval_set == eval_set.id]
    if not tested:
        return
    named = [system.system for system in board.systems if any(system.system in found for found in against.values())]
    if not named:
        yield ("No raised letters: no system was tested against all others. The pairs that were are in the table of contrasts.",)
        return
    shown = any(set(row.significant_over) & set(against[row.measure]) for row in board.rows if row.eval_set == eval_set.id)
    how = f"p_holm < {ALPHA}: paired t-test, Holm over the contrasts of this eval set and measure"
    if shown:
        yield ("Raised letters: significantly better than ", *names_note(named), f" ({how}).")
    else:
        yield ("No row is significantly better than ", *names_note(named), f" ({how}).")
    yield ("Every row was tested against ", *names_note(named), "; other pairs were not, so the letters say nothing of them.")


def names_note(names: Sequence[str]) -> Note:
    """Names as a part of a note, with commas between them."""
    parts: list[str] = []
    for name in names:
        parts += [", ", Name(one_line(name))] if parts else [Name(one_line(name))]
    return tuple(parts)


def _lead(board: Leaderboard, eval_set: EvalSetRow) -> str:
    queries = board.queries(eval_set)
    parts = [f"{queries:,} {'query' if queries == 1 else 'queries'}"]
    if eval_set.titled is not None:
        parts.append("passages with titles" if eval_set.titled else "passages without titles")
    parts.append(f"primary measure {eval_set.primary}")
    if board.seed is not None:
        parts.append(f"seed {board.seed}")
    if board.seeds:
        parts.append(f"seeds {', '.join(map(str, board.seeds))}")
    return ", ".join(parts) + "."


def _lacking(board: Leaderboard, system: str, eval_set: EvalSetRow) -> ScoreRow | None:
    """The row of the system that tells of missing queries or of fewer queries than the others', if there is one."""
    queries = board.queries(eval_set)
    rows = [row for row in board.rows if (row.system, row.eval_set) == (system, eval_set.id)]
    return next((row for row in rows if row.missing_queries or row.queries != queries), None)


def _notes(board: Leaderboard, eval_set: EvalSetRow, systems: list[SystemRow], shares: bool, steps: set[int]) -> Iterable[Note]:
    rows = [row for row in board.rows if row.eval_set == eval_set.id]
    if any(row.ci95 for row in rows):
        yield ("95 % interval: percentile bootstrap over queries, of the primary measure.",)
    if any(row.std is not None for row in rows):
        yield ("± is the standard deviation between seeds; tests and intervals use each query's mean over the seeds.",)
    if shares:
        yield (f"Of teacher: {eval_set.primary} as a share of the teacher's.",)
    if len(steps) == 1:
        yield (f"Trained students took {next(iter(steps)):,} optimiser steps each.",)
    for system in systems:
        row = _lacking(board, system.system, eval_set)
        if row is not None and row.missing_queries:
            text = f": † no result for {row.missing_queries:,} of {row.queries:,} queries; each of these scores 0."
            yield (Name(system.system), text)
        if row is not None and row.queries != board.queries(eval_set):
            text = f": † measured on {row.queries:,} queries, not on {board.queries(eval_set):,}."
            yield (Name(system.system), text)
    for system in systems:
        if system.note:
            yield (Name(system.system), f": {one_line(system.note)}")
