"""Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): 1 / (k + rank), summed over the lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mta4dpr.retrieval.hits import LOWEST, Hits, best_of, order_keys


def reciprocal_rank_fusion(lists: Sequence[np.ndarray], *, k: int, depth: int, id_rank: np.ndarray) -> Hits:
    """Fuses rankings of the same queries; each list is (queries, any depth) int32 with -1 beyond its end."""
    every = np.concatenate(lists, axis=1)
    gains = np.concatenate([1.0 / (k + 1 + np.arange(one.shape[1])) for one in lists])
    place = np.argsort(
        (every.astype(np.int64) << 32) | np.arange(every.shape[1]), axis=1
    )  # equal passages side by side, in the lists' order
    passages = np.take_along_axis(every, place, axis=1)
    first = np.ones(passages.shape, bool)
    first[:, 1:] = passages[:, 1:] != passages[:, :-1]
    group = np.cumsum(first) - 1
    fused = np.bincount(group, gains[place].ravel())[group].reshape(passages.shape).astype(np.float32)
    counts = first & (passages >= 0)
    keys = np.where(counts, order_keys(fused, id_rank[passages]), LOWEST)
    return best_of(keys, np.where(counts, passages, -1), np.where(counts, fused, np.float32(-np.inf)), depth)
