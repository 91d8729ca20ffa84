"""The training queries: which are left after leaks are dropped, and which of them make D_eval.

A training query whose id or normalised text occurs in any eval set is dropped and counted (ids count within one collection:
every file of DPR's numbers its questions from 0). D_eval is the part with the
smallest hashes of the normalised text, so that duplicates of a text are always on one side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mta4dpr.data.collection import QuerySet, normalised
from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import UserError
from mta4dpr.files import key_of


@dataclass
class TrainingQueries:
    """Queries with at least one positive in the corpus, D_train first, then D_eval; positions are query numbers."""

    ids: list[str]
    texts: list[str]
    positives: list[np.ndarray]  # passages with relevance >= positive_rel, int32
    relevant: list[np.ndarray]  # positives, and passages with relevance >= 1: never negatives
    train_size: int  # queries of D_train
    counts: list[str]

    @property
    def train(self) -> np.ndarray:
        return np.arange(self.train_size)

    @property
    def held_out(self) -> np.ndarray:
        """D_eval."""
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

    With `exclude_self`, the passage that has the query's own id is never a negative.
    """
    eval_ids = {query_id for eval_set in eval_sets if eval_set.namespace == train.namespace for query_id in eval_set.texts}
    eval_texts = {normalised(text) for eval_set in eval_sets for text in eval_set.texts.values()}
    kept: list[tuple[int, str, str, np.ndarray, np.ndarray]] = []
    leaks = without_positive = absent = 0
    for query_id, text in train.texts.items():
        form = normalised(text)
        if query_id in eval_ids or form in eval_texts:
            leaks += 1
            continue
        judged = train.qrels[query_id]
        numbers = corpus.numbers(list(judged))
        relevance = np.array(list(judged.values()))
        absent += int((numbers < 0).sum())
        positives = np.sort(numbers[(numbers >= 0) & (relevance >= positive_rel)])
        if not len(positives):
            without_positive += 1
            continue
        relevant = np.sort(numbers[(numbers >= 0) & (relevance >= min(1, positive_rel))])
        if exclude_self:
            itself = corpus.numbers([query_id])
            relevant = np.union1d(relevant, itself[itself >= 0]).astype(np.int32)
        kept.append((_hash(form), query_id, text, positives, relevant))
    if len({one[0] for one in kept}) < 2:
        raise UserError(
            f"{train.id} leaves {len(kept)} training queries (of {len(train.texts):,}; {leaks:,} also occur in an eval set, "
            f"{without_positive:,} have no positive in the corpus); distillation needs at least two different ones"
        )
    wanted = max(1, min(eval_max, int(eval_fraction * len(kept))))
    by_hash = sorted(one[0] for one in kept)
    limit = by_hash[wanted - 1] if by_hash[wanted - 1] != by_hash[-1] else by_hash[0]  # D_train is never empty
    ordered = [one for one in kept if one[0] > limit] + [one for one in kept if one[0] <= limit]
    train_size = sum(one[0] > limit for one in kept)
    counts = [
        f"{train.id}: {len(kept):,} training queries, {train_size:,} in D_train, {len(kept) - train_size:,} in D_eval",
        f"{train.id}: {leaks:,} dropped because they occur in an eval set, {without_positive:,} because no positive "
        f"(relevance >= {positive_rel}) is in the corpus",
    ]
    if absent:
        counts.append(f"{train.id}: {absent:,} judgements name passages that are not in the corpus")
    _, ids, texts, positives_of, relevant_of = (list(column) for column in zip(*ordered, strict=True))
    return TrainingQueries(ids, texts, positives_of, relevant_of, train_size, counts)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "little")
