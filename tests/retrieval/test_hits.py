"""The one order of rankings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.retrieval.hits import best

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
