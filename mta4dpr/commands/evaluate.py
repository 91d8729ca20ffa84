"""`evaluate`: anyone's run files against a dataset's judgements or a qrels file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mta4dpr.commands.documents import Evaluated, RunRow
from mta4dpr.config.yaml_files import benchmark_files, load_benchmark
from mta4dpr.data.collection import QuerySet, Source, judged_by_answers, load_qrels, load_query_set, open_source
from mta4dpr.data.corpus import Corpus, stored_corpus
from mta4dpr.data.judgements import read_qrels
from mta4dpr.errors import EnvironmentLack, UserError
from mta4dpr.experiment.request import ADHOC_MEASURES, usual_measures
from mta4dpr.machine.environment import cache_folder

if TYPE_CHECKING:
    from ir_measures import Measure

    from mta4dpr.evaluation.measures import Evaluation
    from mta4dpr.evaluation.trecrun import Run


@dataclass
class Judgements:
    """What run files are scored with. `source` and `query_set` are there with --dataset: texts can be had from them.

    `answers` and `corpus` are there when the texts of the retrieved passages decide; `qrels` are then those of the runs scored so far.
    """

    eval_set: str
    qrels: dict[str, dict[str, int]]
    measures: list[Measure]
    source: Source | None = None
    query_set: str = ""
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    corpus: Corpus | None = None
    notes: list[str] = field(default_factory=list)  # what a reader should know, one plain sentence each

    def score(self, path: Path) -> tuple[Run, Evaluation]:
        """A run file and its per-query values; what was left out is noted."""
        from mta4dpr.evaluation import measures
        from mta4dpr.evaluation.trecrun import read_run

        run = read_run(path)
        qrels = self.qrels if self.corpus is None else self._by_answers(path, run, self.corpus)
        found = measures.evaluate(run, qrels, self.measures, exclude_self=self.source is not None and self.source.exclude_self)
        if found.ignored_queries:
            self.notes.append(f"{path}: {found.ignored_queries} queries of the run have no judgements and are left out")
        if found.missing_queries:
            self.notes.append(f"{path}: judged queries that are not in the run: {found.missing_queries}; they score 0")
        if found.excluded:
            convention = f"BEIR's convention for {self.eval_set}"
            self.notes.append(f"{path}: {found.excluded} passages with their query's own id are left out ({convention})")
        return run, found

    def _by_answers(self, path: Path, run: Run, corpus: Corpus) -> dict[str, dict[str, int]]:
        from mta4dpr.evaluation.answered import judge

        qrels, unknown = judge(run, self.answers, corpus, self.measures)
        if unknown:
            self.notes.append(f"{path}: {unknown} of the passages looked at are not in the corpus; they count as without an answer")
        for query_id, judged in qrels.items():
            self.qrels.setdefault(query_id, {}).update(judged)
        return qrels

    def rows(self, path: Path, found: Evaluation) -> list[RunRow]:
        """One row a measure: mean, 95 % bootstrap interval, queries."""
        from mta4dpr.evaluation.leaderboard import measure_row
        from mta4dpr.evaluation.significance import intervals

        bounds = intervals(np.stack(list(found.values.values()))).tolist()
        values = [measure_row(found, measure, bound) for measure, bound in zip(found.values, bounds, strict=True)]
        return [cast(RunRow, {"run": str(path), "eval_set": self.eval_set, **row}) for row in values]


def judgements(command: str, *, dataset: str, qrels: Path | None, measures: str) -> Judgements:
    """Of an ir_datasets id, FOLDER/SPLIT or a file; without measures, those a benchmark of ours reports for it."""
    from mta4dpr.evaluation.measures import parse_measures

    if bool(dataset) == bool(qrels):
        raise UserError(f"{command} needs judgements: give either --dataset IR_DATASETS_ID or --qrels FILE")
    if qrels is not None:
        return Judgements(str(qrels), read_qrels(qrels), parse_measures(measures or ADHOC_MEASURES))
    folder, _, split = dataset.rpartition("/")
    is_folder = bool(folder) and os.path.isdir(Path(folder, "qrels"))
    source, query_set = open_source(folder if is_folder else dataset, name=dataset, max_passages=None), split if is_folder else dataset
    wanted = parse_measures(measures or _of_a_benchmark(dataset) or usual_measures(source, dataset))
    if judged_by_answers(source, dataset):
        questions, corpus = _questions(source, dataset, wanted)
        return Judgements(dataset, {}, wanted, source, query_set, questions.answers, corpus)
    found, notes = load_qrels(source, query_set)
    return Judgements(dataset, found, wanted, source, query_set, notes=notes)


def _of_a_benchmark(dataset: str) -> list[str]:
    """The measures a benchmark of ours reports for that eval set; none when it is in no benchmark."""
    for path in chain.from_iterable(benchmark_files().values()):
        bench = load_benchmark(str(path), {})
        for eval_set in bench.eval_sets if bench else ():
            if eval_set.id == dataset:
                return eval_set.measures
    return []


def _questions(source: Source, dataset: str, measures: Sequence[Measure]) -> tuple[QuerySet, Corpus]:
    """Questions with answers, and the stored texts in which these are looked for."""
    from mta4dpr.evaluation.answered import check_measures

    problems = check_measures(list(map(str, measures)), dataset)
    if problems:
        raise UserError("\n".join(problems))
    corpus = stored_corpus(cache_folder(), source)
    if corpus is None:
        raise EnvironmentLack(
            f"{dataset} is judged by the answers in the texts of retrieved passages, and those of {source.identity['ir_datasets']} are not "
            f"in {cache_folder()}; `mta4dpr-bench run {dataset} --systems bm25` brings them there, or set MTA4DPR_CACHE to where they are"
        )
    return load_query_set(source, dataset), corpus


def evaluate(runfiles: Sequence[Path], *, dataset: str, qrels: Path | None, measures: str, per_query: bool) -> Evaluated:
    """{"eval_set", "rows", "notes"} and, if wanted, "per_query"; values are unrounded fractions."""
    judged = judgements("evaluate", dataset=dataset, qrels=qrels, measures=measures)
    rows: list[RunRow] = []
    details: list[dict[str, Any]] = []
    for path in runfiles:
        _, found = judged.score(path)
        rows += judged.rows(path, found)
        details += [
            {"run": str(path), "query_id": query_id, "measure": measure, "value": float(value)}
            for measure, values in found.values.items()
            for query_id, value in zip(found.query_ids, values, strict=True)
        ]
    document: Evaluated = {"eval_set": judged.eval_set, "rows": rows, "notes": judged.notes}
    return {**document, "per_query": details} if per_query else document
