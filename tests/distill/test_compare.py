"""Compare on D_eval, by hand: the whole corpus, or the stored candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mta4dpr.distill.compare import compare, held_out_candidates

from .tiny_distill import HELD_OUT, MatrixScorer, knowing_matrix
from .tiny_rounds import BAD, GOOD, Setting


def test_compare_over_the_whole_corpus_by_hand(setting: Setting) -> None:
    """RR@10 of D_eval by a plain loop over the matrix."""
    bench = setting.bench(student=[1.0])
    scorer = setting.scorer("x", 1.0)
    total = 0.0
    for n in setting.queries.held_out:
        order = np.argsort(-scorer.matrix[n])
        rank = int(np.flatnonzero(np.isin(order, setting.queries.positives[n]))[0]) + 1
        total += 1 / rank if rank <= 10 else 0.0
    values = compare([scorer, setting.scorer("good", GOOD)], bench)
    assert values == {"x": pytest.approx(total / HELD_OUT), "good": 1.0}
    assert 0.1 < values["x"] < 0.9


@pytest.mark.parametrize("measure", ["RR@10", "nDCG@20"])
def test_compare_looks_as_deep_as_its_measure(setting: Setting, measure: str) -> None:
    """`depth` says how long the lists are that mine; a shorter one would make another measure of it under the same name."""
    shallow, deep = (setting.bench(student=[1.0], compare_measure=measure, depth=depth) for depth in (3, 30))
    scorer = setting.scorer("x", 1.0)
    assert compare([scorer], shallow) == compare([scorer], deep)


def test_compare_reranks_the_same_candidates_for_all(setting: Setting) -> None:
    """rerank: positives and the originals' fused candidates, so every scorer has a chance; by hand for one scorer."""
    bench = setting.bench(student=[1.0], compare="rerank", depth=4)
    scorer, candidates = setting.scorer("x", 1.0), held_out_candidates(bench)
    total = 0.0
    for n, found in zip(setting.queries.held_out, candidates, strict=True):
        assert set(setting.queries.positives[n]) <= set(found)
        assert len(set(found)) == len(found)
        order = found[np.argsort(-scorer.matrix[n][found])]
        total += 1 / (int(np.flatnonzero(np.isin(order, setting.queries.positives[n]))[0]) + 1)
    values = compare([scorer, setting.scorer("bad", BAD)], bench)
    assert values["x"] == pytest.approx(total / HELD_OUT)
    assert 0 < values["bad"] < values["x"]


def test_a_scorer_that_finds_nothing_is_worth_nothing(setting: Setting) -> None:
    """BM25 may share no term with any query of D_eval, or with some: 0 for those, not an error."""

    class Mute(MatrixScorer):
        def rank(self, queries: np.ndarray, k: int) -> Any:
            for hits in super().rank(queries, k):
                silent = np.isin(queries[: len(hits.passages)], self.mute) if len(queries) <= 7 else np.zeros(len(hits.passages), bool)
                hits.passages[silent], hits.scores[silent] = -1, -np.inf
                yield hits

    mute = Mute("x", knowing_matrix(1, setting.queries, GOOD), setting.corpus)
    bench = setting.bench(student=[1.0])
    mute.mute = setting.queries.held_out[:2]
    assert compare([mute], bench)["x"] == pytest.approx((HELD_OUT - 2) / HELD_OUT)
    mute.mute = setting.queries.held_out
    assert compare([mute], bench)["x"] == 0.0
