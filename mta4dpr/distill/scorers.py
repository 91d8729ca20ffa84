"""Teachers and assistants: anything that ranks the corpus and scores (query, passage) pairs.

A scorer is bound to the training queries and takes query numbers. Knows no distributions and no training.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mta4dpr.data.corpus import Corpus
from mta4dpr.distill.pairs import PairScores
from mta4dpr.errors import UserError
from mta4dpr.retrieval.bm25 import Bm25Retriever
from mta4dpr.retrieval.dense import ExactIndex
from mta4dpr.retrieval.hits import Hits, best

log = logging.getLogger(__name__)

SCORE_BLOCK = 256  # groups scored at once


class Scorer(Protocol):
    """A teacher or assistant. One that derives from this class needs `rank` and `score` alone."""

    label: str  # what groups, logs and tables call it
    kind: str  # a word for logs, such as "bi-encoder"
    key: str  # changes with everything that decides its scores: kept rankings are found by it
    ranks: bool  # whether it can rank the corpus, and so mine; where it cannot, it scores pairs alone

    @abstractmethod
    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The best `k` passages of the corpus for those queries, (n,), a block of queries at a time; asked only where it `ranks`."""

    @abstractmethod
    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of groups: queries (n,), passages (n, group) -> (n, group) float32, the larger the better."""

    def score_along(self) -> None:
        """Helps the main process of a launch with the scores that it waits for; returns when there is nothing to do."""
        return None

    def note(self) -> str:
        """What a reader should know of the scores that the last call of `score` gave; empty where there is nothing to say."""
        return ""


class BiEncoderScorer(Scorer):
    """Inner products of kept vectors: no text is ever encoded twice. `query_vectors` are (training queries, dimensions)."""

    kind, ranks = "bi-encoder", True

    def __init__(self, label: str, index: ExactIndex, query_vectors: np.ndarray, key: str) -> None:
        self.label, self.key = label, key
        self._index, self._queries = index, query_vectors

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Exact search by inner product."""
        return self._index.search(np.asarray(self._queries[queries]), k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Inner products of the kept vectors, SCORE_BLOCK groups at a time."""
        scores = np.empty(passages.shape, np.float32)
        for start in range(0, len(queries), SCORE_BLOCK):
            block = slice(start, start + SCORE_BLOCK)
            vectors = self._index.vectors.rows(passages[block])
            scores[block] = np.einsum("qd,qgd->qg", np.asarray(self._queries[queries[block]], np.float32), vectors)
        return scores


class Bm25Scorer(Scorer):
    """BM25 as a teacher or assistant; 0 where a passage shares no term with the query. `texts` are those of the training queries."""

    kind, ranks = "bm25", True

    def __init__(self, retriever: Bm25Retriever, texts: Sequence[str], key: str) -> None:
        self.label, self.key = retriever.label, key
        self._retriever, self._texts = retriever, texts

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Lucene's search."""
        return self._retriever.search([self._texts[n] for n in queries], k)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """BM25 of each pair, also of those that a search would not return."""
        return np.stack([self._retriever.score(self._texts[int(q)], row) for q, row in zip(queries, passages, strict=True)])


class TableScorer(Scorer):
    """Scores from a Parquet file with the columns query, passage, score (ids as text).

    A pair that the table lacks gets the lowest score that the table has for its query; the note counts them. `ids` are those of the
    training queries. Raises UserError where the table lacks a query, has a pair twice, or a score that is no finite number.
    """

    kind, ranks = "score table", True

    def __init__(self, label: str, path: Path, ids: Sequence[str], corpus: Corpus, key: str) -> None:
        self.label, self.key, self._corpus = label, key, corpus
        self._asked = self._missing = 0  # pairs of the last call of `score`
        self._pairs, self._scores, self._floor = _read_table(label, path, ids, corpus)
        self._size = len(corpus)

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The passages that the table has for each query, by their scores; a list may be shorter than `k`."""
        rows_of, passages = np.divmod(self._pairs, self._size)
        for start in range(0, len(queries), SCORE_BLOCK):
            block = queries[start : start + SCORE_BLOCK]
            low, high = np.searchsorted(rows_of, block), np.searchsorted(rows_of, block + 1)
            flat = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)]).astype(np.int64)
            rows = np.repeat(np.arange(len(block)), high - low)
            yield best(rows, passages[flat], self._scores[flat], queries=len(block), k=k, id_rank=self._corpus.id_rank)

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """The scores of the table; its lowest of the query for a pair that it lacks."""
        wanted = queries[:, None].astype(np.int64) * self._size + passages
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        is_there = self._pairs[place] == wanted
        self._asked, self._missing = wanted.size, int((~is_there).sum())
        return np.where(is_there, self._scores[place], self._floor[queries][:, None]).astype(np.float32)

    def note(self) -> str:
        """How many pairs of the last call the table lacks."""
        if not self._missing:
            return ""
        return f"{self._missing:,} of {self._asked:,} pairs are not in its table; each gets its query's lowest score there"


class CrossEncoderScorer(Scorer):
    """Kept pair scores; a pair is scored when it is first asked for."""

    kind, ranks = "cross-encoder", False

    def __init__(self, pairs: PairScores) -> None:
        self.label, self.key, self._pairs = pairs.label, pairs.key, pairs

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Never called: a cross-encoder does not rank."""
        raise AssertionError(f"{self.label} is a cross-encoder: it scores pairs and cannot rank the corpus; callers look at `ranks`")

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of the pairs; those that are not kept yet are computed, and kept."""
        return self._pairs.scores(queries[:, None], passages)

    def score_along(self) -> None:
        """Computes some of the pairs that the main process waits for."""
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
