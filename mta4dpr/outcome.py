"""What the run files of a run are worth: leaderboard.json and per-query values, then tables, plots and page."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr import suite
from mta4dpr.evaluation.efficiency import peak_memory_bytes
from mta4dpr.files import read_json, sha256_of_file, write_json
from mta4dpr.ledger import stage_shares
from mta4dpr.opened import Run

if TYPE_CHECKING:
    from mta4dpr.data.collection import QuerySet
    from mta4dpr.data.corpus import Corpus
    from mta4dpr.evaluation.measures import Evaluation

log = logging.getLogger(__name__)


def _run_files(opened: Run) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """(system, eval set) -> run file and its record, of every search that this folder's ledger knows. A run file is the first output."""
    return {
        (stage.split(" ", 2)[1], stage.split(" ", 2)[2]): next(iter(record["outputs"].items()))
        for stage, record in opened.ledger.stages.items()
        if stage.startswith("search ") and record["status"] == "done"
    }


def evaluate_inputs(opened: Run, manifest: dict[str, Any]) -> Any:
    hashes = {f"{system} {eval_set}": about["sha256"] for (system, eval_set), (_, about) in _run_files(opened).items()}
    hashes.update(suite.hashes(opened.folder, manifest["eval_sets"]))
    return [hashes, *(manifest[key] for key in ("eval_sets", "contrasts", "systems", "notes", "title"))]


def evaluate(opened: Run, manifest: dict[str, Any]) -> None:
    """leaderboard.json and per_query/ from every run file that this folder's ledger knows, those of earlier commands included."""
    from mta4dpr.evaluation.leaderboard import leaderboard
    from mta4dpr.evaluation.per_query import per_query_file, write_per_query

    manifest["systems"] = read_json(opened.folder / "manifest.json")["systems"]
    files, inputs = _run_files(opened), evaluate_inputs(opened, manifest)
    if opened.ledger.is_done("evaluate", inputs):
        return
    with opened.ledger.stage("evaluate", inputs) as outputs:
        evaluations: dict[str, dict[str, Evaluation]] = {}
        for eval_set_id, about in manifest["eval_sets"].items():
            if "suite" in about:
                means = suite.means(opened.folder, eval_set_id, about)
                evaluations |= {eval_set_id: means} if means else {}
                continue
            query_set = opened.limited(opened.query_set(eval_set_id))
            for system in manifest["systems"]:
                if (system, eval_set_id) in files:
                    found = evaluate_run(opened.folder / files[system, eval_set_id][0], query_set, about["measures"], opened.corpus)
                    evaluations.setdefault(eval_set_id, {})[system] = found
        for eval_set_id, of_systems in evaluations.items():
            for system, found in of_systems.items():
                place = per_query_file(opened.folder, eval_set_id, system)
                write_per_query(place, found.query_ids, found.values)
                outputs.append(place)
        titled = {name: opened.corpus.titled for name in evaluations} | suite.titled(opened.folder, manifest["eval_sets"])
        document = leaderboard(manifest, evaluations, titled=titled, teacher=opened.bench.teacher)
        write_json(opened.folder / "leaderboard.json", document)
        outputs.append(opened.folder / "leaderboard.json")
    for line in document["expected"]:
        log.info(
            "%s on %s: %s %.4f, published %.4f (%s): %s",
            line["system"],
            line["eval_set"],
            line["measure"],
            line["value"],
            line["published"],
            line["source"],
            line["verdict"],
        )


def evaluate_run(path: Path, query_set: QuerySet, measures: Sequence[str], corpus: Corpus) -> Evaluation:
    """A run file of ours; one without a single hit is worth 0 everywhere."""
    from mta4dpr.evaluation.answered import judge
    from mta4dpr.evaluation.measures import Evaluation, evaluate, parse_measures
    from mta4dpr.evaluation.trecrun import read_run

    if path.stat().st_size == 0:
        judged = list(query_set.qrels)
        zeros = {measure: np.zeros(len(judged)) for measure in measures}
        return Evaluation(judged, zeros, missing_queries=len(judged), ignored_queries=0, excluded=0)
    run, wanted = read_run(path), parse_measures(measures)
    qrels = judge(run, query_set.answers, corpus, wanted)[0] if query_set.answers else query_set.qrels
    return evaluate(run, qrels, wanted)


def report_inputs(opened: Run) -> Any:
    return [sha256_of_file(opened.folder / "leaderboard.json"), "with texts.json"]


def report(opened: Run) -> None:
    """Texts of the queries that differ most, then tables, plots and page from what the stages left."""
    from mta4dpr.report import write_report
    from mta4dpr.report.texts import write_texts

    inputs = report_inputs(opened)
    if opened.ledger.is_done("report", inputs):
        return
    with opened.ledger.stage("report", inputs) as outputs:
        path = opened.folder / "efficiency.json"
        document = read_json(path) if path.exists() else {"systems": {}}
        before = document.get("peak_memory_bytes", 0)
        document.update(
            {
                "stages": stage_shares(opened.ledger),
                "peak_memory_bytes": max(before, peak_memory_bytes()),
                "threads": opened.threads,
                "device": opened.__dict__.get("device") or document.get("device"),
            }
        )
        write_json(path, document)
        eval_sets = read_json(opened.folder / "manifest.json")["eval_sets"]
        query_sets = {name: suite.collections(name, about) or opened.limited(opened.query_set(name)) for name, about in eval_sets.items()}
        runs = {key: opened.folder / name for key, (name, _) in _run_files(opened).items()}
        outputs.append(write_texts(opened.folder, opened.corpus, query_sets, runs))
        write_report(opened.folder)
        outputs += [opened.folder / f"leaderboard.{suffix}" for suffix in ("csv", "md", "tex", "html")]
