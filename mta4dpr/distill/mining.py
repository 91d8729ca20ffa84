"""Mining: the corpus ranked for the training queries by the models that mine in a round, and the queries the student got wrong.

Rankings are files, so nothing is mined twice, and mining that was cut off goes on. Knows no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mta4dpr.data.columns import Column, blocks, join
from mta4dpr.distill.bench import Bench
from mta4dpr.distill.draws import RANK_BLOCK
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.engines.scorer import Scorer
from mta4dpr.machine.files import file_name, key_of, written_aside
from mta4dpr.machine.progress import Bar
from mta4dpr.machine.shared_work import Pieces, make_together

PROD_DEPTH = 15  # of PROD's confusing queries: the student has a positive among so many passages
RANKING = "passages.npy"
MINING_PIECE = 16_384  # queries between two files: as many are lost when the process is killed


def mine(
    number: int, assistants: Sequence[Scorer], student: Scorer | None, bench: Bench, folder: Path
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Rankings of the models that mine in a round, and the student's where the round looks at it. All processes mine together.

    Rankings are (train queries, depth) int32, -1 beyond the end, by label. `assistants` are those of the round, `student` is as it
    was after the round before (None in round 0), and `folder` is the training's.
    """
    options, queries, teacher = bench.options, bench.queries, bench.scorer(bench.teacher)
    # static: one pool for all strategies, whichever assistants mta4dpr has replaced
    by_label = _rankings([bench.scorer(label) for label in bench.assistants] if options.regime == "static" else assistants, bench)
    if number == 0 or options.regime == "static":
        return by_label, None
    assert student is not None
    of_student = rankings(student, queries.train, options.depth, folder / f"round-{number - 1}", bench)
    if options.harder and student.label not in by_label:  # a student that has become an assistant mines once
        by_label["the student"] = of_student  # no model is called so: a label has no space
    if options.wrong_rule == "prod" and teacher.ranks:
        rankings(teacher, queries.train, options.depth, bench.mining, bench)
    return by_label, of_student


def _rankings(assistants: Sequence[Scorer], bench: Bench) -> dict[str, np.ndarray]:
    """Rankings of the models that mine: the assistants and, unless it is left out, the teacher; those of them that can rank."""
    miners = [*assistants, *([bench.scorer(bench.teacher)] if bench.options.pool_teacher else [])] or [bench.scorer(bench.teacher)]
    return {s.label: rankings(s, bench.queries.train, bench.options.depth, bench.mining, bench) for s in miners if s.ranks}


def rankings(scorer: Scorer, numbers: np.ndarray, depth: int, folder: Path, bench: Bench) -> np.ndarray:
    """The scorer's best passages for the queries of those numbers, (queries, depth) int32; kept in a sealed folder, memory-mapped.

    They are made a piece at a time: processes share the pieces, and after an interruption they go on with the next one.
    """
    key = key_of([scorer.key, bench.corpus.text_hash, bench.queries.key, numbers.tolist(), depth])
    place, parts = folder / f"{file_name(scorer.label)}-{key}", list(blocks(len(numbers), MINING_PIECE))

    def make(number: int, file: Path, shown: Bar) -> None:
        with written_aside(file, binary=True) as opened, Column(opened, np.int32, depth) as column:
            for hits in scorer.rank(numbers[parts[number]], depth):
                column.append(hits.passages)
                shown.advance(len(hits.passages))

    def join_all(aside: Path, files: Sequence[Path]) -> None:
        join(aside / RANKING, files)

    pieces = Pieces(len(parts), make, join_all, len(numbers), f"mine with {scorer.label}", "queries")
    make_together(place, pieces, otherwise="it is mined again", by_content=True)
    return np.load(place / RANKING, mmap_mode="r")


def wrong_queries(
    student: np.ndarray, queries: TrainingQueries, first_of_teacher: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """Queries that the student got wrong, (train queries,) bool: no positive is its first passage.

    `student` is its ranking, (train queries, depth). With `first_of_teacher` (query numbers -> the teacher's first passage of each)
    PROD's rule holds (Lin 2023): the student's best positive is at rank 2-15 and the teacher has one first.
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


def first_of(teacher: Scorer, of_student: np.ndarray, bench: Bench, numbers: np.ndarray) -> np.ndarray:
    """The teacher's first passage for each of those queries, (queries,).

    It is the first of the corpus, or, where the teacher only scores pairs, of the student's first PROD_DEPTH passages;
    `of_student` is the student's ranking, (train queries, depth).
    """
    if teacher.ranks:
        ranked = rankings(teacher, bench.queries.train, bench.options.depth, bench.mining, bench)
        return np.asarray(ranked[numbers, 0])
    candidates = np.asarray(of_student[numbers, :PROD_DEPTH])
    scores = np.where(candidates < 0, -np.inf, teacher.score(numbers, np.maximum(candidates, 0)))
    return np.take_along_axis(candidates, scores.argmax(axis=1, keepdims=True), axis=1)[:, 0]
