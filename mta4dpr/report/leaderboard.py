"""leaderboard.json as data: what was measured, as the stages of evaluation and reporting left it.

Must not know how anything is shown (`tables` decides that), nor compute a measure or a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.machine.files import read_json

LETTERS = "abcdefghjkmnoprstuvwxyz"  # without i, l (look like 1) and q (has no superscript in Unicode)


@dataclass(frozen=True)
class EvalSetRow:
    """An eval set as leaderboard.json describes it: its primary measure, all its measures, the number of its queries."""

    id: str
    primary: str
    measures: tuple[str, ...]
    queries: int
    titled: bool | None = None


@dataclass(frozen=True)
class ScoreRow:
    """The mean of one measure over the queries of one eval set, for one system, with its 95 % interval."""

    system: str
    eval_set: str
    measure: str
    value: float
    queries: int
    missing_queries: int = 0
    ci95: tuple[float, float] | None = None
    significant_over: tuple[str, ...] = ()
    seeds: int | None = None  # of a joined leaderboard: runs that `value` is the mean of
    std: float | None = None  # between those runs


@dataclass(frozen=True)
class SystemRow:
    """What leaderboard.json says of a system apart from its scores. `system` is its name; None stands for what is not known."""

    system: str
    kind: str
    parameters: int | None = None
    dimensions: int | None = None
    share_of_teacher: float | None = None
    note: str | None = None
    regime: str | None = None
    steps: int | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """A paired test of systems `a` and `b` as it was written; the fields are those of evaluation.significance.Comparison."""

    eval_set: str
    measure: str
    a: str
    b: str
    difference: float
    ci95: tuple[float, float] | None = None
    p: float | None = None
    p_holm: float | None = None
    p_randomisation: float | None = None
    detectable: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    effect_size: float | None = None
    family: str | None = None


@dataclass(frozen=True)
class Leaderboard:
    """All of leaderboard.json. Systems and eval sets are in the order in which tables show them."""

    benchmark: str
    title: str
    seed: int | None
    limit: int | None
    notes: tuple[str, ...]
    eval_sets: tuple[EvalSetRow, ...]
    systems: tuple[SystemRow, ...]
    rows: tuple[ScoreRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    seeds: tuple[int, ...] = ()

    def row(self, system: str, eval_set: str, measure: str) -> ScoreRow | None:
        """The score of that system on that eval set by that measure, or None when there is none."""
        wanted = (system, eval_set, measure)
        return next((row for row in self.rows if (row.system, row.eval_set, row.measure) == wanted), None)

    def queries(self, eval_set: EvalSetRow) -> int:
        """How many queries the eval set's rows were measured on (fewer than the set has under --limit)."""
        return max((row.queries for row in self.rows if row.eval_set == eval_set.id), default=eval_set.queries)


def load(folder: Path) -> Leaderboard:
    """The leaderboard of the run in `folder`. UserError when there is none or it cannot be read."""
    path = folder / "leaderboard.json"
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"expected the folder of a run with leaderboard.json, found none in {folder}; "
            "give the folder that `mta4dpr-bench run` wrote (default runs/BENCH), or finish that run first"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON in {path}, found: {error}; run `mta4dpr-bench run` again to rewrite it") from error
    try:
        board = _leaderboard(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"expected a leaderboard in {path}, but it lacks or garbles {error}; run `mta4dpr-bench run` again to rewrite it"
        ) from error
    _check_references(board, path)
    return board


def one_line(text: str) -> str:
    """`text` with every stretch of white space, line ends too, as one space."""
    return " ".join(text.split())


def _leaderboard(document: Any) -> Leaderboard:
    return Leaderboard(
        benchmark=str(document["benchmark"]),
        title=one_line(str(document.get("title") or document["benchmark"])),
        seed=_number(document, "seed"),
        limit=_number(document, "limit"),
        notes=tuple(one_line(str(note)) for note in document.get("notes") or ()),
        eval_sets=tuple(_known(EvalSetRow, entry) for entry in document["eval_sets"]),
        systems=tuple(_known(SystemRow, entry) for entry in document["systems"]),
        rows=tuple(_known(ScoreRow, entry) for entry in document["rows"]),
        comparisons=tuple(_known(ComparisonRow, entry) for entry in document.get("comparisons") or ()),
        seeds=tuple(document.get("seeds") or ()),
    )


def _number(document: dict[str, Any], key: str) -> int | None:
    found = document.get(key)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise TypeError(f"{key}, which is {found!r}")
    return found


def _known[T](what: type[T], entry: dict[str, Any]) -> T:
    """`entry` as `what`; keys that a later version may add are left, lists become tuples."""
    names: Iterable[str] = what.__dataclass_fields__  # type: ignore[attr-defined]
    return what(**{name: tuple(v) if isinstance(v := entry[name], list) else v for name in names if name in entry})


def _check_references(board: Leaderboard, path: Path) -> None:
    systems = {system.system for system in board.systems}
    eval_sets = {eval_set.id for eval_set in board.eval_sets}
    unknown = {name for row in board.rows for name in (row.system, *row.significant_over)}
    unknown |= {name for comparison in board.comparisons for name in (comparison.a, comparison.b)}
    unknown = (unknown - systems) | ({row.eval_set for row in board.rows} - eval_sets)
    if unknown:
        raise UserError(
            f"expected every row of {path} to name a system and an eval set that the file describes, found "
            f"{', '.join(sorted(unknown))} without a description; run `mta4dpr-bench run` again to rewrite it"
        )
