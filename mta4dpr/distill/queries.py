"""The training queries: which remain when leaks are dropped, and which of them make D_eval.

A training query whose id or normalised text occurs in any eval set is dropped and counted (ids count within one collection:
every file of DPR's numbers its questions from 0). D_eval is the part with the smallest hashes of the normalised text, so that
duplicates of a text are always on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from mta4dpr.data.collection import QuerySet
from mta4dpr.data.columns import blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.records import normalised
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of

BLOCK = 2**16  # queries whose judgements are looked up at once


@dataclass(frozen=True)
class PassageLists:
    """Passages of each query, any number of them, as two flat arrays: half a million small arrays would take 60 MB and be slow."""

    starts: np.ndarray  # (queries + 1,) int64
    flat: np.ndarray  # (passages of all queries,) int32

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> PassageLists:
        """Those passages of query 0, 1, ..."""
        starts = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
        return cls(starts, np.array(list(chain.from_iterable(lists)), np.int32))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, query: int) -> np.ndarray:
        return self.flat[self.starts[query] : self.starts[query + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[n] for n in range(len(self)))

    def lengths(self, queries: np.ndarray) -> np.ndarray:
        """How many passages each of those queries has, in the shape of `queries`."""
        return np.asarray(self.starts[queries + 1] - self.starts[queries])

    def of_queries(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All passages of those queries, (passages,), after the places in `queries` of the ones that they belong to, (passages,)."""
        lengths = self.lengths(queries)
        places = np.repeat(np.arange(len(queries)), lengths)
        within = np.arange(len(places)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return places, self.flat[np.repeat(self.starts[queries], lengths) + within]

    def contain(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Which passages are in the list of their row's query: queries (n,), passages (n, any) -> (n, any) bool."""
        rows, own = self.of_queries(queries)
        size = int(max(passages.max(initial=-1), own.max(initial=-1))) + 2  # passage -1 stands for none
        wanted, known = np.arange(len(queries))[:, None] * size + passages + 1, np.sort(rows * size + own + 1)
        if not len(known):
            return np.zeros(passages.shape, bool)
        return np.asarray(known[np.minimum(np.searchsorted(known, wanted), len(known) - 1)] == wanted)


@dataclass
class TrainingQueries:
    """Queries with at least one positive in the corpus, D_train first, then D_eval; positions are query numbers."""

    ids: list[str]
    texts: list[str]
    positives: PassageLists  # passages with relevance >= positive_rel
    relevant: PassageLists  # positives, and passages with relevance >= 1: never negatives
    train_size: int  # queries of D_train
    counts: list[str]  # sentences for the log: how many remain, how many were dropped and why

    @property
    def train(self) -> np.ndarray:
        """Numbers of the queries of D_train."""
        return np.arange(self.train_size)

    @property
    def held_out(self) -> np.ndarray:
        """Numbers of the queries of D_eval."""
        return np.arange(self.train_size, len(self.ids))

    @cached_property
    def hashes(self) -> np.ndarray:
        """A 64-bit number for each query id: what the draws depend on, (queries,) uint64."""
        return np.array([_hash(query_id) for query_id in self.ids], np.uint64)

    @cached_property
    def text_hashes(self) -> np.ndarray:
        """A 64-bit number for each query text: what kept pair scores depend on, (queries,) uint64."""
        return np.array([_hash(text) for text in self.texts], np.uint64)

    @cached_property
    def key(self) -> str:
        """Changes with everything that rankings for these queries depend on: what kept ones are looked up by."""
        return key_of([self.ids, self.texts, [p.tolist() for p in self.positives], self.train_size])

    def qrels_held_out(self, corpus: Corpus) -> dict[str, dict[str, int]]:
        """Judgements of D_eval: the positives, with relevance 1."""
        return {self.ids[n]: dict.fromkeys(corpus.ids(self.positives[n]), 1) for n in self.held_out}


def training_queries(
    train: QuerySet,
    eval_sets: Sequence[QuerySet],
    corpus: Corpus,
    *,
    positive_rel: int,
    eval_fraction: float,
    eval_max: int,
    exclude_self: bool = False,
) -> TrainingQueries:
    """Drops leaks and queries without a positive, counts them, and sets D_eval aside.

    Positives are passages of relevance `positive_rel` or more; D_eval is `eval_fraction` of the queries, at most `eval_max`. With
    `exclude_self`, the passage that has the query's own id is never a negative. Raises UserError where fewer than two texts remain.
    """
    eval_ids = {query_id for eval_set in eval_sets if eval_set.namespace == train.namespace for query_id in eval_set.texts}
    eval_texts = {normalised(text) for eval_set in eval_sets for text in eval_set.texts.values()}
    ids, hashes = [], []
    leaks = 0
    for query_id, text in train.texts.items():
        form = normalised(text)
        if query_id in eval_ids or form in eval_texts:
            leaks += 1
        else:
            ids.append(query_id)
            hashes.append(_hash(form))
    positives, relevant, absent = _judged(train, ids, corpus, positive_rel=positive_rel, exclude_self=exclude_self)
    has_positive = np.diff(positives.starts) > 0
    without_positive = int((~has_positive).sum())
    by_hash = np.array(hashes, np.uint64)
    kept = np.flatnonzero(has_positive)
    if len(np.unique(by_hash[kept])) < 2:
        raise UserError(
            f"{train.id} leaves {len(kept)} training queries (of {len(train.texts):,}; {leaks:,} also occur in an eval set, "
            f"{without_positive:,} have no positive in the corpus); distillation needs at least two different ones"
        )
    wanted = max(1, min(eval_max, int(eval_fraction * len(kept))))
    rising = np.sort(by_hash[kept])
    limit = rising[wanted - 1] if rising[wanted - 1] != rising[-1] else rising[0]  # D_train is never empty
    in_train = by_hash[kept] > limit
    order, train_size = np.concatenate([kept[in_train], kept[~in_train]]), int(in_train.sum())
    counts = [
        f"{train.id}: {len(kept):,} training queries, {train_size:,} in D_train, {len(kept) - train_size:,} in D_eval",
        f"{train.id}: {leaks:,} dropped because they occur in an eval set, {without_positive:,} because no positive "
        f"(relevance >= {positive_rel}) is in the corpus",
    ]
    if absent:
        counts.append(f"{train.id}: {absent:,} judgements name passages that are not in the corpus")
    ids = [ids[n] for n in order]
    texts = [train.texts[query_id] for query_id in ids]
    return TrainingQueries(ids, texts, _in_order(positives, order), _in_order(relevant, order), train_size, counts)


def _judged(
    train: QuerySet, ids: Sequence[str], corpus: Corpus, *, positive_rel: int, exclude_self: bool
) -> tuple[PassageLists, PassageLists, int]:
    """Positives and relevant passages of those queries, in rising order, and how many judgements name no passage of the corpus."""
    keys: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])  # query * passages + passage, of positives and of relevant ones
    absent, size = 0, len(corpus)
    for block in blocks(len(ids), BLOCK):
        judged = [train.qrels[query_id] for query_id in ids[block]]
        rows = np.repeat(np.arange(block.start, block.stop), [len(one) for one in judged])
        numbers = corpus.numbers([passage_id for one in judged for passage_id in one])
        relevance = np.fromiter(chain.from_iterable(one.values() for one in judged), np.int64, len(rows))
        absent += int((numbers < 0).sum())
        for kind, least in zip(keys, (positive_rel, min(1, positive_rel)), strict=True):
            chosen = (numbers >= 0) & (relevance >= least)
            kind.append(rows[chosen] * size + numbers[chosen])
        if exclude_self:
            itself = corpus.numbers(ids[block])
            present = np.flatnonzero(itself >= 0)
            keys[1].append((block.start + present) * size + itself[present])
    positives, relevant = (np.unique(np.concatenate(kind)) for kind in keys)
    return _lists_of(positives, len(ids), size), _lists_of(relevant, len(ids), size), absent


def _lists_of(keys: np.ndarray, queries: int, size: int) -> PassageLists:
    rows, passages = np.divmod(keys, size)
    return PassageLists(np.searchsorted(rows, np.arange(queries + 1)), passages.astype(np.int32))


def _in_order(lists: PassageLists, order: np.ndarray) -> PassageLists:
    """The lists of those queries, in that order."""
    return PassageLists(np.concatenate([[0], np.cumsum(lists.lengths(order))]), lists.of_queries(order)[1])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "little")
