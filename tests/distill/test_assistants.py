"""Calibration, fusion and TASelect by hand; the table scorer."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.assistants import (
    distances,
    entropy,
    fit_temperature,
    footrule,
    fused_subsets,
    log_distribution,
    rank_biased_overlap,
    ranks,
    select,
    with_fused,
    zscore,
)
from mta4dpr.engines.bm25 import Bm25Scorer
from mta4dpr.engines.cross_encoder import CrossEncoderScorer
from mta4dpr.engines.dense import BiEncoderScorer
from mta4dpr.engines.table import TableScorer
from mta4dpr.errors import UserError
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.vectors import Vectors

GROUP = 6


def random_scores(seed: int, queries: int = 20, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(queries, GROUP)).astype(np.float32) * scale)


def everything(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


def mean_entropy(scores: torch.Tensor, kept: torch.Tensor, temperature: float) -> float:
    return float(entropy(log_distribution(scores / temperature, kept)).mean())


# --- calibration ---


def test_entropy_by_hand() -> None:
    """(1/2, 1/4, 1/4) has 1.5 ln 2 nats, the uniform one of two ln 2, a sure one 0; dropped passages have no part."""
    log_p = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    assert entropy(log_p).tolist() == pytest.approx([1.5 * math.log(2), math.log(2), 0.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.01, 1.0, 300.0]), share=st.floats(0.1, 0.9), drop=st.booleans())
def test_fit_temperature_reaches_the_wanted_entropy(seed: int, scale: float, share: float, drop: bool) -> None:
    """Cosines, logits and BM25 scores differ by orders of magnitude; each must come to the teacher's entropy (1e-4)."""
    scores = random_scores(seed, scale=scale)
    kept = everything(scores)
    kept[:, 3] = not drop
    wanted = share * math.log(int(kept[0].sum()))
    temperature, reached = fit_temperature(scores, kept, wanted)
    assert reached
    assert mean_entropy(scores, kept, temperature) == pytest.approx(wanted, abs=1e-4)


def test_constant_scores_cannot_reach_an_entropy_and_say_so() -> None:
    """A softmax of constants is uniform at every temperature: reported, with the nearest (lowest) bound, never an endless search."""
    scores = torch.full((5, GROUP), 3.0)
    temperature, reached = fit_temperature(scores, everything(scores), 0.5)
    assert not reached
    assert 0 < temperature < 1e-6
    assert math.isfinite(mean_entropy(scores, everything(scores), temperature))


def test_ties_at_the_top_give_the_nearest_bound() -> None:
    """Two tied best passages keep ln 2 nats at any temperature; a wish for less gets the bound whose entropy is ln 2."""
    scores = torch.tensor([[2.0, 2.0, 1.0, 0.0, 0.0, 0.0]]).repeat(4, 1)
    temperature, reached = fit_temperature(scores, everything(scores), 0.3)
    assert not reached
    assert mean_entropy(scores, everything(scores), temperature) == pytest.approx(math.log(2), abs=1e-4)


def test_more_than_the_greatest_entropy_gives_the_upper_bound() -> None:
    """The other end: nothing is flatter than uniform."""
    scores = random_scores(1)
    temperature, reached = fit_temperature(scores, everything(scores), math.log(GROUP) + 0.1)
    assert not reached
    assert mean_entropy(scores, everything(scores), temperature) == pytest.approx(math.log(GROUP), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_entropy_rises_with_temperature(seed: int) -> None:
    """What the bisection rests on."""
    scores = random_scores(seed)
    found = [mean_entropy(scores, everything(scores), float(t)) for t in np.geomspace(0.05, 20, 12)]
    assert all(low < high + 1e-6 for low, high in pairwise(found))
    assert found[0] < found[-1] - 0.5


def test_zscore_by_hand() -> None:
    """(1, 3, dropped) has mean 2 and deviation 1; the dropped 100 has no part in them."""
    found = zscore(torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]]))
    assert found[0, :2].tolist() == pytest.approx([-1.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.01, 1.0, 300.0]), shift=st.floats(-10, 10))
def test_zscore_has_mean_0_and_deviation_1(seed: int, scale: float, shift: float) -> None:
    """Per query, whatever the model's scale and offset."""
    scores = random_scores(seed, scale=scale)
    found = zscore(scores + scale * shift, everything(scores))
    assert torch.allclose(found.mean(-1), torch.zeros(20), atol=1e-3)
    assert torch.allclose(found.std(-1, unbiased=False), torch.ones(20), atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1234.567])
def test_zscore_of_constant_scores_is_uniform_and_finite(constant: float) -> None:
    """A deviation of 0 must give neither NaN nor a preference made of rounding."""
    scores = torch.full((2, GROUP), constant)
    found = log_distribution(zscore(scores, everything(scores)), everything(scores))
    assert torch.allclose(found.exp(), torch.full((2, GROUP), 1 / GROUP), atol=1e-6)


# --- fusion ---


def test_fused_is_the_arithmetic_mean_of_probabilities() -> None:
    """Not of scores or logarithms (method, section 3 [B]); originals stay as they are; dropped passages stay at 0."""
    kept = torch.tensor([[True, True, False, True]])
    rows = {"a": [1.0, 2.0, 9.0, 0.0], "b": [0.0, -3.0, 9.0, 1.0]}
    log_p = {label: log_distribution(torch.tensor([row]), kept) for label, row in rows.items()}
    found = with_fused(log_p, [("a", "b")])
    assert list(found) == ["a", "b", "a+b"]
    assert torch.equal(found["a"], log_p["a"])
    torch.testing.assert_close(found["a+b"].exp(), (log_p["a"].exp() + log_p["b"].exp()) / 2)
    assert found["a+b"][0, 2] == -math.inf
    assert found["a+b"].exp().sum().item() == pytest.approx(1.0)


def test_a_fused_three_is_the_mean_of_three() -> None:
    """Each member counts once: not the mean of a pair's mean and the third."""
    log_p = {label: random_scores(n).log_softmax(-1) for n, label in enumerate("abc")}
    found = with_fused(log_p, fused_subsets("abc", "all"))
    torch.testing.assert_close(found["a+b+c"].exp(), sum(one.exp() for one in log_p.values()) / 3)


def test_which_subsets_are_fused() -> None:
    """All of two or more: 4 for 3 assistants; named lists lose a subset when a member was replaced; none is none."""
    assert fused_subsets(["a", "b", "c"], "all") == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert fused_subsets(["a"], "all") == []
    assert fused_subsets(["a", "b", "c"], "none") == []
    assert fused_subsets(["a", "b", "c"], [["c", "a"], ["b", "c"]]) == [("c", "a"), ("b", "c")]
    assert fused_subsets(["a", "student-round-0", "c"], [["c", "a"], ["b", "c"]]) == [("c", "a")]


# --- TASelect ---

# T = (1/2, 1/4, 1/4) for both queries
TEACHER = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
ASSISTANTS = {
    # query 0: KL = 1/2 ln 2 + 1/4 ln(1/2) + 1/4 ln 1 = 1/4 ln 2; query 1: KL = 0
    "near": torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]).log(),
    # query 0: KL = 0; query 1: KL = 1/2 ln 4 + 1/4 ln(2/3) + 1/4 ln(1/2) = ln 2 - 1/4 ln 3
    "split": torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5]]).log(),
}


def test_kl_selects_by_the_teachers_divergence_from_each_assistant() -> None:
    """KL(P_T || P_A) by hand, and means 0.087 and 0.209: `near` for the batch, one each for the queries."""
    found = distances("kl", TEACHER, ASSISTANTS, rbo_p=0.9)
    expected = [[math.log(2) / 4, 0.0], [0.0, math.log(2) - math.log(3) / 4]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    assert select(found, "batch").tolist() == [0, 0]
    assert select(found, "query").tolist() == [1, 0]


def test_kl_direction_matters() -> None:
    """KL(T || A) prefers an assistant that covers the teacher, KL(A || T) one that sits on its mode; ours is the first."""
    teacher = torch.tensor([[0.5, 0.49, 0.01]]).log()
    offered = {"cover": torch.tensor([[0.34, 0.33, 0.33]]).log(), "mode": torch.tensor([[0.985, 0.01, 0.005]]).log()}
    # KL(T||cover) = 0.35, KL(T||mode) = 1.57; the other way round 0.89 and 0.62
    assert select(distances("kl", teacher, offered, rbo_p=0.9), "batch").tolist() == [0]


def test_footrule_by_hand() -> None:
    """Orders abc and cab: |0-1| + |1-2| + |2-0| = 4; abc and bac: 2; reversed: 4; equal: 0."""
    abc = torch.tensor([[3.0, 2.0, 1.0]])
    for other, expected in (([2.0, 1.0, 3.0], 4), ([2.0, 3.0, 1.0], 2), ([1.0, 2.0, 3.0], 4), ([9.0, 5.0, 0.0], 0)):
        assert footrule(abc, torch.tensor([other])).tolist() == [expected]
    found = distances("footrule", abc, {"cab": torch.tensor([[2.0, 1.0, 3.0]]), "bac": torch.tensor([[2.0, 3.0, 1.0]])}, rbo_p=0.9)
    assert select(found, "batch").tolist() == [1]


def test_rank_biased_overlap_by_hand() -> None:
    """Orders abc and bac share 0 of 1, 2 of 2, 3 of 3 passages: (1-p)(0 + p + p^2) + p^3 = p at p = 0.9 (0.09 + 0.081 + 0.729)."""
    abc, bac, cba = (torch.tensor([row]) for row in ([3.0, 2.0, 1.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]))
    assert rank_biased_overlap(abc, bac, 0.9).item() == pytest.approx(0.1 * (0 / 1 + 0.9 * 2 / 2 + 0.81 * 3 / 3) + 0.729)
    # abc and cba: 0 of 1, b of 2, 3 of 3
    assert rank_biased_overlap(abc, cba, 0.9).item() == pytest.approx(0.1 * (0 / 1 + 0.9 * 1 / 2 + 0.81 * 3 / 3) + 0.729)
    assert rank_biased_overlap(abc, cba, 0.5).item() == pytest.approx(0.5 * (0 / 1 + 0.5 * 1 / 2 + 0.25 * 3 / 3) + 0.125)
    found = distances("rbo", abc, {"cba": cba, "bac": bac}, rbo_p=0.9)
    assert select(found, "batch").tolist() == [1]  # the larger overlap is the nearer


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.floats(0.1, 0.99), order=st.permutations(range(GROUP)))
def test_rank_criteria_see_ranks_only(seed: int, p: float, order: list[int]) -> None:
    """1.0 (rbo) and 0 (footrule) for one order whatever the scores; group order and monotone transforms never matter."""
    teacher, other = random_scores(seed), random_scores(seed + 1)
    assert torch.allclose(rank_biased_overlap(teacher, 3 * teacher - 7, p), torch.ones(20), atol=1e-5)
    assert (footrule(teacher, teacher.exp()) == 0).all()
    assert torch.equal(footrule(teacher[:, order], other[:, order]), footrule(teacher, other))
    assert torch.allclose(rank_biased_overlap(teacher[:, order], other[:, order], p), rank_biased_overlap(teacher, other, p), atol=1e-5)
    assert (rank_biased_overlap(teacher, other, p) <= 1 + 1e-5).all()


@pytest.mark.parametrize("criterion", ["kl", "footrule", "rbo"])
def test_a_dropped_passage_has_no_part_in_selection(criterion: str) -> None:
    """Distances with one passage dropped are those of the group without it."""
    teacher, other = random_scores(3), random_scores(4)
    kept = everything(teacher)
    kept[:, 2] = False
    rest = [0, 1, 3, 4, 5]
    dropped = distances(criterion, log_distribution(teacher, kept), {"a": log_distribution(other, kept)}, rbo_p=0.9)
    without = distances(criterion, teacher[:, rest].log_softmax(-1), {"a": other[:, rest].log_softmax(-1)}, rbo_p=0.9)
    torch.testing.assert_close(dropped, without)


def test_ranks_break_ties_by_position() -> None:
    """Ties must come out the same on every machine."""
    assert ranks(torch.tensor([[1.0, 2.0, 1.0, 2.0]])).tolist() == [[2, 0, 3, 1]]


# --- scorers ---


@pytest.fixture
def table(tmp_path: Path, corpus: Corpus) -> Callable[..., TableScorer]:
    def make(
        rows: list[tuple[Any, Any, Any]], ids: list[str] | None = None, names: tuple[str, ...] = ("query", "passage", "score")
    ) -> TableScorer:
        columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), tmp_path / "scores.parquet")
        return TableScorer("stored", tmp_path / "scores.parquet", ids or ["q1", "q2"], corpus, "key")

    return make


ROWS = [("q2", "p03", 0.5), ("q1", "p00", 3.0), ("q1", "p02", 1.0), ("q1", "p01", 2.0), ("elsewhere", "p00", 9.0), ("q1", "unknown", 9.0)]


def test_table_scores_are_found_and_missing_pairs_get_the_querys_lowest(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A table holds the candidates of some retriever, groups hold others too; those count as bad, and are counted."""
    scorer = table(ROWS)
    p = corpus.numbers(["p00", "p01", "p02", "p03"])
    found = scorer.score(np.array([1, 0]), np.array([[p[3], p[0], p[1]], [p[0], p[2], p[3]]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 0.5, 0.5], [3.0, 1.0, 1.0]]
    assert scorer.missing == 3


def test_table_ranks_its_own_passages(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A short list ends with -1; queries come in the order asked."""
    [hits] = table(ROWS).rank(np.array([1, 0]), 2)
    assert [corpus.ids(row[row >= 0]) for row in hits.passages] == [["p03"], ["p00", "p01"]]
    assert hits.passages[0, 1] == -1
    assert hits.scores[1].tolist() == [3.0, 2.0]


def test_table_with_numbers_as_ids_and_whole_scores(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """MS MARCO's ids are written as integers by many tools; they are text here."""
    scorer = table([(1, "p00", 3), (2, "p01", 4)], ids=["1", "2"])
    assert scorer.score(np.array([0, 1]), corpus.numbers(["p00", "p01"])[:, None]).tolist() == [[3.0], [4.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_table_refuses_scores_that_are_no_numbers(table: Callable[..., TableScorer], bad: float | None) -> None:
    """One NaN would make the loss NaN hours later."""
    with pytest.raises(UserError, match="NaN or infinite"):
        table([*ROWS, ("q2", "p05", bad)])


def test_table_refuses_a_pair_twice(table: Callable[..., TableScorer]) -> None:
    """Which of the two counts would be a matter of file order."""
    with pytest.raises(UserError, match="twice"):
        table([*ROWS, ("q1", "p00", 3.0)])


def test_table_refuses_other_columns(table: Callable[..., TableScorer]) -> None:
    """The message names the columns that are expected."""
    with pytest.raises(UserError, match="columns query, passage, score"):
        table(ROWS, names=("qid", "passage", "score"))


def test_table_refuses_scores_that_are_text(table: Callable[..., TableScorer]) -> None:
    """A column of another type is the user's mistake, not a traceback."""
    with pytest.raises(UserError, match="columns query, passage, score"):
        table([("q1", "p00", "high"), ("q2", "p00", "low")])


def test_table_refuses_a_query_without_scores(table: Callable[..., TableScorer]) -> None:
    """There would be no lowest score to fall back on; the message names a query."""
    with pytest.raises(UserError, match=r"1 of 3 training queries, such as 'q3'"):
        table(ROWS, ids=["q1", "q2", "q3"])
    with pytest.raises(UserError, match=r"2 of 2 training queries"):
        table([("elsewhere", "p00", 1.0)])


def test_table_counts_what_is_not_used(table: Callable[..., TableScorer], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is dropped silently: a table of other queries, or of another version of the corpus, is seen in one line."""
    with caplog.at_level("INFO"):
        table([*ROWS, ("elsewhere", "p00", 1.0), ("elsewhere", "p01", 1.0), ("q1", "nowhere", 1.0)])
    [line] = caplog.messages
    told = "3 of queries that are not trained on, 2 of passages not in the corpus"
    assert line == f"stored: 5 of its table's {len(ROWS) + 3} scores are not used: {told}"


def test_table_with_an_empty_id_skips_the_row(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A null id names no query or passage: like an unknown one, it is no pair of ours."""
    scorer = table([*ROWS, ("q1", None, 5.0), (None, "p00", 5.0)])
    assert scorer.score(np.array([0]), corpus.numbers(["p00"])[None]).tolist() == [[3.0]]


def test_table_that_is_no_parquet_file(tmp_path: Path, corpus: Corpus) -> None:
    """A CSV and a missing file are told apart from a bug of ours."""
    (tmp_path / "scores.csv").write_text("query,passage,score\nq1,p00,1\n")
    for name in ("scores.csv", "nowhere.parquet"):
        with pytest.raises(UserError, match="is not a Parquet file"):
            TableScorer("stored", tmp_path / name, ["q1"], corpus, "key")


def test_who_ranks_the_corpus() -> None:
    """Mining asks only these; a cross-encoder's own tests are in test_pairs.py."""
    assert [one.ranks for one in (BiEncoderScorer, Bm25Scorer, TableScorer, CrossEncoderScorer)] == [True, True, True, False]


def test_bi_encoder_scores_are_inner_products_in_blocks(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The block size must not show, and `rank` and `score` must agree on a pair."""
    generator = np.random.default_rng(0)
    passage_vectors, query_vectors = generator.normal(size=(len(corpus), 8)), generator.normal(size=(9, 8)).astype(np.float32)
    monkeypatch.setattr("mta4dpr.distill.assistants.SCORE_BLOCK", 2)
    index = ExactIndex(Vectors(tmp_path, passage_vectors.astype(np.float32)), corpus, "cpu")
    scorer = BiEncoderScorer("dense", index, query_vectors, "key")
    asked, groups = np.array([8, 0, 3, 3, 1]), generator.integers(0, len(corpus), (5, 4))
    expected = np.array([[query_vectors[q] @ passage_vectors[p] for p in row] for q, row in zip(asked, groups, strict=True)])
    np.testing.assert_allclose(scorer.score(asked, groups), expected, rtol=1e-4, atol=1e-5)
    [hits] = scorer.rank(asked, 4)
    best = np.argsort(-(query_vectors[asked] @ passage_vectors.T), axis=1)[:, :4]
    assert (hits.passages == best).all()
    np.testing.assert_allclose(scorer.score(asked, hits.passages), hits.scores, rtol=1e-5, atol=1e-5)
