"""A suite: collections of their own on which a benchmark's systems are tried too, and the mean of one measure over them.

Each collection that is here gets a run of its own inside the benchmark's folder, by the same stages as any; students come as the
models that the benchmark has trained. Their means are one more eval set, whose "queries" are the collections.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import Suite, parse_benchmark
from mta4dpr.data.collection import IrDataset, QuerySet, open_source
from mta4dpr.data.downloads import downloads_of
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.evaluation.measures import Evaluation
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.folder import Folder
from mta4dpr.machine.files import file_name, read_json, sha256_of_file

log = logging.getLogger(__name__)

BRING = "`mta4dpr-bench run ID --systems bm25` brings one"


def at_hand(name: str, suite: Suite) -> list[str]:
    """The sets whose files are on this machine. EnvironmentLack when there is none."""
    here = [one for one in suite.sets if _is_here(one)]
    if not here:
        raise EnvironmentLack(f"none of the {len(suite.sets)} collections of {name} is here ({', '.join(suite.sets)}); {BRING}")
    return here


def _is_here(set_id: str) -> bool:
    source = open_source(set_id, name=set_id, max_passages=None)
    if not isinstance(source, IrDataset):
        raise UserError(f"a suite is made of ir_datasets ids, found {set_id!r}; give its eval sets as a benchmark of its own")
    return all(download.here for download in downloads_of([*source.parts(), *source.parts(set_id)]))


def about(name: str, suite: Suite) -> dict[str, Any]:
    """What manifest.json says of a suite, in the shape of an eval set."""
    here = at_hand(name, suite)
    lacking = [one for one in suite.sets if one not in here]
    if lacking:
        log.info("%s: %d of %d collections are here; not %s (%s)", name, len(here), len(suite.sets), ", ".join(lacking), BRING)
    return {
        "id": name,
        "measures": [suite.measure],
        "primary": suite.measure,
        "expected": [],
        "suite": here,
        "note": f"{name}: mean {suite.measure} over {len(here)} of {len(suite.sets)} collections, each weighing the same "
        f"({', '.join(here)}); its rows count collections as queries, and training queries are not checked against theirs.",
    }


def member(experiment: Experiment, suite: str, set_id: str) -> Experiment:
    """The experiment on one collection, with the benchmark's systems and settings; students must have been trained."""
    folder, bench = experiment.folder, experiment.bench
    systems = tuple(s.as_trained(folder.model(s.label)) if s.recipe else s for s in experiment.systems)
    document = {
        "name": file_name(set_id),
        "title": f"{set_id} ({suite})",
        "corpus": set_id,
        "eval_sets": [{"id": set_id, "measures": [bench.suites[suite].measure]}],
        "systems": [system.label for system in systems],
        "contrasts": [list(pair) for pair in bench.contrasts],
        **{name: getattr(bench, name).model_dump(exclude_unset=True) for name in ("bm25", "dense")},
        "depth": bench.depth,
    }
    alone = parse_benchmark(document, suite)
    source = open_source(set_id, name=alone.name, max_passages=None)
    inside = Folder(folder.collection(suite, set_id))
    return Experiment(experiment.request, alone, source, systems, inside, (set_id,), experiment.cache, suite=suite)


def hashes(folder: Folder, eval_sets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What the means are made of: the hash of each collection's leaderboard."""
    boards = [Folder(folder.collection(name, one)).leaderboard for name, found in eval_sets.items() for one in found.get("suite", ())]
    return {folder.relative(path): sha256_of_file(path) for path in boards if path.exists()}


def collections(name: str, found: Mapping[str, Any]) -> QuerySet | None:
    """A suite's collections as if they were queries, for those who show queries; None for any other eval set."""
    return QuerySet(name, {one: one for one in found["suite"]}, {}) if "suite" in found else None


def titled(folder: Folder, eval_sets: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Of each suite, whether any of its collections has titles."""
    return {
        name: any(board["eval_sets"][0]["titled"] for board in _boards(folder, name, found))
        for name, found in eval_sets.items()
        if "suite" in found
    }


def means(folder: Folder, name: str, found: Mapping[str, Any]) -> dict[str, Evaluation]:
    """{system: its value on each collection}; of a system that lacks one, no mean is given, which is told."""
    (measure,) = found["measures"]
    values: dict[str, list[float]] = {}
    for board in _boards(folder, name, found):
        for row in board["rows"]:
            if row["measure"] == measure:
                values.setdefault(row["system"], []).append(row["value"])
    lacking = [system for system, of_system in values.items() if len(of_system) < len(found["suite"])]
    if lacking:
        log.warning("%s: no mean of %s, which lack some of its collections; run them with --eval-sets %s", name, ", ".join(lacking), name)
    return {
        system: Evaluation(list(found["suite"]), {measure: np.array(of_system)}, missing_queries=0, ignored_queries=0, excluded=0)
        for system, of_system in values.items()
        if system not in lacking
    }


def _boards(folder: Folder, name: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The leaderboards of its collections, as far as they have not been removed."""
    paths = [Folder(folder.collection(name, one)).leaderboard for one in found["suite"]]
    return [read_json(path) for path in paths if path.exists()]
