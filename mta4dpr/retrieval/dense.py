"""Exact dense search over kept vectors, and a FAISS index in Pyserini's layout.

Scores are inner products in float32. Queries go in blocks of a fixed size and passages in fixed ranges, so that a
score does not depend on how many queries are asked. Ties at the cut are broken by passage id, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.corpus import Corpus
from mta4dpr.errors import EnvironmentLack
from mta4dpr.files import folder_written_aside
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval.hits import Hits, best
from mta4dpr.retrieval.vectors import Vectors

QUERY_BLOCK = 64
PASSAGE_BLOCK = 65536


class ExactIndex:
    """Exact search over kept vectors, on one device; needs no model."""

    def __init__(self, vectors: Vectors, corpus: Corpus, device: Any) -> None:
        self.vectors, self.corpus, self.device = vectors, corpus, device

    def search(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Hits of query vectors (queries, dimensions), QUERY_BLOCK queries at a time."""
        for start in range(0, len(queries), QUERY_BLOCK):
            yield self._search_block(queries[start : start + QUERY_BLOCK], k)

    def _search_block(self, queries: np.ndarray, k: int) -> Hits:
        import torch

        device, size = self.device, len(queries)
        padded = torch.zeros(QUERY_BLOCK, queries.shape[1])
        padded[:size] = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
        padded = padded.to(device)
        threshold = torch.full((QUERY_BLOCK, 1), -torch.inf, device=device)
        hits = Hits(np.empty((size, 0), np.int32), np.empty((size, 0), np.float32))
        for first, block in self.vectors.blocks(PASSAGE_BLOCK):
            product = padded @ torch.from_numpy(block).to(device).T  # (QUERY_BLOCK, passages)
            if len(block) >= k:
                threshold = torch.maximum(threshold, product.topk(k).values[:, -1:])
            new_rows, new_columns = torch.nonzero(product[:size] >= threshold[:size], as_tuple=True)
            new_scores = product[new_rows, new_columns].cpu().numpy()
            kept = hits.passages >= 0
            rows = np.concatenate([np.nonzero(kept)[0], new_rows.cpu().numpy()])
            passages = np.concatenate([hits.passages[kept], new_columns.cpu().numpy() + first])
            scores = np.concatenate([hits.scores[kept], new_scores])
            hits = best(rows, passages, scores, queries=size, k=k, id_rank=self.corpus.id_rank)
            full = torch.from_numpy(hits.scores[:, -1:].copy()).to(device)  # -inf while a list is not full
            threshold[:size] = torch.maximum(threshold[:size], full)
        return hits


class DenseRetriever:
    """An encoder and the index of its vectors."""

    def __init__(self, encoder: Encoder, vectors: Vectors, corpus: Corpus) -> None:
        self.label, self.encoder, self.index = encoder.label, encoder, ExactIndex(vectors, corpus, encoder.device)

    @property
    def vectors(self) -> Vectors:
        return self.index.vectors

    def search(self, texts: Sequence[str], k: int) -> Iterator[Hits]:
        return self.index.search(self.encoder.encode_queries(texts), k)


def write_faiss_index(folder: Path, vectors: Vectors, corpus: Corpus) -> None:
    """A flat inner-product index that Pyserini's FaissSearcher opens: `index` (FAISS) and `docid` (one id a line)."""
    import faiss

    index = faiss.IndexFlatIP(vectors.dimensions)
    for _, block in vectors.blocks(PASSAGE_BLOCK):
        index.add(block)
    with folder_written_aside(folder) as aside:
        try:
            faiss.write_index(index, str(aside / "index"))
        except RuntimeError as error:  # faiss has no OSError of its own
            raise EnvironmentLack(
                f"the FAISS index cannot be written to {folder} ({' '.join(str(error).split())}); free some space"
            ) from error
        with open(aside / "docid", "w", encoding="utf-8", newline="\n") as file:
            for number in range(len(corpus)):
                file.write(corpus.id(number) + "\n")
