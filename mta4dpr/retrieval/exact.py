"""Exact dense search over kept vectors, in one process or in several.

Scores are inner products in float32. Queries go in blocks of a fixed size and passages in fixed ranges, so that a
score does not depend on how many queries are asked, nor on how processes share the passages. Ties at the cut are broken by
passage id, as everywhere. Vectors go by once for as many queries as the memory allows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.columns import blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.machine.files import written_aside
from mta4dpr.machine.progress import bar
from mta4dpr.retrieval.hits import LOWEST, Hits, best, best_of, order_keys
from mta4dpr.retrieval.vectors import Vectors

QUERY_BLOCK = 64
PASSAGE_BLOCK = 65536
HIT_BYTES = 32  # of a hit that is kept, those found since the last merge included
SEARCH_MEMORY = 10**9


class ExactIndex:
    """Exact search over kept vectors, on one device; needs no model. `memory` in bytes bounds what a search holds."""

    def __init__(self, vectors: Vectors, corpus: Corpus, device: Any, *, memory: int = SEARCH_MEMORY) -> None:
        self.vectors, self.corpus, self.device, self._memory = vectors, corpus, device, memory

    def search(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """Hits of query vectors (queries, dimensions), QUERY_BLOCK queries at a time."""
        for rows in blocks(len(queries), self._at_once(k)):
            yield from self._search(queries[rows], k, range(len(self.vectors)))

    def search_part(self, queries: np.ndarray, k: int, folder: Path, *, part: int, parts: int) -> None:
        """Searches one of so many parts of the passages, into files of that folder: what one of several processes does."""
        bounds = np.linspace(0, -(-len(self.vectors) // PASSAGE_BLOCK), parts + 1).round().astype(int) * PASSAGE_BLOCK
        among = range(int(bounds[part]), min(int(bounds[part + 1]), len(self.vectors)))
        for rows in blocks(len(queries), self._at_once(k)):
            found = list(self._search(queries[rows], k, among))
            scores = np.concatenate([hits.scores for hits in found]).view(np.int32)
            with written_aside(_part_file(folder, rows, part), binary=True) as file:
                np.save(file, np.stack([np.concatenate([hits.passages for hits in found]), scores]))

    def merged_parts(self, queries: int, k: int, folder: Path, *, parts: int) -> Iterator[Hits]:
        """The hits that `search` would give, of the files that the parts have left; waits for those not yet there."""
        for rows in blocks(queries, self._at_once(k)):
            files = [_part_file(folder, rows, part) for part in range(parts)]
            while not all(file.exists() for file in files):
                time.sleep(0.05)
            found = [np.load(file, mmap_mode="r") for file in files]
            for block in blocks(rows.stop - rows.start, QUERY_BLOCK):
                passages = np.concatenate([one[0, block] for one in found], axis=1)
                scores = np.concatenate([one[1, block] for one in found], axis=1).view(np.float32)
                keys = np.where(passages < 0, LOWEST, order_keys(scores, self.corpus.id_rank[passages]))
                yield best_of(keys, passages, scores, k)

    def _at_once(self, k: int) -> int:
        return _at_once(self.vectors.dimensions, k, self._memory)

    def _search(self, queries: np.ndarray, k: int, among: range) -> Iterator[Hits]:
        import torch

        padded, running = [], []
        for rows in blocks(len(queries), QUERY_BLOCK):
            block = np.zeros((QUERY_BLOCK, queries.shape[1]), np.float32)
            block[: rows.stop - rows.start] = queries[rows]
            padded.append(torch.from_numpy(block).to(self.device))
            running.append(_Running(rows.stop - rows.start, k, self.corpus.id_rank, self.device))
        short = len(queries) <= QUERY_BLOCK  # a single query is timed, a bar would take longer
        with nullcontext() if short else bar(len(among), f"search for {len(queries):,} queries", "passages") as shown:
            for first, vectors in self.vectors.blocks(PASSAGE_BLOCK, among):
                columns = torch.from_numpy(vectors).to(self.device).T
                for block_of_queries, top in zip(padded, running, strict=True):
                    top.add(block_of_queries @ columns, first)  # (QUERY_BLOCK, passages)
                if shown:
                    shown.advance(len(vectors))
        for top in running:
            yield top.hits()


def _at_once(dimensions: int, k: int, memory: int) -> int:
    """Queries that go through the passages together: a number of whole blocks."""
    return max(1, (memory - _block_memory(dimensions)) // (HIT_BYTES * k * QUERY_BLOCK)) * QUERY_BLOCK


def _block_memory(dimensions: int) -> int:
    """Bytes of a range of vectors and of its products."""
    return 4 * PASSAGE_BLOCK * (2 * dimensions + 3 * QUERY_BLOCK)


def memory_of_search(dimensions: int, queries: int, k: int, *, memory: int) -> int:
    """Bytes that an exact search for so many queries holds when it may take `memory`."""
    whole = -(-queries // QUERY_BLOCK) * QUERY_BLOCK
    return _block_memory(dimensions) + HIT_BYTES * k * min(whole, _at_once(dimensions, k, memory))


class _Running:
    """The k best passages so far of a block of queries, and those found since they were last merged."""

    def __init__(self, size: int, k: int, id_rank: np.ndarray, device: Any) -> None:
        import torch

        self._size, self._k, self._id_rank = size, k, id_rank
        self._hits = Hits(np.empty((size, 0), np.int32), np.empty((size, 0), np.float32))
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._last = np.full(size, LOWEST)  # order keys of the k-th hits; the lowest while a list is not full
        self._least = torch.full((size, 1), -torch.inf, device=device)  # their scores

    def add(self, product: Any, first: int) -> None:
        """Scores (at least `size` queries, passages) of the passages from `first` on."""
        import torch

        product, width = product[: self._size], product.shape[1]
        least = self._least
        if width >= self._k and (self._last == LOWEST).any():
            least = torch.maximum(least, product.topk(self._k).values[:, -1:])
        found = product >= least
        if product.device.type == "cpu":
            flat = np.flatnonzero(found.numpy())
            scores = product.numpy().ravel()[flat]
        else:
            places = found.flatten().nonzero()[:, 0]
            flat, scores = places.cpu().numpy(), product.flatten()[places].cpu().numpy()
        rows, passages = (flat // width).astype(np.int32), (flat % width + first).astype(np.int32)
        better = order_keys(scores, self._id_rank[passages]) > self._last[rows]
        if better.any():
            self._new.append((rows[better], passages[better], scores[better]))
        if sum(len(new[0]) for new in self._new) >= self._k * self._size:
            self._merge()

    def hits(self) -> Hits:
        self._merge()
        return self._hits

    def _merge(self) -> None:
        import torch

        kept = self._hits.passages >= 0
        rows, passages, scores = zip((np.nonzero(kept)[0], self._hits.passages[kept], self._hits.scores[kept]), *self._new, strict=True)
        self._hits = best(
            np.concatenate(rows), np.concatenate(passages), np.concatenate(scores), queries=self._size, k=self._k, id_rank=self._id_rank
        )
        self._new = []
        passages, scores = self._hits.passages[:, -1], self._hits.scores[:, -1]
        self._last = np.where(passages < 0, LOWEST, order_keys(scores, self._id_rank[passages]))
        self._least = torch.from_numpy(scores[:, None].copy()).to(self._least.device)


def _part_file(folder: Path, rows: slice, part: int) -> Path:
    return folder / f"{rows.start}-{part}.npy"
