"""What the run files of an experiment are worth: leaderboard.json and per-query values."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.collection import QuerySet
from mta4dpr.data.corpus import Corpus
from mta4dpr.evaluation.answered import judge
from mta4dpr.evaluation.leaderboard import leaderboard
from mta4dpr.evaluation.measures import Evaluation, evaluate, parse_measures
from mta4dpr.evaluation.per_query import write_per_query
from mta4dpr.evaluation.trecrun import read_run
from mta4dpr.experiment import suite
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.machine.files import write_json
from mta4dpr.machine.work import PYTHON, Piece, StageKind
from mta4dpr.planning.sizes import Sizes
from mta4dpr.stages.stage import Stage

log = logging.getLogger(__name__)

HIT = 25  # bytes in memory of a hit that is evaluated


def evaluation(experiment: Experiment, *, needs: tuple[StageName, ...]) -> Stage:
    """The stage, over every run file that the folder's ledger knows, those of earlier commands included."""
    return Stage(
        StageName(StageKind.EVALUATE),
        partial(_inputs, experiment),
        partial(_evaluate, experiment),
        needs,
        pieces=partial(_pieces, experiment),
    )


def run_files(experiment: Experiment) -> dict[tuple[str, str], tuple[Path, str]]:
    """{(system, eval set): (run file, its SHA-256)} of every search that is done. A run file is the first output of its stage."""
    done = experiment.ledger.outputs(StageKind.SEARCH)
    first = {(name.system, name.eval_set): next(iter(outputs.items())) for name, outputs in done.items()}
    return {key: (experiment.folder.path / file, about["sha256"]) for key, (file, about) in first.items()}


def _inputs(experiment: Experiment) -> Any:
    manifest = experiment.manifest.document
    hashes = {f"{system} {eval_set}": sha256 for (system, eval_set), (_, sha256) in run_files(experiment).items()}
    hashes.update(suite.hashes(experiment.folder, manifest["eval_sets"]))
    return [hashes, *(manifest[key] for key in ("eval_sets", "contrasts", "systems", "notes", "title"))]  # type: ignore[literal-required]


def _evaluate(experiment: Experiment, outputs: list[Path]) -> None:
    manifest, folder, files = experiment.manifest.document, experiment.folder, run_files(experiment)
    evaluations: dict[str, dict[str, Evaluation]] = {}
    for eval_set_id, about in manifest["eval_sets"].items():
        if "suite" in about:
            means = suite.means(folder, eval_set_id, about)
            evaluations |= {eval_set_id: means} if means else {}
            continue
        query_set = experiment.limited(experiment.query_set(eval_set_id))
        for system in manifest["systems"]:
            if (system, eval_set_id) in files:
                values = evaluate_run(files[system, eval_set_id][0], query_set, about["measures"], experiment.corpus)
                evaluations.setdefault(eval_set_id, {})[system] = values
    for eval_set_id, of_systems in evaluations.items():
        for system, values in of_systems.items():
            path = folder.per_query(system, eval_set_id)
            write_per_query(path, values.query_ids, values.values)
            outputs.append(path)
    titled = {name: experiment.corpus.titled for name in evaluations} | suite.titled(folder, manifest["eval_sets"])
    document = leaderboard(manifest, evaluations, titled=titled, teacher=experiment.bench.teacher)
    write_json(folder.leaderboard, document)
    outputs.append(folder.leaderboard)
    for line in document["expected"]:
        log.info(
            "%s on %s: %s %.4f, published %.4f (%s): %s",
            *(line[key] for key in ("system", "eval_set", "measure", "value", "published", "source", "verdict")),
        )


def evaluate_run(path: Path, query_set: QuerySet, measures: Sequence[str], corpus: Corpus) -> Evaluation:
    """The values of a run file of ours; one without a single hit is worth 0 everywhere."""
    if path.stat().st_size == 0:
        judged = list(query_set.qrels)
        zeros = {measure: np.zeros(len(judged)) for measure in measures}
        return Evaluation(judged, zeros, missing_queries=len(judged), ignored_queries=0, excluded=0)
    run, wanted = read_run(path), parse_measures(measures)
    qrels = judge(run, query_set.answers, corpus, wanted)[0] if query_set.answers else query_set.qrels
    return evaluate(run, qrels, wanted)


def _pieces(experiment: Experiment, sizes: Sizes) -> Iterator[Piece]:
    queries = sum(sizes.eval_queries(eval_set.id) for eval_set in experiment.bench.eval_sets)
    yield Piece("evaluate and report", memory=PYTHON + HIT * queries * experiment.bench.depth, thing=("leaderboard",))
