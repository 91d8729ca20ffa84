"""Dense search by Pyserini's own FaissSearcher, to compare ours with it: the same index files, the same query vectors.

Pyserini takes half a minute to import and holds the whole index in memory; it breaks ties at the cut by position, we by passage id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mta4dpr.data.corpus import Corpus
from mta4dpr.retrieval import java
from mta4dpr.retrieval.exact import QUERY_BLOCK
from mta4dpr.retrieval.hits import Hits, best


class PyseriniIndex:
    """An open folder in Pyserini's layout (`index` and `docid`)."""

    def __init__(self, folder: Path, corpus: Corpus, *, heap: str, threads: int) -> None:
        java.start(heap)  # before Pyserini does, with options that need a Java module
        from pyserini.search.faiss import FaissSearcher

        self._corpus, self._threads = corpus, threads
        self._searcher = FaissSearcher(str(folder), None)  # type: ignore[arg-type]  # our query vectors need no encoder of Pyserini's

    def search(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Hits of query vectors (queries, dimensions), QUERY_BLOCK queries at a time."""
        wanted = min(k, len(self._corpus))
        for start in range(0, len(queries), QUERY_BLOCK):
            block = np.ascontiguousarray(queries[start : start + QUERY_BLOCK], np.float32)
            found = self._searcher.batch_search(block, [str(row) for row in range(len(block))], wanted, self._threads)
            hits = [(int(row), hit.docid, hit.score) for row, ranked in found.items() for hit in ranked]
            rows, ids, scores = zip(*hits, strict=True)
            passages, score = self._corpus.numbers(ids), np.array(scores, np.float32)
            yield best(np.array(rows, np.int64), passages, score, queries=len(block), k=k, id_rank=self._corpus.id_rank)
