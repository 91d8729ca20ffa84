"""Reciprocal rank fusion against the formula."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.retrieval.fusion import reciprocal_rank_fusion


def test_by_hand() -> None:
    """Lists a b c and c a: a is 1/61 + 1/62, c is 1/61 + 1/63, b is 1/62."""
    lists = [np.array([[0, 1, 2]], np.int32), np.array([[2, 0, -1]], np.int32)]
    hits = reciprocal_rank_fusion(lists, k=60, depth=5, id_rank=np.arange(4))
    assert hits.passages.tolist() == [[0, 2, 1, -1, -1]]
    assert hits.scores[0, :3].tolist() == pytest.approx([1 / 61 + 1 / 62, 1 / 61 + 1 / 63, 1 / 62], rel=1e-6)


def test_equal_sums_fall_to_the_larger_id() -> None:
    """Mirrored lists are the common case of a tie: the order must not depend on which list is named first."""
    lists = [np.array([[0, 1]], np.int32), np.array([[1, 0]], np.int32)]
    for given_lists in (lists, lists[::-1]):
        assert reciprocal_rank_fusion(given_lists, k=60, depth=2, id_rank=np.array([0, 1])).passages.tolist() == [[1, 0]]
        assert reciprocal_rank_fusion(given_lists, k=60, depth=1, id_rank=np.array([1, 0])).passages.tolist() == [[0]]


rankings = st.lists(st.permutations(range(6)), min_size=3, max_size=3)


@given(st.lists(rankings, min_size=1, max_size=4), st.lists(st.integers(0, 6), min_size=4, max_size=4), st.integers(0, 100))
def test_any_lists_give_the_formulas_scores(lists: list[list[list[int]]], lengths: list[int], k: int) -> None:
    """Queries keep to themselves, lists end at different depths (-1)."""
    cut = [[ranking[:length] for ranking in one] for one, length in zip(lists, lengths, strict=False)]
    arrays = [np.array([row + [-1] * (6 - len(row)) for row in one], np.int32) for one in cut]
    hits = reciprocal_rank_fusion(arrays, k=k, depth=6, id_rank=np.arange(6))
    for query in range(3):
        expected: dict[int, float] = defaultdict(float)
        for one in cut:
            for rank, passage in enumerate(one[query], 1):
                expected[passage] += 1 / (k + rank)
        kept = hits.passages[query] >= 0
        assert dict(zip(hits.passages[query][kept].tolist(), hits.scores[query][kept].tolist(), strict=True)) == pytest.approx(expected)
        assert (np.diff(hits.scores[query][kept]) <= 0).all()
