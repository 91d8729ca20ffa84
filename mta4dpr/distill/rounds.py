"""Algorithm 1 of MTA4DPR for one strategy: GenDataset, train, Compare, replace Worst, once a round.

Everything a round decides is in files of training/STRATEGY, so that the same call goes on where it stopped:

    round-R/groups/     the round's dataset                 round-R/student/    the frozen student after the round
    rounds.jsonl        one line a finished round           steps.jsonl, checkpoint/    see trainer.py
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.benchmark import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.assistants import Scorer
from mta4dpr.distill.groups import generate, negative_pool, open_groups
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.distill.strategies import Strategy
from mta4dpr.distill.trainer import Texts, Trainer, keep_lines
from mta4dpr.evaluation.measures import evaluate, parse_measures
from mta4dpr.evaluation.trecrun import run_of
from mta4dpr.files import file_name, key_of, written_aside
from mta4dpr.models.encoder import Encoder
from mta4dpr.progress import bar

log = logging.getLogger(__name__)


@dataclass
class Bench:
    """What all strategies of a run share. `freeze` makes a scorer of the student as it is now, from a saved folder."""

    corpus: Corpus
    queries: TrainingQueries
    teacher: Scorer
    assistants: list[Scorer]
    mining: Path  # where kept rankings of teacher and assistants lie
    freeze: Callable[[str, Path, Path], Scorer]  # (label, model folder, where its vectors go)
    texts: Callable[[Encoder], Texts]
    options: Distill
    seed: int
    exclude_self: bool = False  # Compare drops the passage that has the query's own id


def distil(name: str, strategy: Strategy, student: Encoder, bench: Bench, folder: Path) -> Path:
    """Trains `student` by Algorithm 1; returns the folder of the final student. Goes on where it was stopped."""
    options, queries = bench.options, bench.queries
    folder.mkdir(parents=True, exist_ok=True)
    finished = _finished_rounds(folder)
    if len(finished) == options.rounds:
        return _student_folder(folder, best_round(folder, options))
    assistants, frozen = _restored(finished, bench, folder)
    trainer = Trainer(student, strategy, options, queries, bench.texts(student), folder, bench.seed)
    trainer.restore()
    bounds = np.linspace(0, options.steps, options.rounds + 1).round().astype(int)
    for number in range(len(finished), options.rounds):
        started = time.perf_counter()
        last = int(bounds[number + 1])
        start = 0 if options.regime == "static" else int(bounds[number])  # the step of the round's first group
        groups = open_groups(_groups_folder(folder, number, options))
        if groups is None:
            groups = _generate(number, (last - start) * options.batch_queries, assistants, frozen, bench, folder)
        for label, note in groups.about["notes"].items():
            log.warning("%s: %s", label, note)
        trainer.train_round(
            groups, round_number=number, first_step=start, last_step=last, label=f"train {name}, round {number + 1}/{options.rounds}"
        )

        label = f"student-round-{number}"
        if not _student_folder(folder, number).exists():
            student.save(_student_folder(folder, number))
        frozen = bench.freeze(label, _student_folder(folder, number), _vectors_folder(folder, number))
        values = compare([frozen, *assistants], bench)
        worst = min(assistants, key=lambda a: values[a.label]) if assistants else None
        replaced = None
        if strategy.replaces and options.replace and worst is not None and values[label] > values[worst.label]:
            replaced = worst.label
            assistants = _replaced(assistants, worst.label, frozen)
            log.info(
                "%s, round %d: %s (%.4f) is replaced by the student (%.4f)", name, number, worst.label, values[worst.label], values[label]
            )
        _append(
            folder / "rounds.jsonl",
            {
                "round": number,
                "measure": options.compare_measure,
                "queries": len(queries.held_out),
                "student": values.pop(label),
                "assistants": values,
                "worst": worst.label if worst else None,
                "replaced": replaced,
                "by": label,
                **{
                    key: groups.about[key]
                    for key in ("depth", "false_negatives", "filled", "wrong_queries", "temperatures", "teacher_entropy")
                },
                "seconds": round(time.perf_counter() - started, 2),
            },
        )
        _forget_vectors(folder, keep=[frozen.label, *(a.label for a in assistants)])
    return _student_folder(folder, best_round(folder, options))


def best_round(folder: Path, options: Distill) -> int:
    """The round whose student is exported: the last one, or the best on D_eval (the earliest of equals)."""
    if options.checkpoint == "last":
        return options.rounds - 1
    records = _finished_rounds(folder)
    return int(max(records, key=lambda r: (r["student"], -r["round"]))["round"])


def _generate(number: int, size: int, assistants: list[Scorer], frozen: Scorer | None, bench: Bench, folder: Path) -> Any:
    """GenDataset of a round: rankings of the models that mine, the queries the student got wrong, groups and scores."""
    options, queries = bench.options, bench.queries
    # static: one pool for all strategies, whatever mta4dpr has replaced
    lists = _lists(bench.assistants if options.regime == "static" else assistants, bench)
    wrong, tau = np.zeros(queries.train_size, bool), options.tau_teacher
    if number > 0 and options.regime == "rounds":
        assert frozen is not None
        mined = rankings(frozen, queries.train, options.depth, folder / f"round-{number - 1}", bench)
        by_teacher = rankings(bench.teacher, queries.train, options.depth, bench.mining, bench) if options.wrong_rule == "prod" else None
        wrong = wrong_queries(mined, by_teacher, queries)
        if options.harder and frozen.label not in lists:  # a student that has become an assistant mines once
            lists["student"] = mined
    if number > 0 and isinstance(tau, str):  # fitted once, on the groups of round 0
        first = open_groups(_groups_folder(folder, 0, options))
        assert first is not None
        tau = float(first.about["temperatures"][bench.teacher.label])
    return generate(
        _groups_folder(folder, number, options),
        round_number=0 if options.regime == "static" else number,
        groups=size,
        queries=queries,
        corpus=bench.corpus,
        teacher=bench.teacher,
        assistants=assistants,
        lists=lists,
        wrong=wrong,
        tau_teacher=tau,
        seed=bench.seed,
        options=options,
    )


def _lists(assistants: Sequence[Scorer], bench: Bench) -> dict[str, np.ndarray]:
    miners = [*assistants, *([bench.teacher] if bench.options.pool_teacher else [])]
    return {
        scorer.label: rankings(scorer, bench.queries.train, bench.options.depth, bench.mining, bench)
        for scorer in (miners or [bench.teacher])
    }


def rankings(scorer: Scorer, numbers: np.ndarray, depth: int, folder: Path, bench: Bench) -> np.ndarray:
    """The scorer's top passages for those queries, (queries, depth) int32; kept in a file, memory-mapped."""
    place = (
        folder / f"{file_name(scorer.label)}-{key_of([scorer.key, bench.corpus.text_hash, bench.queries.key, numbers.tolist(), depth])}.npy"
    )
    if not place.exists():
        blocks = [np.empty((0, depth), np.int32)]
        with bar(len(numbers), f"mine with {scorer.label}", "queries") as shown:
            for hits in scorer.rank(numbers, depth):
                blocks.append(hits.passages)
                shown.advance(len(hits.passages))
        with written_aside(place, binary=True) as file:
            np.save(file, np.concatenate(blocks))
    return np.load(place, mmap_mode="r")


def wrong_queries(student: np.ndarray, teacher: np.ndarray | None, queries: TrainingQueries) -> np.ndarray:
    """Queries the student got wrong, (train queries,) bool: no positive is its first passage.

    With the teacher's list, PROD's rule (Lin 2023): the student's best positive is at rank 2-15 and the teacher has one first.
    """
    wrong = np.zeros(queries.train_size, bool)
    for n in range(queries.train_size):
        hits = np.flatnonzero(np.isin(student[n], queries.positives[n]))
        best = int(hits[0]) if len(hits) else 10**9  # not found: at no rank
        wrong[n] = best != 0 if teacher is None else 1 <= best < 15 and bool(np.isin(teacher[n, 0], queries.positives[n]))
    return wrong


def compare(scorers: Sequence[Scorer], bench: Bench) -> dict[str, float]:
    """Compare's measure of each scorer on D_eval: over the whole corpus, or over the stored candidates."""
    queries, options, corpus = bench.queries, bench.options, bench.corpus
    measures, qrels = parse_measures(options.compare_measure), queries.qrels_held_out(corpus)
    candidates = _held_out_candidates(bench) if options.compare == "rerank" else []
    values = {}
    for scorer in scorers:
        found: dict[str, dict[str, float]] = {}
        if options.compare == "retrieve":
            numbers = iter(queries.held_out)
            for hits in scorer.rank(queries.held_out, options.depth):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    real = passages >= 0
                    found[queries.ids[next(numbers)]] = dict(zip(corpus.ids(passages[real]), scores[real].tolist(), strict=True))
        else:
            for n, passages in zip(queries.held_out, candidates, strict=True):
                scores = scorer.score(np.array([n]), passages[None, :])[0]
                found[queries.ids[n]] = dict(zip(corpus.ids(passages), scores.tolist(), strict=True))
        if bench.exclude_self:
            found = {query_id: {p: s for p, s in ranking.items() if p != query_id} for query_id, ranking in found.items()}
        empty = not any(found.values())  # a scorer that finds nothing at all is worth 0, not an error
        values[scorer.label] = 0.0 if empty else evaluate(run_of(found), qrels, measures).mean(str(measures[0]))
    return values


def _held_out_candidates(bench: Bench) -> list[np.ndarray]:
    """For `rerank`: the positives of each D_eval query and the original models' fused candidates, the same in every round."""
    held_out, queries, depth = bench.queries.held_out, bench.queries, bench.options.depth
    lists = {s.label: rankings(s, held_out, depth, bench.mining, bench) for s in [*bench.assistants, bench.teacher]}
    view = TrainingQueries(
        [queries.ids[n] for n in held_out],
        [queries.texts[n] for n in held_out],
        [queries.positives[n] for n in held_out],
        [queries.relevant[n] for n in held_out],
        len(held_out),
        [],
    )
    pool = negative_pool(lists, view, bench.corpus, depth=depth, rrf_k=bench.options.rrf_k)
    return [np.concatenate([positives, row[row >= 0]]) for positives, row in zip(view.positives, pool, strict=True)]


def _replaced(assistants: list[Scorer], label: str, by: Scorer) -> list[Scorer]:
    return [by if assistant.label == label else assistant for assistant in assistants]


def _restored(finished: Sequence[dict[str, Any]], bench: Bench, folder: Path) -> tuple[list[Scorer], Scorer | None]:
    """The assistants and the last student after those rounds; only students that are still needed are frozen again."""
    labels = [assistant.label for assistant in bench.assistants]
    for record in finished:
        labels = [record["by"] if label == record["replaced"] else label for label in labels]
    originals = {assistant.label: assistant for assistant in bench.assistants}
    students = {
        record["by"]: bench.freeze(record["by"], _student_folder(folder, record["round"]), _vectors_folder(folder, record["round"]))
        for record in finished
        if record["by"] in labels or record is finished[-1]
    }
    return [{**originals, **students}[label] for label in labels], students[finished[-1]["by"]] if finished else None


def _finished_rounds(folder: Path) -> list[dict[str, Any]]:
    path = folder / "rounds.jsonl"
    if not path.exists():
        return []
    keep_lines(path, lambda line: True)
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, record: dict[str, Any]) -> None:
    lines = path.read_text(encoding="utf-8") if path.exists() else ""
    with written_aside(path) as file:
        file.write(lines + json.dumps(record) + "\n")


def _student_folder(folder: Path, number: int) -> Path:
    return folder / f"round-{number}" / "student"


def _vectors_folder(folder: Path, number: int) -> Path:
    return folder / f"round-{number}"


def _groups_folder(folder: Path, number: int, options: Distill) -> Path:
    return folder / f"round-{number}" / "groups"


def _forget_vectors(folder: Path, *, keep: Sequence[str]) -> None:
    """Vectors of students that are neither the present one nor an assistant are not needed again."""
    for place in folder.glob("round-*"):
        if f"student-{place.name}" not in keep:
            shutil.rmtree(place / "vectors", ignore_errors=True)
