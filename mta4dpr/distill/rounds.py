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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mta4dpr.data.columns import Column, blocks, join
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.assistants import CrossEncoderScorer, Scorer
from mta4dpr.distill.groups import RANK_BLOCK, Groups, generate, negative_pool, open_groups
from mta4dpr.distill.queries import PassageLists, TrainingQueries
from mta4dpr.distill.scores import describe, lines, warnings
from mta4dpr.distill.strategies import Strategy
from mta4dpr.distill.trainer import Texts, Trainer
from mta4dpr.evaluation.measures import evaluate, parse_measures
from mta4dpr.evaluation.trecrun import run_of
from mta4dpr.files import file_name, key_of, read_json, write_json, written_aside
from mta4dpr.models.encoder import Encoder
from mta4dpr.options import Distill
from mta4dpr.progress import bar
from mta4dpr.shared_work import missing_pieces

log = logging.getLogger(__name__)

PROD_DEPTH = 15  # of PROD's confusing queries: the student has a positive among so many passages
MINING_PIECE = 16_384  # queries between two files: as many are lost when the process is killed


@dataclass
class Bench:
    """What all strategies of a run share. `teacher` and `assistants` are labels; scorers and networks are opened when they are wanted."""

    corpus: Corpus
    queries: TrainingQueries
    teacher: str
    assistants: Sequence[str]
    scorer: Callable[[str], Scorer]  # of a label, kept
    network: Callable[[str], Any]  # of a label: a fresh encoder or reranker, to be trained
    trainable: Sequence[str]  # assistants that are bi-encoders
    freeze: Callable[[str, Path, Path], Scorer]  # (label, model folder, where its vectors go) -> the student as it is there
    texts: Callable[[Any], Texts]  # of a network's tokenizer
    mining: Path  # where kept rankings of teacher and assistants lie
    options: Distill
    seed: int
    exclude_self: bool = False  # Compare drops the passage that has the query's own id
    accelerator: Any = None
    tensorboard: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process scores and compares; the others encode, mine, score pairs and train along."""
        return self.accelerator is None or bool(self.accelerator.is_main_process)


def distil(name: str, strategy: Strategy, student: Encoder, bench: Bench, folder: Path) -> Path:
    """Trains `student` by Algorithm 1; returns the folder of the final student. Goes on where it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(_finished_rounds(folder)) == bench.options.rounds:
        return _student_folder(folder, best_round(folder, bench.options))
    return _all_rounds(name, strategy, student, bench, folder, taught_by=_chain(name, strategy, bench, folder) if strategy.chain else None)


def _all_rounds(name: str, strategy: Strategy, student: Encoder, bench: Bench, folder: Path, *, taught_by: Scorer | None) -> Path:
    """`taught_by` is the model before this one in a chain, unless that is the teacher: it alone is scored beside the teacher."""
    options, queries = bench.options, bench.queries
    folder.mkdir(parents=True, exist_ok=True)
    finished = _finished_rounds(folder)
    assistants, frozen = _restored(finished, bench, folder)
    trainer = Trainer(
        student,
        strategy,
        options,
        queries,
        bench.texts(student),
        folder,
        bench.seed,
        accelerator=bench.accelerator,
        teacher=_trained_teacher(bench) if strategy.trains_teacher else None,
        assistants=len(bench.assistants),
        standing=_standing(bench, folder) if strategy.standing else None,
        tensorboard=bench.tensorboard,
    )
    trainer.restore()
    bounds = np.linspace(0, options.steps, options.rounds + 1).round().astype(int)
    for number in range(len(finished), options.rounds):
        started = time.perf_counter()
        last = int(bounds[number + 1])
        start = 0 if options.regime == "static" else int(bounds[number])  # the step of the round's first group
        groups = open_groups(_groups_folder(folder, number))
        if groups is None:
            lists, of_student = _mined(number, assistants, frozen, bench, folder)
            if bench.is_main:
                size = (last - start) * trainer.batch_size
                scored = [taught_by] if taught_by else assistants if strategy.assistants and not strategy.chain else []
                groups = _generate(number, size, lists, of_student, scored, frozen, strategy, bench, folder)
            _score_until(_groups_folder(folder, number), bench)
            groups = groups or open_groups(_groups_folder(folder, number))
        assert groups is not None
        if bench.is_main:
            _report_scores(groups, folder / f"round-{number}" / "scores.json")
        trainer.train_round(
            groups, round_number=number, first_step=start, last_step=last, label=f"train {name}, round {number + 1}/{options.rounds}"
        )
        label = f"student-round-{number}"
        if bench.is_main and not _student_folder(folder, number).exists():
            student.save(_student_folder(folder, number))
        wait_for(_student_folder(folder, number))
        frozen = bench.freeze(label, _student_folder(folder, number), _vectors_folder(folder, number))
        if bench.is_main:
            seconds = time.perf_counter() - started
            _append(folder / "rounds.jsonl", _record(name, number, groups, frozen, assistants, strategy, bench, seconds=seconds))
        _score_until(folder / "rounds.jsonl", bench, lines=number + 1)
        replaced = _finished_rounds(folder)[number]["replaced"]
        assistants = [frozen if assistant.label == replaced else assistant for assistant in assistants]
        if bench.is_main:
            _forget_vectors(folder, keep=[frozen.label, *(a.label for a in assistants)])
    return _student_folder(folder, best_round(folder, options))


def _record(
    name: str,
    number: int,
    groups: Groups,
    frozen: Scorer,
    assistants: Sequence[Scorer],
    strategy: Strategy,
    bench: Bench,
    *,
    seconds: float,
) -> dict[str, Any]:
    """A round's line: Compare's measure of the student and of the assistants, and which of these it replaces (Algorithm 1)."""
    options, label, began = bench.options, frozen.label, time.perf_counter()
    values = compare([frozen, *assistants], bench)
    worst = min(assistants, key=lambda a: values[a.label]) if assistants else None
    replaced = None
    if strategy.replaces and options.replace and worst is not None and values[label] > values[worst.label]:
        replaced = worst.label
        log.info("%s, round %d: %s (%.4f) is replaced by the student (%.4f)", name, number, worst.label, values[worst.label], values[label])
    return {
        "round": number,
        "measure": options.compare_measure,
        "queries": len(bench.queries.held_out),
        "student": values.pop(label),
        "assistants": values,
        "worst": worst.label if worst else None,
        "replaced": replaced,
        "by": label,
        **{key: groups.about[key] for key in ("depth", "false_negatives", "filled", "wrong_queries", "temperatures", "teacher_entropy")},
        "seconds": round(seconds + time.perf_counter() - began, 2),
    }


def _chain(name: str, strategy: Strategy, bench: Bench, folder: Path) -> Scorer | None:
    """TAKD's chain: each assistant that can be trained, largest first, is taught by the one before it. Returns the last as a scorer.

    Each makes all steps in one round; the teacher teaches the first.
    """
    networks = {label: bench.network(label) for label in bench.trainable}
    taught_by = None  # the teacher itself
    link = replace(bench, options=bench.options.model_copy(update={"rounds": 1}))
    for label in sorted(networks, key=lambda label: -networks[label].parameters):
        place = folder / "chain" / file_name(label)
        final = _student_folder(place, 0)
        if not _finished_rounds(place):
            _all_rounds(f"{name}, {label}", strategy, networks[label], link, place, taught_by=taught_by)
        taught_by = bench.freeze(f"{label}-taught", final, _vectors_folder(place, 0))
    return taught_by


def _trained_teacher(bench: Bench) -> tuple[Any, Texts]:
    network = bench.network(bench.teacher)
    return network, bench.texts(network)


def _standing(bench: Bench, folder: Path) -> dict[str, float]:
    """Compare's measure of teacher and assistants before training, kept in standing.json."""
    place = folder / "standing.json"
    if not place.exists():
        scorers = [bench.scorer(label) for label in (bench.teacher, *bench.assistants)]
        if bench.is_main:
            write_json(place, compare(scorers, bench))
    _score_until(place, bench)
    return dict(read_json(place))


def _report_scores(groups: Groups, place: Path) -> None:
    """The score report of a round, in the log and in a file, with what a reader should be warned of."""
    if place.exists():
        return
    report = describe(groups)
    for line in lines(report):
        log.info(line)
    for line in [*(f"{label}: {note}" for label, note in groups.about["notes"].items()), *warnings(report)]:
        log.warning(line)
    write_json(place, report)


def best_round(folder: Path, options: Distill) -> int:
    """The round whose student is exported: the last one, or the best on D_eval (the earliest of equals)."""
    records = _finished_rounds(folder)
    if options.checkpoint == "last" or not records:
        return options.rounds - 1
    return int(max(records, key=lambda r: (r["student"], -r["round"]))["round"])


def _mined(
    number: int, assistants: Sequence[Scorer], frozen: Scorer | None, bench: Bench, folder: Path
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Rankings of the models that mine in a round, and the student's where the round looks at it. All processes mine together."""
    options, queries, teacher = bench.options, bench.queries, bench.scorer(bench.teacher)
    # static: one pool for all strategies, whatever mta4dpr has replaced
    lists = _lists([bench.scorer(label) for label in bench.assistants] if options.regime == "static" else assistants, bench)
    if number == 0 or options.regime == "static":
        return lists, None
    assert frozen is not None
    of_student = rankings(frozen, queries.train, options.depth, folder / f"round-{number - 1}", bench)
    if options.harder and frozen.label not in lists:  # a student that has become an assistant mines once
        lists["the student"] = of_student  # no model is called so: its label has no space
    if options.wrong_rule == "prod" and teacher.ranks:
        rankings(teacher, queries.train, options.depth, bench.mining, bench)
    return lists, of_student


def _generate(
    number: int,
    size: int,
    lists: dict[str, np.ndarray],
    of_student: np.ndarray | None,
    scored: Sequence[Scorer],
    frozen: Scorer | None,
    strategy: Strategy,
    bench: Bench,
    folder: Path,
) -> Groups:
    """GenDataset of a round, out of what was mined: the queries the student got wrong, groups and scores."""
    options, queries, tau = bench.options, bench.queries, bench.options.tau_teacher
    teacher, wrong = bench.scorer(bench.teacher), np.zeros(queries.train_size, bool)
    if of_student is not None:
        wrong = wrong_queries(of_student, queries, partial(_first_of, teacher, of_student, bench) if options.wrong_rule == "prod" else None)
    only_wrong = strategy.stages and number == options.rounds - 1
    if only_wrong and not wrong.any():
        log.warning("the student got no query wrong that the teacher has right, so its last round is of all queries")
    if number > 0 and isinstance(tau, str):  # fitted once, on the groups of round 0
        first = open_groups(_groups_folder(folder, 0))
        assert first is not None
        tau = float(first.about["temperatures"][bench.teacher])
    return generate(
        _groups_folder(folder, number),
        round_number=0 if options.regime == "static" else number,
        groups=size,
        queries=queries,
        corpus=bench.corpus,
        teacher=teacher,
        assistants=scored,
        lists=lists,
        wrong=wrong,
        tau_teacher=tau,
        seed=bench.seed,
        options=options,
        previous=frozen if strategy.previous else None,
        only_wrong=only_wrong,
        few=not all(bench.scorer(label).ranks for label in (bench.teacher, *bench.assistants)),
    )


def _lists(assistants: Sequence[Scorer], bench: Bench) -> dict[str, np.ndarray]:
    """Rankings of the models that mine: the assistants and, unless it is left out, the teacher; those of them that can rank."""
    miners = [*assistants, *([bench.scorer(bench.teacher)] if bench.options.pool_teacher else [])] or [bench.scorer(bench.teacher)]
    return {s.label: rankings(s, bench.queries.train, bench.options.depth, bench.mining, bench) for s in miners if s.ranks}


def rankings(scorer: Scorer, numbers: np.ndarray, depth: int, folder: Path, bench: Bench) -> np.ndarray:
    """The scorer's top passages for those queries, (queries, depth) int32; kept in a file, memory-mapped.

    Made a piece at a time: processes share the pieces, and what was cut off goes on at the next one.
    """
    place = (
        folder / f"{file_name(scorer.label)}-{key_of([scorer.key, bench.corpus.text_hash, bench.queries.key, numbers.tolist(), depth])}.npy"
    )
    if not place.exists():
        parts = place.with_suffix(".pieces")
        files = [parts / f"{rows.start // MINING_PIECE:05}.npy" for rows in blocks(len(numbers), MINING_PIECE)]
        with bar(len(numbers), f"mine with {scorer.label}", "queries") as shown:
            for piece in missing_pieces(files, whole=place):
                with written_aside(files[piece], binary=True) as file, Column(file, np.int32, depth) as column:
                    for hits in scorer.rank(numbers[piece * MINING_PIECE : (piece + 1) * MINING_PIECE], depth):
                        column.append(hits.passages)
                        shown.advance(len(hits.passages))
        with FileLock(parts.with_suffix(".lock")):
            if not place.exists():
                join(place, files)
            shutil.rmtree(parts, ignore_errors=True)
        parts.with_suffix(".lock").unlink(missing_ok=True)
    return np.load(place, mmap_mode="r")


def wrong_queries(
    student: np.ndarray, queries: TrainingQueries, first_of_teacher: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Queries the student got wrong, (train queries,) bool: no positive is its first passage.

    With `first_of_teacher` (queries -> the teacher's first passage of each), PROD's rule (Lin 2023): the student's best positive is
    at rank 2-15 and the teacher has one first.
    """
    best = np.full(queries.train_size, student.shape[1], np.int64)  # rank of the first positive; beyond the list where there is none
    for rows in blocks(queries.train_size, RANK_BLOCK):
        is_positive = queries.positives.contain(queries.train[rows], np.asarray(student[rows]))
        best[rows] = np.where(is_positive.any(axis=1), is_positive.argmax(axis=1), student.shape[1])
    if first_of_teacher is None:
        return best > 0
    wrong = np.zeros(queries.train_size, bool)
    confusing = np.flatnonzero((best > 0) & (best < min(PROD_DEPTH, student.shape[1])))
    wrong[confusing] = queries.positives.contain(confusing, first_of_teacher(confusing)[:, None])[:, 0]
    return wrong


def _first_of(teacher: Scorer, mined: np.ndarray, bench: Bench, numbers: np.ndarray) -> np.ndarray:
    """The teacher's first passage of each query, (queries,): of the corpus, or of the student's first ones where it only scores pairs."""
    if teacher.ranks:
        ranked = rankings(teacher, bench.queries.train, bench.options.depth, bench.mining, bench)
        return np.asarray(ranked[numbers, 0])
    candidates = np.asarray(mined[numbers, :PROD_DEPTH])
    scores = np.where(candidates < 0, -np.inf, teacher.score(numbers, np.maximum(candidates, 0)))
    return np.take_along_axis(candidates, scores.argmax(axis=1, keepdims=True), axis=1)[:, 0]


def compare(scorers: Sequence[Scorer], bench: Bench) -> dict[str, float]:
    """Compare's measure of each scorer on D_eval: over the whole corpus, or over the stored candidates.

    A scorer that cannot rank a corpus (a cross-encoder) reranks the candidates in either case. Lists are as long as the measure looks.
    """
    queries, options, corpus = bench.queries, bench.options, bench.corpus
    measures, qrels = parse_measures(options.compare_measure), queries.qrels_held_out(corpus)
    reranks = {s.label: options.compare == "rerank" or not s.ranks for s in scorers}
    depth = max(options.depth, measures[0].params.get("cutoff", 0)) + int(bench.exclude_self)
    candidates = _held_out_candidates(bench) if any(reranks.values()) else []
    values = {}
    for scorer in scorers:
        found: dict[str, dict[str, float]] = {}
        if not reranks[scorer.label]:
            numbers = iter(queries.held_out)
            for hits in scorer.rank(queries.held_out, depth):
                for passages, scores in zip(hits.passages, hits.scores, strict=True):
                    real = passages >= 0
                    found[queries.ids[next(numbers)]] = dict(zip(corpus.ids(passages[real]), scores[real].tolist(), strict=True))
        else:
            longest = max(len(passages) for passages in candidates)
            scored = scorer.score(queries.held_out, np.stack([np.resize(passages, longest) for passages in candidates]))
            for n, passages, row in zip(queries.held_out, candidates, scored, strict=True):
                found[queries.ids[n]] = dict(zip(corpus.ids(passages), row[: len(passages)].tolist(), strict=True))
        if bench.exclude_self:
            found = {query_id: {p: s for p, s in ranking.items() if p != query_id} for query_id, ranking in found.items()}
        empty = not any(found.values())  # a scorer that finds nothing at all is worth 0, not an error
        values[scorer.label] = 0.0 if empty else evaluate(run_of(found), qrels, measures).mean(str(measures[0]))
    return values


def _held_out_candidates(bench: Bench) -> list[np.ndarray]:
    """For `rerank`: the positives of each D_eval query and the original models' fused candidates, the same in every round."""
    held_out, queries, depth = bench.queries.held_out, bench.queries, bench.options.depth
    scorers = [bench.scorer(label) for label in (*bench.assistants, bench.teacher)]
    lists = {s.label: rankings(s, held_out, depth, bench.mining, bench) for s in scorers if s.ranks}
    view = TrainingQueries(
        [queries.ids[n] for n in held_out],
        [queries.texts[n] for n in held_out],
        PassageLists.of([queries.positives[n] for n in held_out]),
        PassageLists.of([queries.relevant[n] for n in held_out]),
        len(held_out),
        [],
    )
    pool = negative_pool(lists, view, bench.corpus, depth=depth, rrf_k=bench.options.rrf_k)
    return [np.concatenate([positives, row[row >= 0]]) for positives, row in zip(view.positives, pool, strict=True)]


def _restored(finished: Sequence[dict[str, Any]], bench: Bench, folder: Path) -> tuple[list[Scorer], Scorer | None]:
    """The assistants and the last student after those rounds; only students that are still needed are frozen again."""
    labels = list(bench.assistants)
    for record in finished:
        labels = [record["by"] if label == record["replaced"] else label for label in labels]
    students = {
        record["by"]: bench.freeze(record["by"], _student_folder(folder, record["round"]), _vectors_folder(folder, record["round"]))
        for record in finished
        if record["by"] in labels or record is finished[-1]
    }
    return [students.get(label) or bench.scorer(label) for label in labels], students[finished[-1]["by"]] if finished else None


def _finished_rounds(folder: Path) -> list[dict[str, Any]]:
    path = folder / "rounds.jsonl"
    if not path.exists():
        return []  # lines are whole, see _append; other processes read here, so nothing is mended
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def _append(path: Path, record: dict[str, Any]) -> None:
    lines = path.read_text(encoding="utf-8") if path.exists() else ""
    with written_aside(path) as file:
        file.write(lines + json.dumps(record) + "\n")


def wait_for(place: Path, *, lines: int = 0, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Until the main process has made that file, with so many lines; at once where it is there."""
    while not place.exists() or (lines and place.read_text(encoding="utf-8").count("\n") < lines):
        meanwhile()
        time.sleep(0.2)


def _score_until(place: Path, bench: Bench, *, lines: int = 0) -> None:
    """Like `wait_for`, and scores pairs with the main process, which may need them for that file."""

    def score() -> None:
        for label in (bench.teacher, *bench.assistants):
            scorer = bench.scorer(label)
            if isinstance(scorer, CrossEncoderScorer):
                scorer.score_along()

    wait_for(place, lines=lines, meanwhile=score)


def _student_folder(folder: Path, number: int) -> Path:
    return folder / f"round-{number}" / "student"


def _vectors_folder(folder: Path, number: int) -> Path:
    return folder / f"round-{number}"


def _groups_folder(folder: Path, number: int) -> Path:
    return folder / f"round-{number}" / "groups"


def _forget_vectors(folder: Path, *, keep: Sequence[str]) -> None:
    """Vectors of students that are neither the present one nor an assistant are not needed again."""
    for place in folder.glob("round-*"):
        if f"student-{place.name}" not in keep:
            shutil.rmtree(place / "vectors", ignore_errors=True)
