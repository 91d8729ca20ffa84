"""Measures what the machine decides of a system, for efficiency.json: bytes, rates, and the time of single queries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from mta4dpr.evaluation.efficiency import energy_used, time_calls
from mta4dpr.experiment.experiment import Experiment
from mta4dpr.experiment.ledger import StageName
from mta4dpr.experiment.systems import System
from mta4dpr.machine.files import read_json, write_json
from mta4dpr.machine.work import StageKind
from mta4dpr.stages import indexing
from mta4dpr.stages.stage import Stage

QUERIES, WARMUP = 100, 3  # so that the 99th percentile is not the slowest of a few


def latency(experiment: Experiment, system: System, *, needs: tuple[StageName, ...]) -> Stage:
    """The stage, over queries of the first eval set."""
    return Stage(
        StageName(StageKind.LATENCY, system.label),
        partial(indexing.inputs, experiment, system),
        partial(_measure, experiment, system),
        needs,
    )


def _measure(experiment: Experiment, system: System, outputs: list[Path]) -> None:
    engine, folder, bench = experiment.open_engine(system), experiment.folder, experiment.bench
    texts = list(experiment.limited(experiment.eval_sets[bench.eval_sets[0].id]).texts.values())
    sample = texts[:: max(1, len(texts) // QUERIES)][:QUERIES]
    warmup = min(WARMUP, len(sample))

    def search(text: str) -> Any:
        return list(engine.search([text], bench.depth))

    with energy_used() as joules:
        timing = time_calls(search, sample, warmup=warmup)
    entry = {
        "index_bytes": engine.bytes,
        "encode_passages_per_second": engine.passages_per_second,
        "query_ms": {"p50": timing.p50_ms, "p95": timing.p95_ms, "p99": timing.p99_ms, "calls": timing.calls},
        "training_seconds": experiment.ledger.seconds(StageName(StageKind.TRAIN, system.label)) if system.recipe else None,
    }
    if joules:
        entry["query_joules"] = {part: value / (len(sample) + warmup) for part, value in joules.items()}
    if folder.energy(system.label).exists():
        entry["training_joules"] = read_json(folder.energy(system.label))
    document = read_json(folder.efficiency) if folder.efficiency.exists() else {"systems": {}}
    document["systems"][system.label] = entry
    write_json(folder.efficiency, document)
