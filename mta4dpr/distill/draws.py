"""Which queries and passages make the groups of a round: the pool of candidates, the order of the queries, the draws.

Every draw is a pure function of (seed, round, epoch, query id): a 64-bit mix of those numbers orders the candidates, and the
smallest are taken. Knows no scores and no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mta4dpr.data.columns import blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.errors import UserError
from mta4dpr.machine.counter import mix
from mta4dpr.retrieval.fusion import reciprocal_rank_fusion

RANK_BLOCK = 4096  # queries fused and drawn for at once: bounds the memory
LAST = np.uint64(2**64 - 1)  # orders behind every candidate what is none


class QueryOrder(NamedTuple):
    """The query of each group, in the order of training; all (groups,)."""

    queries: np.ndarray  # int32 query numbers
    epochs: np.ndarray  # how often all queries have come before
    copies: np.ndarray  # how often the query has come in this epoch


def negative_pool(rankings: Mapping[str, np.ndarray], queries: TrainingQueries, corpus: Corpus, *, depth: int, rrf_k: int) -> np.ndarray:
    """Candidates of each train query: the rankings fused, without its relevant passages, (train queries, depth) int32, -1 beyond the end.

    `rankings` are (train queries, any) passage numbers of each model, -1 beyond the end; `rrf_k` is the constant of reciprocal
    rank fusion (Cormack, Clarke and Buettcher 2009).
    """
    return np.concatenate([block for _, block in pool_blocks(rankings, queries, corpus, depth=depth, rrf_k=rrf_k)])


def pool_blocks(
    rankings: Mapping[str, np.ndarray], queries: TrainingQueries, corpus: Corpus, *, depth: int, rrf_k: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of `negative_pool`, block by block: (first query, candidates of the queries from there on)."""
    for rows in blocks(queries.train_size, RANK_BLOCK):
        numbers = queries.train[rows]
        most_relevant = int(queries.relevant.lengths(numbers).max())
        fused = reciprocal_rank_fusion(
            [ranking[rows] for ranking in rankings.values()], k=rrf_k, depth=depth + most_relevant, id_rank=corpus.id_rank
        ).passages
        is_out = (fused < 0) | queries.relevant.contain(numbers, fused)
        columns = np.argsort(is_out, axis=1, kind="stable")[:, :depth]  # those that stay come first, in their order
        candidates = np.where(np.take_along_axis(is_out, columns, axis=1), -1, np.take_along_axis(fused, columns, axis=1))
        yield rows.start, candidates.astype(np.int32)


def candidates_of_round(pool: np.ndarray, queries: TrainingQueries, *, scored: int, seed: int, round_number: int) -> np.ndarray:
    """The pool with `scored` candidates of each query drawn from it, in the pool's order, (train queries, up to scored) int32.

    All epochs of a round draw from these, so that a model that scores pairs has no more than these to score.
    """
    rows_of = blocks(len(pool), RANK_BLOCK)
    draws = [candidates_of_block(pool[rows], queries.hashes[rows], scored, seed=seed, round_number=round_number) for rows in rows_of]
    return np.concatenate(draws)


def candidates_of_block(block: np.ndarray, hashes: np.ndarray, scored: int, *, seed: int, round_number: int) -> np.ndarray:
    """The rows of `candidates_of_round` for some queries: their rows of the pool and their hashes (n,) uint64."""
    order = np.where(block < 0, LAST, mix(seed, round_number, hashes[:, None], 5, block))
    columns = np.sort(np.argsort(order, axis=1, kind="stable")[:, :scored], axis=1)
    return np.take_along_axis(block, columns, axis=1)


def query_order(
    queries: TrainingQueries, wrong: np.ndarray, *, groups: int, weight: float, seed: int, round_number: int, others: int = 1
) -> QueryOrder:
    """The query of each of `groups` groups: as many epochs as it takes, each of them in another order.

    In an epoch a query that is `wrong` (train queries,) bool comes `weight` times on average, the other ones `others` times.
    """
    numbers, hashes = queries.train, queries.hashes[: queries.train_size]
    epochs_of_order: list[np.ndarray] = []
    total = epoch = 0
    while total < groups:
        fraction = (mix(seed, round_number, epoch, hashes, 1) >> np.uint64(11)) * 2.0**-53
        times = np.where(wrong, np.floor(weight) + (fraction < weight % 1), others).astype(np.int64)
        query = np.repeat(numbers, times)
        copy = np.arange(len(query)) - np.repeat(np.cumsum(times) - times, times)
        order = np.argsort(mix(seed, round_number, epoch, hashes[query], 2, copy), kind="stable")
        epochs_of_order.append(np.stack([query, np.full(len(query), epoch), copy])[:, order])
        total += len(query)
        epoch += 1
    query, epochs, copy = np.concatenate(epochs_of_order, axis=1)[:, :groups]
    return QueryOrder(query.astype(np.int32), epochs, copy)


def draw(
    pool: np.ndarray, order: QueryOrder, queries: TrainingQueries, *, corpus_size: int, group: int, seed: int, round_number: int
) -> tuple[np.ndarray, int]:
    """Passages of each group, (groups, group) int32, the positive first; and how many places a short pool left to random passages.

    Raises UserError where the corpus has too few passages for a group of that size.
    """
    passages, filled = np.empty((len(order.queries), group), np.int32), 0
    for rows in blocks(len(passages), RANK_BLOCK):
        numbers = order.queries[rows]
        counters = [np.int64(seed), np.int64(round_number), order.epochs[rows], queries.hashes[numbers], 3 + order.copies[rows]]
        place = mix(*counters, 1) % queries.positives.lengths(numbers).astype(np.uint64)
        passages[rows, 0] = queries.positives.flat[queries.positives.starts[numbers] + place.astype(np.int64)]
        candidates = np.asarray(pool[numbers])
        columns = [counter[:, None] if counter.ndim else counter for counter in counters]
        mixed = np.where(candidates < 0, LAST, mix(*columns, 2, candidates))
        chosen = np.take_along_axis(candidates, np.argsort(mixed, axis=1, kind="stable")[:, : group - 1], axis=1)
        passages[rows, 1 : 1 + chosen.shape[1]] = chosen
        passages[rows, 1 + chosen.shape[1] :] = -1
        for row in rows.start + np.flatnonzero((passages[rows] < 0).any(axis=1)):
            number = order.queries[row]
            counter = (seed, round_number, int(order.epochs[row]), queries.hashes[number], 3 + int(order.copies[row]))
            filled += _fill(passages[row], counter, queries.relevant[number], corpus_size)
    return passages, filled


def _fill(passages: np.ndarray, counter: Sequence[Any], relevant: np.ndarray, corpus_size: int) -> int:
    """Random passages in the places of a group that its pool left open; returns how many. For the few queries with a short pool."""
    attempt = 0
    places = np.flatnonzero(passages < 0)
    for place in places:
        while True:
            candidate = int(mix(*counter, 4, attempt)) % corpus_size
            attempt += 1
            if candidate not in passages[:place] and candidate not in relevant:
                break
            if attempt > 1000 + 10 * corpus_size:
                raise UserError(f"the corpus has too few passages ({corpus_size}) for groups of {len(passages)}; set distill.group to less")
        passages[place] = candidate
    return len(places)
