"""Dense retrieval as an engine: inner products of kept vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.engines.dense import BiEncoderScorer
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.vectors import Vectors


def test_bi_encoder_scores_are_inner_products_in_blocks(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The block size must not show, and `rank` and `score` must agree on a pair."""
    generator = np.random.default_rng(0)
    passage_vectors, query_vectors = generator.normal(size=(len(corpus), 8)), generator.normal(size=(9, 8)).astype(np.float32)
    monkeypatch.setattr("mta4dpr.engines.dense.SCORE_BLOCK", 2)
    index = ExactIndex(Vectors(tmp_path, passage_vectors.astype(np.float32)), corpus, "cpu")
    scorer = BiEncoderScorer("dense", index, query_vectors, "key")
    asked, groups = np.array([8, 0, 3, 3, 1]), generator.integers(0, len(corpus), (5, 4))
    expected = np.array([[query_vectors[q] @ passage_vectors[p] for p in row] for q, row in zip(asked, groups, strict=True)])
    np.testing.assert_allclose(scorer.score(asked, groups), expected, rtol=1e-4, atol=1e-5)
    [hits] = scorer.rank(asked, 4)
    best = np.argsort(-(query_vectors[asked] @ passage_vectors.T), axis=1)[:, :4]
    assert (hits.passages == best).all()
    np.testing.assert_allclose(scorer.score(asked, hits.passages), hits.scores, rtol=1e-5, atol=1e-5)
