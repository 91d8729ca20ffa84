"""What runs have measured, gathered for the paper's tables: which folders count, and means and deviations over their seeds.

Reads manifest.json and leaderboard.json of each run; computes no measure, and knows no published figure.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.errors import UserError
from mta4dpr.report import Leaderboard, load
from mta4dpr.report.comparison import Measurement
from mta4dpr.report.leaderboard import ScoreRow
from mta4dpr.report.seeds import read, refuse_other_settings

log = logging.getLogger(__name__)

RUNS = Path("runs")
REFERENCE = RUNS / "reference"


@dataclass(frozen=True)
class FinishedRun:
    """A run that left a leaderboard."""

    folder: Path
    manifest: dict[str, Any]
    board: Leaderboard

    @property
    def benchmark(self) -> str:
        """The name of its benchmark."""
        return str(self.manifest["benchmark"])

    @property
    def seed(self) -> int:
        """The seed that decided its draws."""
        return int(self.manifest["settings"]["seed"])


def measurements(folders: Sequence[Path], benchmarks: Sequence[str], eval_sets: Sequence[str]) -> list[Measurement]:
    """Every measure that the tables show of `benchmarks` or, of any benchmark, on `eval_sets`; from the runs in `folders`.

    Without folders: the user's own runs under runs/, and those in runs/reference/ of benchmarks that have none there. Each run
    that is read or left out is named in the log. A folder that was named itself and cannot be used is a UserError.
    """
    runs: list[FinishedRun] = []
    for folder, named in _folders(folders):
        if not named and not (folder / "manifest.json").exists():
            log.info("%s: left out, it has no manifest.json (a leaderboard over several runs, which are read themselves)", folder)
            continue
        run = _run(folder)
        reason = _unfit(run, benchmarks, eval_sets)
        if not reason and not folders and REFERENCE in folder.parents and any(_own(other, run.benchmark) for other in runs):
            reason = f"runs of {run.benchmark} outside {REFERENCE} come first"
        if reason and named:
            raise UserError(f"{folder} cannot be shown: {reason}; leave it out")
        log.info("%s: %s", folder, f"left out, {reason}" if reason else f"read ({run.benchmark}, seed {run.seed})")
        runs += [] if reason else [run]
    if not runs:
        log.info("no run to show%s: every measured cell is empty", "" if folders else f" under {RUNS.resolve()}")
    return _over_seeds(runs)


def _folders(given: Sequence[Path]) -> list[tuple[Path, bool]]:
    """(folder of a run, whether it was named itself), the user's own before the reference ones."""
    found: dict[Path, tuple[Path, bool]] = {}
    for place in given or [RUNS]:
        if given and not place.is_dir():
            raise UserError(f"expected the folder of a run or one that holds runs, found no folder {place}")
        inside = sorted(_runs_in(place))
        if given and not inside:
            raise UserError(f"expected finished runs in {place}, found no leaderboard.json in it or below; finish the run first")
        for folder in inside:
            named = bool(given) and folder == place
            earlier = found.get(folder.resolve(), (folder, False))
            found[folder.resolve()] = (earlier[0], earlier[1] or named)
    return sorted(found.values(), key=lambda item: REFERENCE in item[0].parents)


def _runs_in(place: Path) -> list[Path]:
    found = []
    for folder, inner, files in place.walk(follow_symlinks=True):  # runs often lie on another disk
        if "leaderboard.json" in files or (folder == place and "manifest.json" in files):
            found.append(folder)
            inner.clear()  # a run holds no other run
    return found


def _run(folder: Path) -> FinishedRun:
    manifest = read(folder / "manifest.json")
    read(folder / "leaderboard.json")
    try:
        run = FinishedRun(folder, manifest, load(folder))
        _ = run.benchmark, run.seed, manifest["settings"]["limit"], {s: manifest["systems"][s]["strategy"] for s in manifest["systems"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected benchmark, settings and systems in {folder / 'manifest.json'}, but it lacks or garbles {error}; "
            "run `mta4dpr-bench run` again to rewrite it"
        ) from error
    return run


def _own(run: FinishedRun, benchmark: str) -> bool:
    return run.benchmark == benchmark and REFERENCE not in run.folder.parents


def _unfit(run: FinishedRun, benchmarks: Sequence[str], eval_sets: Sequence[str]) -> str:
    """Why no table can show that run; '' when one can."""
    limit = run.manifest["settings"]["limit"]
    if limit is not None:
        return f"it has the first {limit} queries only (--limit), which is not comparable"
    if run.benchmark not in benchmarks and not {s.id for s in run.board.eval_sets} & set(eval_sets):
        return f"no table shows the benchmark {run.benchmark}"
    return ""


def _over_seeds(runs: Sequence[FinishedRun]) -> list[Measurement]:
    """Runs of one benchmark may differ in their seed alone. A system that no training made has a value, not a deviation."""
    firsts: dict[str, FinishedRun] = {}
    cells: dict[tuple[str, str, str, str], dict[int, tuple[FinishedRun, ScoreRow]]] = {}
    for run in runs:
        first = firsts.setdefault(run.benchmark, run)
        refuse_other_settings(run.folder, run.manifest, first.folder, first.manifest)
        for row in run.board.rows:
            by_seed = cells.setdefault((run.benchmark, row.eval_set, row.system, row.measure), {})
            if run.seed in by_seed:
                raise UserError(
                    f"{by_seed[run.seed][0].folder} and {run.folder} both have {row.system} on {row.eval_set} with seed {run.seed}; "
                    "name with --runs the folders to show"
                )
            by_seed[run.seed] = (run, row)
    return [_mean(key, by_seed) for key, by_seed in cells.items()]


def _mean(key: tuple[str, str, str, str], by_seed: dict[int, tuple[FinishedRun, ScoreRow]]) -> Measurement:
    benchmark, eval_set, system, measure = key
    rows = [row for _, row in by_seed.values()]
    if len({row.queries for row in rows}) > 1:
        folders = ", ".join(str(run.folder) for run, _ in by_seed.values())
        raise UserError(f"{system} was measured on different numbers of queries of {eval_set} in {folders}; evaluate these runs again")
    run = next(run for run, _ in by_seed.values())
    trained = run.manifest["systems"][system]["strategy"] is not None
    return Measurement(
        benchmark=benchmark,
        eval_set=eval_set,
        system=system,
        measure=measure,
        value=statistics.fmean(row.value for row in rows),
        std=statistics.stdev(row.value for row in rows) if trained and len(rows) > 1 else None,
        seeds=tuple(sorted(by_seed)),
        queries=rows[0].queries,
        passages=run.manifest.get("passages"),
        titled=next((e.titled for e in run.board.eval_sets if e.id == eval_set), None),
    )
