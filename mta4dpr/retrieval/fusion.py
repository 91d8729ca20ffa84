"""Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): 1 / (k + rank), summed over the lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mta4dpr.retrieval.hits import Hits, best


def reciprocal_rank_fusion(lists: Sequence[np.ndarray], *, k: int, depth: int, id_rank: np.ndarray) -> Hits:
    """Fuses rankings of the same queries; each list is (queries, any depth) int32 with -1 beyond its end."""
    queries, corpus = len(lists[0]), len(id_rank)
    keys, gains = [], []
    for passages in lists:
        rows, ranks = np.nonzero(passages >= 0)
        keys.append(rows * corpus + passages[rows, ranks])
        gains.append(1.0 / (k + 1 + ranks))
    distinct, place = np.unique(np.concatenate(keys), return_inverse=True)
    fused = np.bincount(place, np.concatenate(gains), minlength=len(distinct)).astype(np.float32)
    return best(distinct // corpus, distinct % corpus, fused, queries=queries, k=depth, id_rank=id_rank)
