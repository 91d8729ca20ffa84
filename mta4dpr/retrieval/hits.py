"""Rankings as arrays, and the one order they are in: score descending, then id descending by bytes (trec_eval's rule)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


class Hits(NamedTuple):
    """Rankings of some queries. A list that ends early is filled with passage -1 and score -inf."""

    passages: np.ndarray  # (queries, k) int32
    scores: np.ndarray  # (queries, k) float32


class Retriever(Protocol):
    """Anything that ranks the corpus for queries, block by block, so that a run is written as it comes."""

    label: str

    def search(self, texts: list[str], k: int) -> Iterator[Hits]: ...


def best(rows: np.ndarray, passages: np.ndarray, scores: np.ndarray, *, queries: int, k: int, id_rank: np.ndarray) -> Hits:
    """The k best of flat (row, passage, score) triples for each of `queries` rows, in the one order."""
    order = np.lexsort((-id_rank[passages], -scores, rows))
    rows, passages, scores = rows[order], passages[order], scores[order]
    starts = np.searchsorted(rows, np.arange(queries))
    ranks = np.arange(len(rows)) - starts[rows]
    kept = ranks < k
    hits = Hits(np.full((queries, k), -1, np.int32), np.full((queries, k), -np.inf, np.float32))
    hits.passages[rows[kept], ranks[kept]] = passages[kept]
    hits.scores[rows[kept], ranks[kept]] = scores[kept]
    return hits
