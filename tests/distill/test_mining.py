"""Rankings that are files, and the queries that a student got wrong."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from mta4dpr.distill import mining
from mta4dpr.distill.mining import first_of, mine, rankings, wrong_queries

from ..damage import flip
from .tiny_distill import TRAIN, MatrixScorer, make_queries, random_matrix
from .tiny_rounds import BAD, GOOD, MIDDLE, Killed, Setting


def test_an_assistant_called_student_keeps_its_list(setting: Setting) -> None:
    """The student before training may be an assistant, under its own name: its list must stand beside the trained student's."""
    bench = setting.bench(assistants={"student": MIDDLE, "good": GOOD})
    frozen = setting.scorer("student-round-0", 1.0, seed=77)
    assistants = [bench.scorer(label) for label in bench.assistants]
    lists, of_student = mine(1, assistants, frozen, bench, setting.root / "run")
    assert of_student is not None
    assert len(lists) == 4  # two assistants, the teacher, the student
    assert not np.array_equal(lists["student"], of_student)


def test_wrong_queries_by_hand() -> None:
    """Positives 0 and 1; 3; 4: right when any positive is first. PROD: at rank 2-15 of the student, first of the teacher."""
    queries = make_queries([0, 3, 4], train=3, held_out=0, positives=lambda n: {0: [0, 1], 3: [3], 4: [4]}[n])
    student = np.array([[1, 9, 0], [9, 3, 8], [9, 8, 7]])
    assert wrong_queries(student, queries).tolist() == [False, True, True]
    teacher = np.array([[0, 9, 8], [3, 9, 8], [4, 9, 8]])
    assert wrong_queries(student, queries, lambda n: teacher[n, 0]).tolist() == [False, True, False]  # the third is at no rank of the list
    assert wrong_queries(student, queries, lambda n: np.array([0, 9, 4])[n]).tolist() == [False, False, False]


@pytest.mark.parametrize(("rank", "expected"), [(1, False), (2, True), (15, True), (16, False), (21, False)])
def test_prods_ranks(rank: int, expected: bool) -> None:
    """2 and 15 belong to it, 1 and 16 do not, nor a gold passage below the list's end."""
    queries = make_queries([4], train=1, held_out=0, positives=lambda n: [4])
    student = np.array([[p for p in range(5, 25)]])
    if rank <= 20:
        student[0, rank - 1] = 4
    assert wrong_queries(student, queries, lambda n: np.array([4])[n]).tolist() == [expected]


def test_a_short_list_with_padding_has_no_gold_passage() -> None:
    """-1 fills lists that end early; it is no passage."""
    queries = make_queries([4], train=1, held_out=0, positives=lambda n: [4])
    assert wrong_queries(np.array([[-1, -1]]), queries).tolist() == [True]
    assert wrong_queries(np.array([[9, 4]]), queries, lambda n: np.array([-1])[n]).tolist() == [False]


def test_prods_rule_with_a_teacher_that_only_scores_pairs(setting: Setting) -> None:
    """It reranks the student's first 15: where the student's best positive is among them, its first passage of those is asked for."""
    mined = (-setting.scorer("student", BAD, seed=77).matrix[setting.queries.train]).argsort(axis=1)[:, :20]
    mined[:, 3] = setting.queries.positives.flat[setting.queries.positives.starts[:TRAIN]]
    bench = setting.bench(pair_scorers=["teacher"], teacher=MIDDLE, depth=20)
    teacher = bench.scorer("teacher")
    by_hand = [row[setting.scorer("teacher", MIDDLE).matrix[n, row].argmax()] for n, row in enumerate(mined[:, :15])]
    assert first_of(teacher, mined, bench, setting.queries.train).tolist() == by_hand
    wrong = wrong_queries(mined, setting.queries, partial(first_of, teacher, mined, bench))
    assert 0 < wrong.sum() < TRAIN
    short = np.full_like(mined, -1)
    short[:, :2] = [[7, 3]]
    assert set(first_of(teacher, short, bench, setting.queries.train).tolist()) <= {7, 3}
    folder = setting.run(
        setting.bench(student=[MIDDLE, MIDDLE], pair_scorers=["teacher"], teacher=GOOD, wrong_rule="prod", depth=20), name="pairs"
    )
    assert folder.is_dir()
    assert setting.rounds("pairs")[1]["wrong_queries"] > 0


def test_rankings_are_made_once_and_told_apart(setting: Setting) -> None:
    """Kept lists are looked up by scorer, queries and depth; another scorer of the same label must not find them."""
    bench = setting.bench(student=[1.0])
    scorer = setting.scorer("x", 1.0)
    first = rankings(scorer, setting.queries.train, 10, setting.root / "m", bench)
    assert first.shape == (TRAIN, 10)
    assert (first == np.argsort(-scorer.matrix[:TRAIN], axis=1)[:, :10]).all()

    def fail(*_: Any) -> Any:
        raise AssertionError("ranked again")

    kept = scorer.rank
    scorer.rank = fail  # type: ignore[method-assign]
    assert (rankings(scorer, setting.queries.train, 10, setting.root / "m", bench) == first).all()
    scorer.rank = kept  # type: ignore[method-assign]
    other = MatrixScorer("x", random_matrix(99), setting.corpus)
    assert (rankings(other, setting.queries.train, 10, setting.root / "m", bench) != first).any()
    assert rankings(scorer, setting.queries.train, 4, setting.root / "m", bench).shape == (TRAIN, 4)
    other_texts = copy.copy(setting.corpus)
    other_texts.text_hash = "other"
    scorer.matrix = random_matrix(98)  # the same model over other texts
    again = rankings(scorer, setting.queries.train, 10, setting.root / "m", replace(bench, corpus=other_texts))
    assert (again != first).any()


def test_mining_goes_on_at_the_next_piece(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a million queries take hours: a kill costs a piece, and nobody can tell afterwards."""
    bench, scorer = setting.bench(), setting.scorer("a", MIDDLE)
    whole = np.array(rankings(scorer, setting.queries.train, 10, setting.root / "whole", bench))
    monkeypatch.setattr(mining, "MINING_PIECE", 7)
    real, asked = scorer.rank, []

    def dying(queries: np.ndarray, k: int) -> Any:
        asked.append(queries.tolist())
        if len(asked) == 3:
            raise Killed
        return real(queries, k)

    scorer.rank = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        rankings(scorer, setting.queries.train, 10, setting.root / "cut", bench)
    assert not list((setting.root / "cut").rglob("SHA256SUMS"))
    found = rankings(scorer, setting.queries.train, 10, setting.root / "cut", bench)
    assert found.tolist() == whole.tolist()
    assert [one[0] for one in asked] == [0, 7, 14, 14, 21]
    assert sorted(path.suffix for path in (setting.root / "cut").iterdir()) == ["", ".lock"]  # no pieces


def test_a_kept_ranking_that_has_changed_is_mined_again(setting: Setting) -> None:
    """Other negatives train another student; neither size nor time of the change need give it away."""
    bench, scorer = setting.bench(), setting.scorer("a", MIDDLE)
    expected = np.array(rankings(scorer, setting.queries.train, 10, setting.root, bench)).tolist()
    (path,) = setting.root.rglob(mining.RANKING)
    flip(path, -4)
    assert rankings(scorer, setting.queries.train, 10, setting.root, bench).tolist() == expected
