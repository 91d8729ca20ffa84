"""What every scorer has: whether it ranks the corpus, and what one that derives from Scorer inherits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mta4dpr.engines.bm25 import Bm25Scorer
from mta4dpr.engines.cross_encoder import CrossEncoderScorer
from mta4dpr.engines.dense import BiEncoderScorer
from mta4dpr.engines.engine import SearchScorer
from mta4dpr.engines.scorer import Scorer
from mta4dpr.engines.table import TableScorer
from mta4dpr.retrieval.hits import Hits


def test_who_ranks_the_corpus() -> None:
    """Mining asks only these; a cross-encoder's own tests are in test_pairs.py."""
    assert [one.ranks for one in (BiEncoderScorer, Bm25Scorer, TableScorer, SearchScorer, CrossEncoderScorer)] == [True] * 4 + [False]


def test_a_scorer_of_ones_own_needs_two_methods() -> None:
    """What only some scorers have is inherited: nothing to help with, nothing to note."""

    class Constant(Scorer):
        label, kind, key, ranks = "constant", "constant", "1", False

        def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
            raise AssertionError("it cannot rank")

        def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
            return np.ones(passages.shape, np.float32)

    scorer = Constant()
    scorer.score_along()
    assert scorer.note() == ""
    assert scorer.score(np.array([0]), np.array([[1, 2]])).tolist() == [[1.0, 1.0]]
