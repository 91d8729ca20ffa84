"""The run file of one system on one eval set, found by one process or by all of a launch together."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr import environment
from mta4dpr.benchmark import EvalSet
from mta4dpr.files import file_name, key_of, read_json
from mta4dpr.identities import identity
from mta4dpr.ir_metadata import write_ir_metadata
from mta4dpr.manifest import note_run_file
from mta4dpr.opened import Run
from mta4dpr.request import System
from mta4dpr.retrievers import open_retriever

if TYPE_CHECKING:
    from mta4dpr.retrieval.hits import Hits

log = logging.getLogger(__name__)


def search_stage(system: System, eval_set: EvalSet) -> str:
    return f"search {system.label} {eval_set.id}"


def search_inputs(opened: Run, system: System, eval_set: EvalSet) -> Any:
    full = opened.eval_sets[eval_set.id]
    return [
        identity(opened, system),
        opened.corpus.text_hash,
        key_of(full.texts),
        list(opened.limited(full).texts),
        opened.bench.depth,
        opened.exclude_self,
    ]


def search(opened: Run, system: System, eval_set: EvalSet) -> None:
    """The run file of one system on one eval set."""
    full = opened.eval_sets[eval_set.id]
    wanted = opened.limited(full)
    path = opened.folder / "runs" / file_name(eval_set.id) / f"{file_name(system.label)}.trec"
    stage, inputs = search_stage(system, eval_set), search_inputs(opened, system, eval_set)
    if opened.ledger.is_done(stage, inputs):
        return
    from mta4dpr.evaluation.trecrun import RunWriter

    with opened.ledger.stage(stage, inputs, by=opened.launch) as outputs:
        retriever: Any = open_retriever(opened, system)
        excluded, started = 0, time.perf_counter()
        with RunWriter(path, tag=file_name(system.label)) as writer:
            query_ids = iter(wanted.texts)
            for hits in _all_hits(opened, retriever, system, eval_set):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    query_id = next(query_ids)
                    ids, kept = opened.corpus.ids(passages[passages >= 0]), scores[passages >= 0]
                    if opened.exclude_self and query_id in ids:
                        place = ids.index(query_id)
                        del ids[place]
                        kept = np.delete(kept, place)
                        excluded += 1
                    writer.write(query_id, ids[: opened.bench.depth], kept[: opened.bench.depth])
        record = note_run_file(opened, path, system, eval_set)
        outputs += [path, write_ir_metadata(path, read_json(opened.folder / "manifest.json"), record)]
        pairs = len(wanted.texts) * len(opened.corpus)
        if system.kind == "lexical":
            opened.rates.note("bm25", pairs, time.perf_counter() - started)
        elif opened.bench.dense.is_shared and not opened.launch:  # plan counts exact search by one process
            opened.rates.note("search", 2.0 * pairs * retriever.vectors.dimensions, time.perf_counter() - started)
    if excluded:
        log.info("%s, %s: %d passages with their query's own id are left out", system.label, eval_set.id, excluded)


def search_along(opened: Run, system: System, eval_set: EvalSet) -> None:
    """What a process that is not the main one does of a search: its part of the passages."""
    retriever: Any = open_retriever(opened, system)
    texts = list(opened.eval_sets[eval_set.id].texts.values())
    _search_part(opened, system, eval_set, _query_vectors(retriever, texts)[: _asked(opened, eval_set)])


def _all_hits(opened: Run, retriever: Any, system: System, eval_set: EvalSet) -> Iterator[Hits]:
    """Hits of the queries asked for. Vectors are made of all texts, so that a score does not depend on --limit."""
    from mta4dpr.retrieval.dense import DenseRetriever

    texts, asked, k = list(opened.eval_sets[eval_set.id].texts.values()), _asked(opened, eval_set), _hits_wanted(opened)
    if not isinstance(retriever, DenseRetriever):
        yield from retriever.search(texts[:asked], k)
        return
    cut = retriever.encoder.query_tokens(texts).truncated(retriever.encoder.reading.query_length)
    if cut:
        log.info("%s: %d of %d queries are cut to %d tokens", retriever.label, cut, len(texts), retriever.encoder.reading.query_length)
    vectors = _query_vectors(retriever, texts)[:asked]
    if not opened.launch or not opened.bench.dense.is_shared:  # alone
        yield from retriever.search_vectors(vectors, k)
        return
    _search_part(opened, system, eval_set, vectors)
    folder = _parts_folder(opened, system, eval_set)
    yield from retriever.index.merged_parts(asked, k, folder, parts=environment.process_count())
    shutil.rmtree(folder)


def _search_part(opened: Run, system: System, eval_set: EvalSet, vectors: np.ndarray) -> None:
    """This process's part of the passages, searched into files that the main one merges."""
    retriever: Any = open_retriever(opened, system)
    folder, part, parts = _parts_folder(opened, system, eval_set), environment.process_rank(), environment.process_count()
    retriever.index.search_part(vectors, _hits_wanted(opened), folder, part=part, parts=parts)


def _query_vectors(retriever: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(retriever.encoder.encode_queries(texts))


def _parts_folder(opened: Run, system: System, eval_set: EvalSet) -> Path:
    """Named by the launch: what a killed one left there is of no use."""
    return opened.folder / f".parts-{opened.launch}" / file_name(f"{system.label} {eval_set.id}")


def _asked(opened: Run, eval_set: EvalSet) -> int:
    return len(opened.limited(opened.eval_sets[eval_set.id]).texts)


def _hits_wanted(opened: Run) -> int:
    return opened.bench.depth + opened.exclude_self
