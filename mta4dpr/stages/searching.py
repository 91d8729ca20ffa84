"""Writes the run file of one system on one eval set, found by one process or by all of a launch together."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.config.benchmark import EvalSet
from mta4dpr.evaluation.trecrun import RunWriter
from mta4dpr.experiment.description import run_file_entry
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ir_metadata import write_ir_metadata
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.systems import System
from mta4dpr.machine import environment
from mta4dpr.machine.files import file_name, key_of
from mta4dpr.machine.places import OUTPUT
from mta4dpr.machine.work import Piece, StageKind
from mta4dpr.planning.sizes import Sizes
from mta4dpr.retrieval.hits import Hits, checked
from mta4dpr.stages.stage import Stage

log = logging.getLogger(__name__)

RUN_LINE = 48  # bytes of a line of a run file


def searching(experiment: Experiment, system: System, eval_set: EvalSet, *, needs: tuple[StageName, ...]) -> Stage:
    """The stage; where the engine is shared, each process of a launch searches a part of the passages."""
    return Stage(
        StageName(StageKind.SEARCH, system.label, eval_set.id),
        partial(_inputs, experiment, system, eval_set),
        partial(_search, experiment, system, eval_set),
        needs,
        along=partial(_search_part, experiment, system, eval_set) if experiment.engine(system).is_shared else None,
        pieces=partial(_pieces, experiment, system, eval_set),
    )


def _inputs(experiment: Experiment, system: System, eval_set: EvalSet) -> Any:
    full = experiment.eval_sets[eval_set.id]
    return [
        experiment.identity(system),
        experiment.corpus.text_hash,
        key_of(full.texts),
        list(experiment.limited(full).texts),
        experiment.bench.depth,
        experiment.exclude_self,
    ]


def _search(experiment: Experiment, system: System, eval_set: EvalSet, outputs: list[Path]) -> None:
    engine, corpus, depth = experiment.open_engine(system), experiment.corpus, experiment.bench.depth
    wanted = experiment.limited(experiment.eval_sets[eval_set.id])
    path = experiment.folder.run_file(system.label, eval_set.id)
    excluded, started = 0, time.perf_counter()
    with RunWriter(path, tag=file_name(system.label)) as writer:
        query_ids = iter(wanted.texts)
        for hits in _all_hits(experiment, system, eval_set):
            for passages, scores in zip(hits.passages, hits.scores, strict=True):
                query_id = next(query_ids)
                ids, kept = corpus.ids(passages[passages >= 0]), scores[passages >= 0]
                if experiment.exclude_self and query_id in ids:
                    place = ids.index(query_id)
                    del ids[place]
                    kept = np.delete(kept, place)
                    excluded += 1
                writer.write(query_id, ids[:depth], kept[:depth])
    if not (experiment.launch and engine.is_shared):  # a plan counts a search by one process
        engine.note_search(len(wanted.texts), time.perf_counter() - started)
    record = run_file_entry(experiment, system, eval_set)
    experiment.manifest.note_run_file(path, record)
    outputs += [path, write_ir_metadata(path, experiment.manifest.document, record)]
    if excluded:
        log.info("%s, %s: %d passages with their query's own id are left out", system.label, eval_set.id, excluded)


def _all_hits(experiment: Experiment, system: System, eval_set: EvalSet) -> Iterator[Hits]:
    """Hits of the queries asked for, with the scores that they have among all of the eval set."""
    engine, texts = experiment.open_engine(system), _texts(experiment, eval_set)
    asked, k = _asked(experiment, eval_set), _hits_wanted(experiment)
    if not experiment.launch or not engine.is_shared:
        yield from checked(engine.search_first(texts, asked, k), queries=asked, passages=len(experiment.corpus), label=system.label)
        return
    _search_part(experiment, system, eval_set)
    folder = _parts(experiment, system, eval_set)
    yield from engine.merged_parts(asked, k, folder, parts=environment.process_count())
    shutil.rmtree(folder)


def _search_part(experiment: Experiment, system: System, eval_set: EvalSet) -> None:
    """This process's part of the passages, searched into files that the main one merges."""
    engine, folder = experiment.open_engine(system), _parts(experiment, system, eval_set)
    part, parts = environment.process_rank(), environment.process_count()
    texts, asked = _texts(experiment, eval_set), _asked(experiment, eval_set)
    engine.search_part(texts, asked, _hits_wanted(experiment), folder, part=part, parts=parts)


def _texts(experiment: Experiment, eval_set: EvalSet) -> list[str]:
    return list(experiment.eval_sets[eval_set.id].texts.values())


def _parts(experiment: Experiment, system: System, eval_set: EvalSet) -> Path:
    return experiment.folder.parts(experiment.launch, f"{system.label} {eval_set.id}")


def _asked(experiment: Experiment, eval_set: EvalSet) -> int:
    return len(experiment.limited(experiment.eval_sets[eval_set.id]).texts)


def _hits_wanted(experiment: Experiment) -> int:
    return experiment.bench.depth + experiment.exclude_self


def _pieces(experiment: Experiment, system: System, eval_set: EvalSet, sizes: Sizes) -> Iterator[Piece]:
    engine, depth, texts = experiment.planned_engine(system), experiment.bench.depth, sizes.texts
    queries = sizes.eval_queries(eval_set.id)
    held = sum({type(other): other.held_memory for other in map(experiment.planned_engine, experiment.systems)}.values())
    yield Piece(
        "search",
        note=f"top {depth} of {queries:,} queries" if queries else f"top {depth}",
        disk={OUTPUT: float(RUN_LINE * queries * depth)},
        memory=engine.search_memory(sizes.queries(eval_set.id)[0], depth, texts) + held,
        work=engine.search_work(queries, texts),
        thing=("run file", system.label, eval_set.id),
        unit="run files",
    )
