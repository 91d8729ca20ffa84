"""Teachers and assistants: anything that ranks the corpus and scores (query, passage) pairs. Fusion, calibration, TASelect.

A scorer is bound to the training queries and takes query numbers. TASelect (method, section 3) sees stored scores only,
never the student.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.pairs import PairScores
from mta4dpr.errors import UserError
from mta4dpr.retrieval.bm25 import Bm25Retriever
from mta4dpr.retrieval.dense import ExactIndex
from mta4dpr.retrieval.hits import Hits, best

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SCORE_BLOCK = 256  # groups scored at once


class Scorer(Protocol):
    """`key` changes with everything that decides its scores. Without `ranks`, it only scores pairs: it cannot mine."""

    label: str
    kind: str
    key: str
    ranks: bool

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The corpus ranked for those queries, a block of queries at a time."""
        ...

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of groups: queries (n,), passages (n, group) -> (n, group) float32."""
        ...


class BiEncoderScorer:
    """Inner products of kept vectors: no pair is ever encoded twice."""

    kind, ranks = "bi-encoder", True

    def __init__(self, label: str, index: ExactIndex, query_vectors: np.ndarray, key: str) -> None:
        self.label, self.key = label, key
        self._index, self._queries = index, query_vectors

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        return self._index.search(np.asarray(self._queries[queries]), k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        scores = np.empty(passages.shape, np.float32)
        for start in range(0, len(queries), SCORE_BLOCK):
            block = slice(start, start + SCORE_BLOCK)
            vectors = self._index.vectors.rows(passages[block])
            scores[block] = np.einsum("qd,qgd->qg", np.asarray(self._queries[queries[block]], np.float32), vectors)
        return scores


class Bm25Scorer:
    """BM25 as a teacher or assistant; 0 where a passage shares no term with the query."""

    kind, ranks = "bm25", True

    def __init__(self, retriever: Bm25Retriever, texts: Sequence[str], key: str) -> None:
        self.label, self.key = retriever.label, key
        self._retriever, self._texts = retriever, texts

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        return self._retriever.search([self._texts[n] for n in queries], k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return np.stack([self._retriever.score(self._texts[int(q)], row) for q, row in zip(queries, passages, strict=True)])


class TableScorer:
    """Scores from a Parquet file with the columns query, passage, score (ids as text).

    A pair that the table lacks gets the lowest score that the table has for its query; `missing` counts them.
    """

    kind, ranks = "score table", True

    def __init__(self, label: str, path: Path, ids: Sequence[str], corpus: Corpus, key: str) -> None:
        self.label, self.key, self.missing, self._corpus = label, key, 0, corpus
        self._pairs, self._scores, self._floor = _read_table(label, path, ids, corpus)
        self._size = len(corpus)

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        rows_of, passages = np.divmod(self._pairs, self._size)
        for start in range(0, len(queries), SCORE_BLOCK):
            block = queries[start : start + SCORE_BLOCK]
            low, high = np.searchsorted(rows_of, block), np.searchsorted(rows_of, block + 1)
            flat = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)]).astype(np.int64)
            rows = np.repeat(np.arange(len(block)), high - low)
            yield best(rows, passages[flat], self._scores[flat], queries=len(block), k=k, id_rank=self._corpus.id_rank)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        wanted = queries[:, None].astype(np.int64) * self._size + passages
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        found = self._pairs[place] == wanted
        self.missing += int((~found).sum())
        return np.where(found, self._scores[place], self._floor[queries][:, None]).astype(np.float32)


class CrossEncoderScorer:
    """Kept pair scores; a pair is scored when it is first asked for."""

    kind, ranks = "cross-encoder", False

    def __init__(self, pairs: PairScores) -> None:
        self.label, self.key, self._pairs = pairs.label, pairs.key, pairs

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        raise AssertionError(f"{self.label} is a cross-encoder: it scores pairs and cannot rank the corpus; callers look at `ranks`")

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return self._pairs.scores(queries[:, None], passages)

    def score_along(self) -> None:
        """Scores what the main process of a launch waits for, with it."""
        self._pairs.score_along()


def _read_table(label: str, path: Path, ids: Sequence[str], corpus: Corpus) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sorted pair keys query * passages + passage, their scores, lowest score of each query)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["query", "passage", "score"])
        queries, passages = (table[name].cast(pa.string()).combine_chunks() for name in ("query", "passage"))
        scores = table["score"].cast(pa.float32()).combine_chunks().to_numpy(zero_copy_only=False)
    except (OSError, pa.ArrowException, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"model {label!r}: {path} is not a Parquet file with the columns query, passage, score ({reason})") from error
    number_of = {query_id: n for n, query_id in enumerate(ids)}

    def numbered(column: pa.StringArray, numbers_of: Callable[[list[str]], Any]) -> np.ndarray:
        """Each distinct id is looked up once: a table has many more rows than ids."""
        distinct = pc.unique(column.fill_null(""))
        numbers = np.array(numbers_of(distinct.to_pylist()), np.int64)
        return numbers[pc.index_in(column.fill_null(""), distinct).to_numpy(zero_copy_only=False)] if len(column) else numbers

    rows = numbered(queries, lambda distinct: [number_of.get(query_id, -1) for query_id in distinct])
    columns = numbered(passages, corpus.numbers)
    known = (rows >= 0) & (columns >= 0)
    if not known.all():
        others = f"{int((rows < 0).sum()):,} of queries that are not trained on, {int((columns < 0).sum()):,} of passages not in the corpus"
        log.info("%s: %s of its table's %s scores are not used: %s", label, f"{int((~known).sum()):,}", f"{len(known):,}", others)
    if not np.isfinite(scores[known]).all():
        raise UserError(f"model {label!r}: {path} has scores that are empty, NaN or infinite; every score must be a finite number")
    pairs, scores = rows[known] * len(corpus) + columns[known], scores[known]
    order = np.argsort(pairs, kind="stable")
    pairs, scores = pairs[order], scores[order]
    if (pairs[1:] == pairs[:-1]).any():
        raise UserError(f"model {label!r}: {path} scores a (query, passage) pair twice")
    floor = np.full(len(ids), np.inf, np.float32)
    np.minimum.at(floor, pairs // len(corpus), scores)
    lacking = [ids[n] for n in np.flatnonzero(np.isinf(floor)).tolist()]
    if lacking:
        raise UserError(
            f"model {label!r}: {path} has no score for {len(lacking):,} of {len(ids):,} training queries, such as {lacking[0]!r}"
        )
    return pairs, scores, floor


# --- distributions over a group, calibration, fusion ---------------------------------------------------------------


def log_distribution(scores: Tensor, kept: Tensor) -> Tensor:
    """Log softmax over the kept passages of each group, (queries, group); -inf for the others."""
    return scores.masked_fill(~kept, -np.inf).log_softmax(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats of each distribution, (queries,)."""
    return -(log_p.exp() * log_p.masked_fill(log_p == -np.inf, 0.0)).sum(dim=-1)


def zscore(scores: Tensor, kept: Tensor) -> Tensor:
    """Each query's kept scores with mean 0 and standard deviation 1; constant scores become 0."""
    count = kept.sum(dim=-1, keepdim=True)
    mean = scores.masked_fill(~kept, 0.0).sum(dim=-1, keepdim=True) / count
    centred = (scores - mean).masked_fill(~kept, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(1e-6)


def fit_temperature(scores: Tensor, kept: Tensor, wanted: float) -> tuple[float, bool]:
    """The temperature at which the mean entropy of softmax(scores / temperature) is `wanted` nats, by bisection.

    Entropy rises with temperature. When the wanted value cannot be reached (ties, constants), the nearest bound is
    returned with False. Method, section 3 [C].
    """
    spread = float((scores.masked_fill(~kept, -np.inf).amax(-1) - scores.masked_fill(~kept, np.inf).amin(-1)).mean())
    low, high = np.log(max(spread, 1e-6) * 1e-4), np.log(max(spread, 1e-6) * 1e4)

    def at(log_temperature: float) -> float:
        return float(entropy(log_distribution(scores / float(np.exp(log_temperature)), kept)).mean())

    for bound, reachable in ((low, at(low) <= wanted + 1e-6), (high, at(high) >= wanted - 1e-6)):
        if not reachable:
            return float(np.exp(bound)), False
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle) > wanted else (middle, high)
    return float(np.exp((low + high) / 2)), True


def fused_subsets(labels: Sequence[str], fused: str | list[list[str]]) -> list[tuple[str, ...]]:
    """Which assistants are averaged: all subsets of two or more, none, or the named ones still there."""
    if fused == "none":
        return []
    if fused == "all":
        return [subset for size in range(2, len(labels) + 1) for subset in itertools.combinations(labels, size)]
    return [tuple(subset) for subset in fused if set(subset) <= set(labels)]


def with_fused(log_p: dict[str, Tensor], subsets: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
    """Adds the plain mean of the members' distributions for each subset, named a+b (method, section 3 [B])."""
    import torch

    joined = dict(log_p)
    for subset in subsets:
        joined["+".join(subset)] = torch.stack([log_p[label] for label in subset]).logsumexp(dim=0) - float(np.log(len(subset)))
    return joined


# --- TASelect -------------------------------------------------------------------------------------------------------


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats of each query, (queries,). Where p is 0 a term is 0, and so are its gradients, p's as well."""
    ratio = (log_p - log_q).masked_fill(log_p == -np.inf, 0.0)  # before the product: a NaN times a gradient of 0 would be NaN
    return (log_p.exp() * ratio).sum(dim=-1)


def ranks(scores: Tensor) -> Tensor:
    """Rank of each passage in its group, best is 0, ties by position, (queries, group)."""
    return scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)


def footrule(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Spearman's footrule of each query: sum of rank differences, (queries,); 0 is the same order."""
    return (ranks(log_p) - ranks(log_q)).abs().sum(dim=-1).float()


def rank_biased_overlap(log_p: Tensor, log_q: Tensor, persistence: float) -> Tensor:
    """Rank-biased overlap of two full rankings of one group (Webber, Moffat and Zobel 2010), (queries,); 1 is the same order.

    Both rankings hold the same passages, so the tail beyond the group agrees entirely: its weight p^group counts in full.
    """
    import torch

    group = log_p.shape[-1]
    deepest = torch.maximum(ranks(log_p), ranks(log_q))  # depth at which a passage is in both prefixes
    depths = torch.arange(1, group + 1, device=log_p.device)
    overlap = (deepest[:, None, :] < depths[:, None]).sum(dim=-1) / depths  # (queries, group)
    weights = (1 - persistence) * persistence ** (depths - 1).float()
    return (overlap * weights).sum(dim=-1) + persistence**group


def distances(criterion: str, teacher: Tensor, assistants: dict[str, Tensor], *, rbo_p: float) -> Tensor:
    """How far each assistant is from the teacher on each query, (assistants, queries); smaller is nearer."""
    import torch

    measure: dict[str, Any] = {"kl": divergence, "footrule": footrule, "rbo": lambda t, a: -rank_biased_overlap(t, a, rbo_p)}
    return torch.stack([measure[criterion](teacher, log_p) for log_p in assistants.values()])


def select(distance: Tensor, granularity: str) -> Tensor:
    """TASelect: the nearest assistant for each query, (queries,) int64; the same one throughout for granularity batch."""
    if granularity == "query":
        return distance.argmin(dim=0)
    return distance.mean(dim=1).argmin().expand(distance.shape[1])
