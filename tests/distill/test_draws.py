"""Pool, order of the queries and draws: by the formula for one query at a time, and that nothing but the counters decides them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill import draws
from mta4dpr.distill.draws import QueryOrder, candidates_of_round, draw, negative_pool, query_order
from mta4dpr.distill.queries import PassageLists, TrainingQueries
from mta4dpr.errors import UserError
from mta4dpr.machine.counter import mix

from .tiny_distill import PASSAGES, TRAIN, make_queries

# --- the pool ---


def test_the_pool_is_fused_by_reciprocal_rank(corpus: Corpus) -> None:
    """k = 60: 7 has 1/61 + 1/62, 8 has 1/62 + 1/61 (a tie: the greater id first), 9 has 2/63, 5 has 1/64; relevant 3 is gone."""
    queries = make_queries([3], train=1, held_out=0, positives=lambda n: [3])
    lists = {"a": np.array([[7, 8, 9, 5, 3]], np.int32), "b": np.array([[8, 7, 9, 3, -1]], np.int32)}
    pool = negative_pool(lists, queries, corpus, depth=6, rrf_k=60)
    first = sorted([7, 8], key=lambda n: corpus.id(n), reverse=True)
    assert pool.tolist() == [[*first, 9, 5, -1, -1]]
    assert negative_pool(lists, queries, corpus, depth=3, rrf_k=60).tolist() == [[*first, 9]]  # relevant ones take no place


def test_candidates_of_a_round_are_a_uniform_draw_in_the_pools_order(queries: TrainingQueries) -> None:
    """Each of 12 places is chosen 4 times in 12 (chi-square, 11 degrees, 0.9999); pools that are short stay whole, -1 at the end."""
    pool = np.arange(12, dtype=np.int32)[None].repeat(TRAIN, 0)
    found = np.concatenate([candidates_of_round(pool, queries, scored=4, seed=1, round_number=n) for n in range(100)])
    assert found.shape == (100 * TRAIN, 4)
    assert (np.diff(found) > 0).all()
    counts = np.bincount(found.ravel(), minlength=12)
    assert ((counts - 800) ** 2 / 800).sum() < 37.4
    pool[:, 3:] = -1
    assert (candidates_of_round(pool, queries, scored=4, seed=1, round_number=0) == [0, 1, 2, -1]).all()
    assert candidates_of_round(pool, queries, scored=48, seed=1, round_number=0).tolist() == pool.tolist()


def test_candidates_of_a_query_do_not_depend_on_the_others(queries: TrainingQueries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on its place or on the block of queries that is drawn for at once."""
    pool = np.stack([np.random.default_rng(n).permutation(PASSAGES)[:12] for n in range(TRAIN)]).astype(np.int32)
    order = np.random.default_rng(0).permutation(TRAIN)
    plain = candidates_of_round(pool, queries, scored=4, seed=1, round_number=0)
    monkeypatch.setattr("mta4dpr.distill.draws.RANK_BLOCK", 7)
    assert (candidates_of_round(pool[order], make_queries(order.tolist()), scored=4, seed=1, round_number=0) == plain[order]).all()


# --- the order of the queries ---


@pytest.mark.parametrize("weight", [1.0, 1.5, 2.0, 3.0])
def test_wrong_queries_are_drawn_weight_times_as_often(queries: TrainingQueries, weight: float) -> None:
    """Over 400 epochs of 24 queries with 8 wrong ones; whole weights exactly, 1.5 within 4 deviations."""
    wrong = np.arange(TRAIN) < 8
    expected = 400 * (16 + 8 * weight)
    order, epochs, copies = query_order(queries, wrong, groups=int(expected * 1.2), weight=weight, seed=1, round_number=1)
    inside = epochs < 400
    counts = np.bincount(order[inside], minlength=TRAIN)
    assert (counts[~wrong] == 400).all()
    tolerance = 0 if weight % 1 == 0 else 4 * math.sqrt(400 * 0.25)
    assert (np.abs(counts[wrong] - 400 * weight) <= tolerance).all()
    assert len(set(zip(order.tolist(), epochs.tolist(), copies.tolist(), strict=True))) == len(order)


# --- draws ---


def test_draws_are_uniform(queries: TrainingQueries) -> None:
    """3 of 10 candidates in 2,000 epochs: each is drawn 600 times, chi-square with 9 degrees of freedom below its 0.9999 quantile."""
    epochs = np.arange(2000)
    pool = np.arange(20, 30, dtype=np.int32)[None].repeat(TRAIN, 0)
    passages, _ = draw(
        pool, QueryOrder(np.full(2000, 3), epochs, np.zeros(2000, int)), queries, corpus_size=PASSAGES, group=4, seed=1, round_number=0
    )
    counts = np.bincount(passages[:, 1:].ravel(), minlength=PASSAGES)[20:]
    assert counts.sum() == 6000
    assert ((counts - 600) ** 2 / 600).sum() < 33.7
    pairs = Counter(zip(passages[:-1, 1].tolist(), passages[1:, 1].tolist(), strict=True))
    assert sum((pairs[a, b] - 19.99) ** 2 / 19.99 for a in range(20, 30) for b in range(20, 30)) < 161  # 99 degrees: no serial pattern
    positives = Counter(passages[:, 0].tolist())  # query 3 has two positives
    assert set(positives) == set(queries.positives[3].tolist())
    assert abs(positives[3] - 1000) < 4 * math.sqrt(500)


def test_a_corpus_too_small_for_a_group_is_an_error_not_an_endless_loop(queries: TrainingQueries) -> None:
    """Query 3 has 2 relevant passages among 5: 3 negatives exist, 4 are wanted."""
    pool = np.full((TRAIN, 1), -1, np.int32)
    with pytest.raises(UserError, match="too few passages"):
        draw(pool, QueryOrder(*np.array([[3], [0], [0]])), queries, corpus_size=5, group=5, seed=0, round_number=0)


# --- thousands of queries at once draw what one query after the other draws ---


def pool_of_one(lists: Sequence[np.ndarray], n: int, relevant: np.ndarray, *, depth: int, rrf_k: int, id_rank: np.ndarray) -> list[int]:
    """By the formula: sum of 1 / (k + rank) in the lists' order, ties by the larger id."""
    gains: dict[int, float] = {}
    for ranking_of in lists:
        for rank, passage in enumerate(ranking_of[n].tolist(), 1):
            if passage >= 0:
                gains[passage] = gains.get(passage, 0.0) + 1.0 / (rrf_k + rank)
    ranked = sorted(gains, key=lambda passage: (np.float32(gains[passage]), id_rank[passage]), reverse=True)
    return [passage for passage in ranked if passage not in relevant][:depth]


def draw_of_one(
    pool: np.ndarray,
    query: int,
    epoch: int,
    copy: int,
    queries: TrainingQueries,
    corpus_size: int,
    group: int,
    seed: int,
    round_number: int,
) -> list[int]:
    """One group, as the module's docstring describes it."""
    counter = (seed, round_number, epoch, queries.hashes[query], 3 + copy)
    positives = queries.positives[query]
    candidates = pool[query][pool[query] >= 0]
    found = [int(positives[int(mix(*counter, 1)) % len(positives)])]
    found += candidates[np.argsort(mix(*counter, 2, candidates), kind="stable")[: group - 1]].tolist()
    attempt = 0
    while len(found) < group:
        candidate = int(mix(*counter, 4, attempt)) % corpus_size
        attempt += 1
        if candidate not in found and candidate not in queries.relevant[query]:
            found.append(candidate)
    return found


@pytest.mark.parametrize("block", [5, 4096])
def test_blocks_of_queries_give_what_single_queries_give(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Bit for bit: relevant passages in the lists, lists that end early, pools too short for a group, copies and epochs."""
    monkeypatch.setattr(draws, "RANK_BLOCK", block)
    size, count, depth = 400, 83, 12
    chance = np.random.default_rng(11)
    relevant = PassageLists.of([np.sort(chance.choice(size, 1 + n % 4, replace=False)).astype(np.int32) for n in range(count)])
    positives = PassageLists.of([passages[:1] for passages in relevant])
    queries = TrainingQueries([f"q{n}" for n in range(count)], ["text"] * count, positives, relevant, count, [])
    lists = []
    for _ in range(3):
        ranked = np.array([chance.permutation(40)[:depth] + 5 * n % 300 for n in range(count)], np.int32)
        ranked[:, 2] = [np.setdiff1d(relevant[n], ranked[n])[:1].tolist()[0] if n % 2 else ranked[n, 2] for n in range(count)]
        ranked[::7, 3:] = -1
        lists.append(ranked)
    many: Any = SimpleNamespace(id_rank=chance.permutation(size).astype(np.int32))
    pool = negative_pool(dict(enumerate(lists)), queries, many, depth=depth, rrf_k=60)  # type: ignore[arg-type]
    for n in range(count):
        expected = pool_of_one(lists, n, relevant[n], depth=depth, rrf_k=60, id_rank=many.id_rank)
        assert pool[n].tolist() == expected + [-1] * (depth - len(expected))
    order = query_order(queries, np.arange(count) % 3 == 0, groups=300, weight=2.5, seed=4, round_number=1)
    passages, filled = draw(pool, order, queries, corpus_size=size, group=9, seed=4, round_number=1)
    expected_groups = [draw_of_one(pool, *(int(x) for x in one), queries, size, 9, 4, 1) for one in zip(*order, strict=True)]
    assert passages.tolist() == expected_groups
    assert filled == sum(max(0, 8 - int((pool[n] >= 0).sum())) for n in order[0]) > 0
