"""`run` from data to leaderboard: resolves names, then goes through the stages in order.

    read the corpus -> for each system: train it (students), index or encode, search every eval set, time it -> evaluate -> report

What is shared between runs (corpus stores, indexes, tokens, vectors) is kept in the cache; what belongs to this run is in
its folder, and ledger.json says which of it is done. Reads like the method; how a stage works is in the module it calls.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from mta4dpr import environment, suite
from mta4dpr.errors import UserError
from mta4dpr.evaluation.efficiency import peak_memory_bytes
from mta4dpr.files import file_name
from mta4dpr.identities import training_inputs
from mta4dpr.indexing import measure_latency, prepare, prepare_inputs, prepare_stage
from mta4dpr.ledger import Ledger, locked, stage_shares
from mta4dpr.manifest import manifest_of, noted
from mta4dpr.opened import Run, open_run
from mta4dpr.outcome import evaluate, evaluate_inputs, report, report_inputs
from mta4dpr.planning.stages import check_disk
from mta4dpr.request import Request
from mta4dpr.retrievers import open_retriever
from mta4dpr.searching import search, search_along, search_inputs, search_stage
from mta4dpr.students import distil_student, train, training_seconds

log = logging.getLogger(__name__)


def run(request: Request) -> Path:
    """Everything from data to leaderboard; the same request again goes on where it stopped. Returns the run's folder."""
    return complete(open_run(request))


def complete(opened: Run) -> Path:
    """All stages of an open run that are not done yet. Returns its folder."""
    _ready(opened)
    if not environment.is_main_process():
        _work_along(opened)
    else:
        _run(opened)
    return opened.folder


def _run(opened: Run) -> None:
    with locked(opened.folder, wait=opened.request.wait):
        manifest = manifest_of(opened)
        if opened.request.redo:
            _redo(opened)
        if _is_complete(opened, manifest):
            log.info("everything is done already in %s", opened.folder)
            return
        with noted(opened, manifest):
            for system in opened.systems:
                if system.recipe:
                    train(opened, system, system.recipe)
                prepare(opened, system)
                for eval_set in opened.bench.eval_sets:
                    search(opened, system, eval_set)
                measure_latency(opened, system)
            for member in _members(opened, manifest):
                _run(member)
            evaluate(opened, manifest)
            report(opened)
            for left in opened.folder.glob(".parts-*"):  # by this launch, or by one that was killed
                shutil.rmtree(left, ignore_errors=True)
    shares = ", ".join(f"{stage['stage']} {stage['share']:.0%}" for stage in stage_shares(opened.ledger))
    log.info("time by stage: %s; peak memory %s", shares, environment.gigabytes(peak_memory_bytes()))


def _members(opened: Run, manifest: dict[str, Any]) -> list[Run]:
    """The runs of the collections of the suites asked for."""
    return [suite.member(opened, name, one) for name in opened.bench.suites for one in manifest["eval_sets"][name]["suite"]]


def train_students(request: Request) -> dict[str, Any]:
    """Students only, into the folder of `run`; says of each where it is and what it is worth on D_eval."""
    from mta4dpr.distill.training_folder import finished_rounds

    opened = open_run(request)
    students = [(system, system.recipe) for system in opened.systems if system.recipe]
    untrained = [system.label for system in opened.systems if not system.recipe]
    if request.systems and untrained:
        raise UserError(f"{', '.join(untrained)} cannot be trained; `mta4dpr-bench list strategies` names what can")
    if not students:
        raise UserError(f"{opened.bench.name} has no student to train; name one with --strategy")
    _ready(opened)
    if not environment.is_main_process():
        _work_along(opened, only_train=True)
        return {}
    with locked(opened.folder, wait=request.wait):
        manifest = manifest_of(opened)
        if request.redo:
            _redo(opened)
        if all(opened.ledger.is_done(f"train {system.label}", training_inputs(opened, recipe)) for system, recipe in students):
            log.info("all of them are trained already in %s", opened.folder)
        else:
            with noted(opened, manifest):
                for system, recipe in students:
                    train(opened, system, recipe)
    rows = []
    for system, recipe in students:
        last = (finished_rounds(opened.training_folder(system)) or [{}])[-1]  # training/ may be deleted once it is done
        rows.append(
            {
                "system": system.label,
                "strategy": recipe.strategy,
                "model": str(opened.folder / "models" / file_name(system.label)),
                "steps": recipe.distill.steps,
                "rounds": recipe.distill.rounds,
                "measure": recipe.distill.compare_measure,
                "d_eval": last.get("student"),
                "seconds": training_seconds(opened, system),
            }
        )
    return {"students": rows}


def _ready(opened: Run) -> None:
    """What must be so before a folder is made or locked, or a file is downloaded."""
    for name, one in opened.bench.suites.items():
        suite.at_hand(name, one)
    if environment.is_main_process():
        check_disk(opened)
    opened.eval_sets  # noqa: B018 (queries that cannot be read stop the run before it makes a folder)
    if opened.request.redo and environment.process_count() > 1:
        raise UserError("--redo takes one process; run it once without torchrun, then start the processes")
    opened.launch  # noqa: B018 (the processes meet before one of them waits for files)


def _work_along(opened: Run, *, only_train: bool = False) -> None:
    """What a process that is not the main one does: it trains, encodes and searches with it, and waits for its files in between."""
    for system in opened.systems:
        if system.recipe and _has_begun(opened, f"train {system.label}", training_inputs(opened, system.recipe)):
            distil_student(opened, system, system.recipe)
        if only_train or system.kind == "lexical":
            continue
        if _has_begun(opened, prepare_stage(system), prepare_inputs(opened, system)):
            open_retriever(opened, system)
        for eval_set in opened.bench.eval_sets if opened.bench.dense.is_shared else []:
            if _has_begun(opened, search_stage(system, eval_set), search_inputs(opened, system, eval_set)):
                search_along(opened, system, eval_set)


def _has_begun(opened: Run, stage: str, inputs: Any) -> bool:
    """Waits until the main process of this launch is at that stage: True; or until the stage is done: False."""
    while True:
        ledger = Ledger(opened.folder)
        if ledger.is_done(stage, inputs):
            return False
        if ledger.is_running(stage, inputs, by=opened.launch):
            return True
        time.sleep(0.5)


def _is_complete(opened: Run, manifest: dict[str, Any]) -> bool:
    """Whether every stage of this request is done, so that nothing need be loaded or written."""
    ledger = opened.ledger
    return (
        all(ledger.is_done(f"train {s.label}", training_inputs(opened, s.recipe)) for s in opened.systems if s.recipe)
        and all(ledger.is_done(prepare_stage(s), prepare_inputs(opened, s)) for s in opened.systems)
        and all(ledger.is_done(search_stage(s, e), search_inputs(opened, s, e)) for s in opened.systems for e in opened.bench.eval_sets)
        and all(ledger.is_done(f"latency {s.label}", prepare_inputs(opened, s)) for s in opened.systems if opened.bench.eval_sets)
        and all(_is_complete(member, manifest_of(member)) for member in _members(opened, manifest))
        and ledger.is_done("evaluate", evaluate_inputs(opened, manifest))
        and ledger.is_done("report", report_inputs(opened))
    )


def _redo(opened: Run) -> None:
    """Forgets what --redo names of the systems asked for, so that it and what follows from it is made again."""
    redo = opened.request.redo
    forgotten = ["evaluate"]
    if redo == "index":
        from mta4dpr.retrieval.bm25 import index_folder

        shutil.rmtree(index_folder(opened.cache, opened.corpus), ignore_errors=True)
    if redo == "train":
        for system in opened.systems:
            if system.recipe:
                shutil.rmtree(opened.training_folder(system), ignore_errors=True)
                forgotten.append(f"train {system.label}")
    if redo in ("index", "encode", "train"):
        forgotten += [prepare_stage(system) for system in opened.systems]
    if redo in ("index", "encode", "train", "latency"):
        forgotten += ["report", *(f"latency {system.label}" for system in opened.systems)]
    if redo in ("index", "encode", "train", "search"):
        forgotten += [search_stage(system, eval_set) for system in opened.systems for eval_set in opened.bench.eval_sets]
    opened.ledger.forget(forgotten)


def search_once(request: Request, query: str, hits: int) -> dict[str, Any]:
    """The top passages of one system for one query, with text: to look at what a system does."""
    opened = open_run(request)
    if len(opened.systems) != 1:
        raise UserError(f"search takes one system, found {', '.join(s.label for s in opened.systems)}")
    if hits < 1:
        raise UserError(f"--hits takes a number of at least 1, found {hits}")
    if not query.strip():
        raise UserError("--query is empty; give some words to search for")
    system = opened.systems[0]
    found = next(iter(open_retriever(opened, system).search([query], hits)))
    shown = []
    for rank, (number, score) in enumerate(zip(found.passages[0], found.scores[0], strict=True), start=1):
        if number >= 0:
            passage = opened.corpus.passage(int(number))
            shown.append({"rank": rank, "score": float(score), "id": passage.id, "title": passage.title, "text": passage.text})
    return {"query": query, "system": system.label, "hits": shown}
