"""Rankings as arrays, and the one order they are in: score descending, then id descending by bytes (trec_eval's rule)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mta4dpr.errors import UserError


class Hits(NamedTuple):
    """Rankings of some queries. A list that ends early is filled with passage -1 and score -inf."""

    passages: np.ndarray  # (queries, k) int32
    scores: np.ndarray  # (queries, k) float32


def checked(found: Iterable[Hits], *, queries: int, passages: int, label: str) -> Iterator[Hits]:
    """The same hits. UserError where they are not one row for each of `queries`, of numbers below `passages` or -1, with scores."""
    rows = 0
    for hits in found:
        shapes = [getattr(array, "shape", None) for array in hits]
        if len(shapes) != 2 or shapes[0] is None or shapes[0] != shapes[1] or len(shapes[0]) != 2:
            raise UserError(f"{label}: expected hits as two arrays, (queries, k) each, passages and scores; found shapes {shapes}")
        hits = Hits(*hits)
        if hits.passages.dtype.kind != "i" or (hits.passages.size and not -1 <= hits.passages.min() <= hits.passages.max() < passages):
            raise UserError(f"{label}: expected passage numbers from 0 to {passages - 1}, or -1 for none; found others among its hits")
        rows += len(hits.passages)
        if rows <= queries:
            yield hits
    if rows != queries:
        raise UserError(f"{label}: expected a row of hits for each of {queries} queries, found {rows}")


LOWEST = np.iinfo(np.int64).min


def best(rows: np.ndarray, passages: np.ndarray, scores: np.ndarray, *, queries: int, k: int, id_rank: np.ndarray) -> Hits:
    """The k best of flat (row, passage, score) triples for each of `queries` rows, in the one order."""
    order = np.argsort(rows.astype(np.uint16 if queries <= 2**16 else np.int64), kind="stable")  # 16 bits are sorted in linear time
    rows, passages, scores = rows[order], passages[order], scores[order]
    counts = np.bincount(rows, minlength=queries)
    columns = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (queries, max(1, int(counts.max(initial=0))))
    keys, found = np.full(shape, LOWEST), np.full(shape, -1, np.int32)
    keys[rows, columns] = order_keys(scores, id_rank[passages])
    found[rows, columns] = passages
    values = np.full(shape, -np.inf, np.float32)
    values[rows, columns] = scores
    return best_of(keys, found, values, k)


def best_of(keys: np.ndarray, passages: np.ndarray, scores: np.ndarray, k: int) -> Hits:
    """The k best of each row by `order_keys`; all are (queries, any number), -1 and -inf where there is nothing."""
    ranked = np.argsort(~keys, axis=1)[:, :k]
    short = ((0, 0), (0, k - ranked.shape[1]))
    return Hits(
        np.pad(np.take_along_axis(passages, ranked, axis=1), short, constant_values=-1),
        np.pad(np.take_along_axis(scores, ranked, axis=1), short, constant_values=-np.inf),
    )


def order_keys(scores: np.ndarray, id_rank: np.ndarray) -> np.ndarray:
    """The one order as whole numbers, int64: the larger is the better hit. One key sorts 30 times as fast as three.

    The bits of a positive float32 grow with it, those of a negative one fall; ranks of ids fill the lower half.
    """
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.int32)  # -0.0 is 0.0
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    return (rising.astype(np.int64) << 32) | id_rank
