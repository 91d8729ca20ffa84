"""The one order of rankings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.errors import UserError
from mta4dpr.retrieval.hits import Hits, best, checked

ID_RANK = np.array([2, 0, 3, 1], np.int32)  # passage 2 has the largest id, then 0, 3, 1


def of(rows: list[int], passages: list[int], scores: list[float], *, queries: int, k: int) -> tuple[list[list[int]], list[list[float]]]:
    hits = best(np.array(rows, np.int64), np.array(passages, np.int64), np.array(scores, np.float32), queries=queries, k=k, id_rank=ID_RANK)
    assert hits.passages.dtype == np.int32
    assert hits.scores.dtype == np.float32
    return hits.passages.tolist(), hits.scores.tolist()


def test_score_descending_then_id_descending() -> None:
    """trec_eval's rule, at the cut too: of the three that tie, the two with the largest ids stay."""
    assert of([0] * 4, [1, 3, 0, 2], [5, 5, 5, 9], queries=1, k=3) == ([[2, 0, 3]], [[9, 5, 5]])


def test_short_and_empty_lists_are_filled() -> None:
    """-1 and -inf, so that arrays stay rectangular; the middle query has no hit at all."""
    minus = -np.inf
    assert of([2, 0], [1, 3], [1, 2], queries=3, k=2) == ([[3, -1], [-1, -1], [1, -1]], [[2, minus], [minus, minus], [1, minus]])
    assert of([], [], [], queries=1, k=2) == ([[-1, -1]], [[minus, minus]])


def test_zero_and_minus_zero_tie() -> None:
    """IEEE says they are equal; a sort by bits would part them."""
    assert of([0, 0], [1, 2], [0.0, -0.0], queries=1, k=2)[0] == [[2, 1]]


triples = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([-1.0, 0.0, 0.5, 2.0])), unique_by=lambda t: t[:2])


@given(triples, st.integers(1, 6))
def test_any_hits_are_sorted_as_python_sorts_them(hits: list[tuple[int, int, float]], k: int) -> None:
    found, _ = of([h[0] for h in hits], [h[1] for h in hits], [h[2] for h in hits], queries=4, k=k)
    for query in range(4):
        ranked = sorted(((score, ID_RANK[passage], passage) for row, passage, score in hits if row == query), reverse=True)
        assert found[query] == ([passage for *_, passage in ranked] + [-1] * k)[:k]


@pytest.mark.parametrize(
    ("hits", "told"),
    [
        ([Hits(np.array([[0, 1]]), np.array([[2.0, 1.0]]))], "a row of hits for each of 2 queries, found 1"),
        ([Hits(np.array([[0], [1], [2]]), np.ones((3, 1)))], "a row of hits for each of 2 queries, found 3"),
        ([Hits(np.array([[0], [9]]), np.ones((2, 1)))], "passage numbers from 0 to 4"),
        ([Hits(np.array([[0], [-2]]), np.ones((2, 1)))], "passage numbers from 0 to 4"),
        ([Hits(np.array([[0.5], [1]]), np.ones((2, 1)))], "passage numbers from 0 to 4"),
        ([Hits(np.array([[0], [1]]), np.ones((2, 2)))], "expected hits as two arrays"),
        ([([0], [1])], "expected hits as two arrays"),
    ],
)
def test_hits_that_would_give_other_queries_rows_are_told(hits: Any, told: str) -> None:
    """An engine from outside that leaves out a query would shift the rows of all that follow."""
    with pytest.raises(UserError, match=told):
        list(checked(hits, queries=2, passages=5, label="mine"))


def test_hits_as_they_should_be_pass() -> None:
    given = [Hits(np.array([[4, -1]], np.int32), np.array([[1.0, -np.inf]], np.float32)) for _ in range(2)]
    assert len(list(checked(given, queries=2, passages=5, label="mine"))) == 2
