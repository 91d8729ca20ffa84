"""What a user asked for, and the benchmark that it names. Nothing is written or downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mta4dpr.config import yaml_files
from mta4dpr.config.benchmark import Benchmark, parse_benchmark
from mta4dpr.data.collection import BeirFolder, Source, judged_by_answers, open_source
from mta4dpr.errors import UserError, nearest
from mta4dpr.machine.files import file_name
from mta4dpr.machine.work import StageKind

ADHOC_MEASURES = ["nDCG@10", "RR@10", "R@100", "R@1000"]
REDO: dict[str, tuple[StageKind, ...]] = {  # what --redo takes, and the kinds of stages that are then done again, with their followers
    "data": (StageKind.EVALUATE,),
    StageKind.INDEX: (StageKind.INDEX, StageKind.ENCODE),  # an approximate index is built where vectors are made
    **{kind: (kind,) for kind in (StageKind.ENCODE, StageKind.TRAIN, StageKind.SEARCH, StageKind.LATENCY, StageKind.EVALUATE)},
}


@dataclass(frozen=True)
class Request:
    """What a user asked for, as it was typed."""

    benchmark: str
    systems: tuple[str, ...] = ()
    eval_sets: tuple[str, ...] = ()
    limit: int | None = None
    settings: tuple[str, ...] = ()
    output: Path | None = None
    device: str | None = None
    seed: int = 0
    redo: str | None = None
    offline: bool = False
    wait: bool = False
    tensorboard: bool = False


def resolve_benchmark(request: Request) -> tuple[Benchmark, Source, list[str]]:
    """The benchmark of that name, YAML, ir_datasets id or BEIR folder, with the user's settings; its source; all its eval sets.

    --eval-sets chooses what is evaluated; training queries must not occur in any eval set, chosen or not.
    """
    name, settings = request.benchmark, yaml_files.parse_settings(list(request.settings))
    bench = yaml_files.load_benchmark(name, settings)
    if bench is None:
        bench, source = _adhoc(request, settings)
        return bench, source, [eval_set.id for eval_set in bench.eval_sets]
    every = [eval_set.id for eval_set in bench.eval_sets]
    source = open_source(bench.corpus, name=bench.name, max_passages=bench.max_passages)
    if request.eval_sets:
        known = {e.id: e for e in bench.eval_sets}
        names = [*known, *bench.suites]
        unknown = [e for e in request.eval_sets if e not in names]
        if unknown:
            raise UserError(
                f"benchmark {bench.name} has no eval set {unknown[0]!r}{nearest(unknown[0], names)}; it has: {', '.join(names)}"
            )
        bench = bench.model_copy(update={"eval_sets": [known[e] for e in request.eval_sets if e in known]})
    bench = bench.model_copy(update={"suites": {name: suite for name, suite in bench.suites.items() if name in request.eval_sets}})
    return bench, source, every


def _adhoc(request: Request, settings: dict[str, Any]) -> tuple[Benchmark, Source]:
    """A benchmark made of an ir_datasets id or a folder in BEIR's format."""
    name = request.benchmark
    if not os.path.isdir(name) and "/" not in name and name not in _ir_dataset_ids():
        valid = [*yaml_files.benchmark_names(), *_ir_dataset_ids()]
        raise UserError(
            f"there is no benchmark {name!r}{nearest(name, valid)}; expected one of {', '.join(yaml_files.benchmark_names())}, "
            "a YAML file, an ir_datasets id with docs, queries and qrels, or a folder in BEIR's format"
        )
    source = open_source(name, name=name, max_passages=None)
    if isinstance(source, BeirFolder):
        eval_sets = [f"{source.name}/{split}" for split in _splits(source, request.eval_sets)]
        title = f"{source.name} (a folder in BEIR's format)"
    else:
        eval_sets = list(request.eval_sets) or [name]
        title = f"{name} (ir_datasets)"
    if "distill" in settings:
        raise UserError(f"distill options have no effect on {name!r}, where nothing is trained; give a benchmark's name or a YAML")
    document = yaml_files.merge(
        {
            "name": file_name(source.name if isinstance(source, BeirFolder) else name),
            "title": title,
            "corpus": name,
            "exclude_self": source.exclude_self,
            "systems": ["bm25"],
            "eval_sets": [{"id": e, "measures": usual_measures(source, e)} for e in eval_sets],
        },
        settings,
    )
    return parse_benchmark(document, name), source


def usual_measures(source: Source, eval_set: str) -> list[str]:
    """What is reported of an eval set that no benchmark says it of."""
    from mta4dpr.evaluation.answered import USUAL

    return USUAL if judged_by_answers(source, eval_set) else ADHOC_MEASURES


def _splits(source: BeirFolder, wanted: Sequence[str]) -> list[str]:
    splits = source.splits()
    if not splits:
        raise UserError(f"{source.folder} has no qrels/SPLIT.tsv; a run needs judgements")
    evaluable = [split for split in splits if split != "train"] or splits
    chosen = [name.removeprefix(f"{source.name}/") for name in wanted] or (["test"] if "test" in splits else evaluable)
    for split in chosen:
        if split not in splits:
            raise UserError(f"{source.folder} has no split {split!r}{nearest(split, splits)}; it has: {', '.join(splits)}")
        if split == "train":
            raise UserError(f"{source.folder}: the split train is never evaluated; it has: {', '.join(splits)}")
    if not wanted and "test" not in splits and len(evaluable) > 1:
        raise UserError(f"{source.folder} has no split test; choose with --eval-sets from: {', '.join(evaluable)}")
    return chosen


def _ir_dataset_ids() -> list[str]:
    import ir_datasets

    return [str(name) for name in ir_datasets.registry]


def output_folder(request: Request, bench: Benchmark) -> Path:
    """--output, or runs/BENCH; a limited run has a folder of its own."""
    return request.output or Path("runs") / (bench.name + (f"-limit-{request.limit}" if request.limit else ""))
