"""Readies one system of a run for search: Lucene's index or kept vectors, and what is built over them; and times its queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mta4dpr.evaluation.efficiency import energy_used
from mta4dpr.files import file_name, read_json, write_json
from mta4dpr.identities import identity
from mta4dpr.manifest import manifest_entry
from mta4dpr.opened import Run
from mta4dpr.request import System
from mta4dpr.retrievers import open_retriever
from mta4dpr.students import training_seconds

LATENCY_QUERIES, LATENCY_WARMUP = 100, 3  # so that the 99th percentile is not the slowest of a few
RECALL_QUERIES = 100  # of the first eval set, for which an approximate index is compared with exact search


def prepare_stage(system: System) -> str:
    return f"{'index' if system.kind == 'lexical' else 'encode'} {system.label}"


def prepare_inputs(opened: Run, system: System) -> Any:
    return [identity(opened, system), opened.corpus.text_hash, opened.bench.dense.pyserini_index]


def prepare(opened: Run, system: System) -> None:
    """The system's index: Lucene's, or kept vectors and, if wanted, a FAISS index in Pyserini's layout."""
    stage, inputs = prepare_stage(system), prepare_inputs(opened, system)
    if opened.ledger.is_done(stage, inputs):
        return
    with opened.ledger.stage(stage, inputs, by=opened.launch) as outputs:
        retriever = open_retriever(opened, system)
        manifest = read_json(opened.folder / "manifest.json")
        manifest["systems"][system.label] = manifest_entry(system, retriever, opened.bench) | _about_index(opened, retriever)
        write_json(opened.folder / "manifest.json", manifest)
        if system.kind != "lexical" and opened.bench.dense.pyserini_index:
            from mta4dpr.retrieval.dense import DenseRetriever, write_faiss_index

            assert isinstance(retriever, DenseRetriever)
            folder = opened.folder / "indexes" / file_name(system.label)
            approximate = retriever.approximate.file if retriever.approximate else None
            write_faiss_index(folder, retriever.vectors, opened.corpus, approximate=approximate)
            outputs += [folder / "index", folder / "docid"]


def _about_index(opened: Run, retriever: Any) -> dict[str, Any]:
    """How an approximate index was built, and its recall against exact search on queries of the first eval set."""
    from mta4dpr.retrieval.approximate import recall

    approximate = getattr(retriever, "approximate", None)
    if approximate is None or not opened.bench.eval_sets:  # a suite alone: its collections have their own rows
        return {}
    first, depth = opened.bench.eval_sets[0], opened.bench.depth
    texts = list(opened.eval_sets[first.id].texts.values())
    sample = np.arange(0, len(texts), max(1, len(texts) // RECALL_QUERIES))[:RECALL_QUERIES]
    vectors = retriever.encoder.encode_queries(texts)[sample]
    found = {"recall": recall(approximate, retriever.index, vectors, depth), "recall_depth": depth, "recall_queries": len(sample)}
    return {"index": {**opened.bench.dense.of_search(), **approximate.about, **found}}


def measure_latency(opened: Run, system: System) -> None:
    """What the machine decides of a system, for efficiency.json: bytes, rates, and the time of single queries."""
    stage, inputs = f"latency {system.label}", prepare_inputs(opened, system)
    if opened.ledger.is_done(stage, inputs) or not opened.bench.eval_sets:
        return
    from mta4dpr.evaluation.efficiency import time_calls
    from mta4dpr.retrieval.dense import DenseRetriever
    from mta4dpr.retrieval.vectors import passages_per_second

    with opened.ledger.stage(stage, inputs):
        retriever: Any = open_retriever(opened, system)
        texts = list(opened.limited(opened.eval_sets[opened.bench.eval_sets[0].id]).texts.values())
        sample = texts[:: max(1, len(texts) // LATENCY_QUERIES)][:LATENCY_QUERIES]
        call: Callable[[str], Any] = lambda text: list(retriever.search([text], opened.bench.depth))  # noqa: E731
        with energy_used() as joules:
            timing = time_calls(call, sample, warmup=(warmup := min(LATENCY_WARMUP, len(sample))))
        dense = isinstance(retriever, DenseRetriever)
        entry = {
            "index_bytes": (retriever.approximate or retriever.vectors).bytes
            if dense
            else sum(p.stat().st_size for p in retriever.folder.iterdir()),
            "encode_passages_per_second": passages_per_second(retriever.vectors.folder) if dense else None,
            "query_ms": {"p50": timing.p50_ms, "p95": timing.p95_ms, "p99": timing.p99_ms, "calls": timing.calls},
            "training_seconds": training_seconds(opened, system),
        }
        if joules:
            entry["query_joules"] = {part: value / (len(sample) + warmup) for part, value in joules.items()}
        if (energy := opened.training_folder(system) / "energy.json").exists():
            entry["training_joules"] = read_json(energy)
        path = opened.folder / "efficiency.json"
        document = read_json(path) if path.exists() else {"systems": {}}
        document["systems"][system.label] = entry
        write_json(path, document)
