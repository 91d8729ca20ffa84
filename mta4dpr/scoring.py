"""`evaluate`: anyone's run files against a dataset's judgements or a qrels file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.benchmark import benchmark_folder, benchmark_names, read_yaml
from mta4dpr.data.collection import load_qrels, open_source
from mta4dpr.errors import UserError
from mta4dpr.request import ADHOC_MEASURES


def evaluate_files(runfiles: Sequence[Path], *, dataset: str, qrels: Path | None, measures: str, per_query: bool) -> dict[str, Any]:
    """{"eval_set", "rows", "notes"} and, if wanted, "per_query"; values are unrounded fractions."""
    from mta4dpr.evaluation.leaderboard import measured
    from mta4dpr.evaluation.measures import evaluate, parse_measures, read_qrels
    from mta4dpr.evaluation.significance import intervals
    from mta4dpr.evaluation.trecrun import read_run

    if bool(dataset) == bool(qrels):
        raise UserError("evaluate needs judgements: give either --dataset IR_DATASETS_ID or --qrels FILE")
    wanted = parse_measures(measures or usual_measures(dataset))
    notes: list[str] = []
    exclude_self = False
    if dataset:
        folder, _, split = dataset.rpartition("/")
        is_folder = bool(folder) and Path(folder, "qrels").is_dir()
        source = open_source(folder if is_folder else dataset, name=dataset, max_passages=None)
        judgements, notes = load_qrels(source, split if is_folder else dataset)
        exclude_self = source.exclude_self
    else:
        assert qrels is not None
        judgements = read_qrels(qrels)
    eval_set = dataset or str(qrels)
    rows, details = [], []
    for path in runfiles:
        found = evaluate(read_run(path), judgements, wanted, exclude_self=exclude_self)
        bounds = intervals(np.stack(list(found.values.values())))
        for (measure, values), (low, high) in zip(found.values.items(), bounds.tolist(), strict=True):
            rows.append({"run": str(path), "eval_set": eval_set, **measured(found, measure, [low, high])})
            details += [
                {"run": str(path), "query_id": query_id, "measure": measure, "value": float(value)}
                for query_id, value in zip(found.query_ids, values, strict=True)
            ]
        if found.ignored_queries:
            notes.append(f"{path}: {found.ignored_queries} queries of the run have no judgements and are left out")
        if found.missing_queries:
            notes.append(f"{path}: {found.missing_queries} judged queries are not in the run; they score 0")
        if found.excluded:
            notes.append(f"{path}: {found.excluded} passages with their query's own id are left out (BEIR's convention for {dataset})")
    document: dict[str, Any] = {"eval_set": eval_set, "rows": rows, "notes": notes}
    return {**document, "per_query": details} if per_query else document


def usual_measures(dataset: str) -> list[str]:
    """The measures a benchmark of ours reports for that eval set, else the common ones."""
    for name in benchmark_names():
        for eval_set in read_yaml(benchmark_folder() / f"{name}.yaml")["eval_sets"]:
            if eval_set["id"] == dataset:
                return list(eval_set["measures"])
    return ADHOC_MEASURES
