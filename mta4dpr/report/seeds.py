"""Several runs of one benchmark with different seeds as one leaderboard: per-query values are averaged over the seeds first.

Reads what the runs left (manifest.json, per_query/); knows no model and no run file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import with_defaults
from mta4dpr.errors import UserError
from mta4dpr.evaluation.leaderboard import leaderboard
from mta4dpr.evaluation.measures import Evaluation
from mta4dpr.evaluation.per_query import read_per_query, write_per_query
from mta4dpr.experiment.folder import Folder
from mta4dpr.experiment.settings import differences
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.report import write_report

Seeds = dict[int, Evaluation]  # of one system on one eval set


def join(folders: Sequence[Path], output: Path) -> Path:
    """Writes the leaderboard over the seeds of `folders` to `output`. A trained student has a row over the seeds that it was run with."""
    runs = [(folder, read(Folder(folder).manifest), read(Folder(folder).leaderboard)) for folder in folders]
    first, manifest, board = runs[0]
    if (Folder(output).manifest).exists():
        raise UserError(f"{output} is the folder of a run, whose own leaderboard would be lost; choose another folder (--output DIR)")
    seeds = [about["settings"]["seed"] for _, about, _ in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"expected runs with different seeds, found the seeds {seeds}; leave out those that are there twice")
    for folder, about, _ in runs[1:]:
        refuse_other_settings(folder, about, first, manifest)
    found: dict[str, dict[str, Seeds]] = {}
    for folder, about, earlier in runs:
        for eval_set, systems in evaluations_of(folder, earlier).items():
            for system, evaluation in systems.items():
                found.setdefault(eval_set, {}).setdefault(system, {})[about["settings"]["seed"]] = evaluation
        manifest["systems"] = {**about["systems"], **manifest["systems"]}
    evaluations = {eval_set: {s: _mean(seeds) for s, seeds in systems.items()} for eval_set, systems in found.items()}
    teacher = next((s for s, about in manifest["systems"].items() if about["kind"] == "teacher"), "")
    document = leaderboard(manifest, evaluations, titled={one["id"]: one["titled"] for one in board["eval_sets"]}, teacher=teacher)
    for row in document["rows"]:
        by_seed = found[row["eval_set"]][row["system"]]
        values = [e.mean(row["measure"]) for e in by_seed.values()]
        trained = manifest["systems"][row["system"]]["strategy"] is not None
        row |= {"seeds": len(values) if trained else None, "std": float(np.std(values, ddof=1)) if trained and len(values) > 1 else None}
    document["seed"] = None
    document["seeds"] = sorted(seeds)
    output.mkdir(parents=True, exist_ok=True)
    for eval_set, systems in evaluations.items():
        for system, mean in systems.items():
            write_per_query(Folder(output).per_query(system, eval_set), mean.query_ids, mean.values)
    for name, joined in (("efficiency.json", _efficiency), ("texts.json", _texts)):
        known = {about["settings"]["seed"]: read_json(folder / name) for folder, about, _ in runs if (folder / name).exists()}
        if known:
            write_json(output / name, joined(known))
    write_json(Folder(output).leaderboard, document)
    write_report(output)
    return output


def read(path: Path) -> Any:
    """A JSON file of a run; UserError where it is lacking or broken."""
    if not path.exists():
        raise UserError(f"expected the folder of a finished run, found no {path.name} in {path.parent}")
    try:
        return read_json(path)
    except ValueError as error:
        raise UserError(f"expected JSON in {path}, found: {error}; run `mta4dpr-bench run` again to rewrite it") from error


def refuse_other_settings(folder: Path, about: dict[str, Any], first: Path, manifest: dict[str, Any]) -> None:
    """Runs may differ in the seed alone to be averaged."""
    keys = [key for key in differences(*(with_defaults(one["settings"]) for one in (about, manifest))) if key != "seed"]
    if keys or about["benchmark"] != manifest["benchmark"]:
        what = ", ".join(keys) or "the benchmark"
        raise UserError(f"{folder} and {first} are not runs of one benchmark with the same settings, {what} differs; leave one out")


def evaluations_of(folder: Path, board: dict[str, Any]) -> dict[str, dict[str, Evaluation]]:
    """{eval set: {system: its per-query values}} of a run's folder, whose leaderboard `board` is."""
    found: dict[str, dict[str, Evaluation]] = {}
    for (eval_set, system), missing in {(row["eval_set"], row["system"]): row["missing_queries"] for row in board["rows"]}.items():
        query_ids, values = read_per_query(Folder(folder).per_query(system, eval_set))
        found.setdefault(eval_set, {})[system] = Evaluation(query_ids, values, missing_queries=missing, ignored_queries=0, excluded=0)
    return found


def _efficiency(by_seed: dict[int, Any]) -> dict[str, Any]:
    """What each system cost in the first run that has it: times of different runs are not averaged, as the machine was not the same."""
    systems: dict[str, Any] = {}
    sessions: dict[str, Any] = {}
    for document in by_seed.values():
        systems = {**document.get("systems", {}), **systems}
        sessions = {**document.get("sessions", {}), **sessions}
    first, about = next(iter(by_seed.items()))
    machine = {key: about[key] for key in ("threads", "device", "peak_memory_bytes") if key in about}
    return {
        "systems": systems,
        "sessions": sessions,
        **machine,
        "note": f"Each system as it was measured in the first run that has it (seed {first} before others).",
    }


def _texts(by_seed: dict[int, Any]) -> dict[str, Any]:
    """The first run's: the text of queries is the same in all, found passages are those of one seed, which is said."""
    seed, texts = next(iter(by_seed.items()))
    return {**texts, "note": f"Passages as the run with seed {seed} found them; values are means over the seeds."}


def _mean(by_seed: Seeds) -> Evaluation:
    """Per-query values averaged over the seeds."""
    first, *others = by_seed.values()
    if any(other.query_ids != first.query_ids for other in others):
        raise UserError("the runs were evaluated on different queries; evaluate them again with the same eval sets and --limit")
    values = {measure: np.mean([e.values[measure] for e in by_seed.values()], axis=0) for measure in first.values}
    missing = max(e.missing_queries for e in by_seed.values())
    return Evaluation(first.query_ids, values, missing_queries=missing, ignored_queries=0, excluded=0)
