"""Kept scores of (query, passage) pairs: a cross-encoder never scores a pair twice, over rounds, strategies and runs.

A pair is a 64-bit mix of the query text's hash and the passage number, so that another split of the training queries finds
it again (among 10^8 pairs, two share a number with a probability of 3 in 10,000). Scores do not depend on what is scored
together (see reranker.py), so neither interruptions nor the order of rounds show in them.

    pairs/KEY/NAME.npy      (pairs,) of (pair uint64, score float32), one file a finished block; NAME is a hash of its content
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from filelock import FileLock

from mta4dpr.data.tokens import TokenPairs
from mta4dpr.distill.counter import mix
from mta4dpr.files import key_of, written_aside
from mta4dpr.models.reranker import Reranker
from mta4dpr.progress import bar

BLOCK = 2048  # pairs that are scored between two writes: as many are lost when the process is killed
MOST_FILES = 64  # more are joined to one
RECORD = np.dtype([("pair", "<u8"), ("score", "<f4")])


class PairScores:
    """Scores of one reranker over one corpus. `key` changes with everything that decides them.

    `query_hashes` (queries,) uint64 are hashes of the texts behind the query store of `pairs`.
    """

    def __init__(
        self, cache: Path, reranker: Reranker, pairs: TokenPairs, *, query_hashes: np.ndarray, text_hash: str, token_budget: int
    ) -> None:
        assert len(query_hashes) == len(pairs.queries)
        self.label = reranker.label
        self.key = key_of([reranker.key, text_hash, token_budget, reranker.device.type])
        self.folder = cache / "pairs" / self.key
        self.folder.mkdir(parents=True, exist_ok=True)
        self._reranker, self._pairs, self._hashes, self._token_budget = reranker, pairs, query_hashes, token_budget
        self._read_names: set[str] = set()
        self._known = np.empty(0, RECORD)  # sorted by pair, each once

    def scores(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of pairs of query and passage numbers, float32 in the shape to which both broadcast."""
        queries, passages = np.broadcast_arrays(queries, passages)
        wanted = mix(self._hashes[queries], passages)
        distinct, places = np.unique(wanted.ravel(), return_index=True)
        if not self._are_known(distinct).all():
            with self._lock():
                self._read()  # what another process has scored meanwhile
                unseen = places[~self._are_known(distinct)]
                self._score(queries.ravel()[unseen], passages.ravel()[unseen], wanted.ravel()[unseen])
        return np.asarray(self._known["score"][np.searchsorted(self._known["pair"], wanted)])

    def _are_known(self, distinct: np.ndarray) -> np.ndarray:
        if not len(self._known):
            return np.zeros(len(distinct), bool)
        places = np.minimum(np.searchsorted(self._known["pair"], distinct), len(self._known) - 1)
        return np.asarray(self._known["pair"][places] == distinct)

    def _score(self, queries: np.ndarray, passages: np.ndarray, wanted: np.ndarray) -> None:
        """Scores pairs, the longest first, and writes each block as soon as it is finished."""
        order = np.lexsort((wanted, -self._pairs.lengths(queries, passages)))
        blocks: list[np.ndarray] = []
        try:
            with bar(len(order), f"score pairs with {self.label}", "pairs") as shown:
                for start in range(0, len(order), BLOCK):
                    rows = order[start : start + BLOCK]
                    block = np.empty(len(rows), RECORD)
                    block["pair"] = wanted[rows]
                    block["score"] = self._reranker.score(self._pairs, queries[rows], passages[rows], token_budget=self._token_budget)
                    self._write(block)
                    blocks.append(block)
                    shown.advance(len(rows))
        finally:
            self._learn(blocks)

    def _read(self) -> None:
        """Learns the files that are new; joins them all when there are many. Under the lock."""
        new = sorted(path for path in self.folder.glob("*.npy") if path.name not in self._read_names)
        self._learn([np.load(path) for path in new])
        self._read_names.update(path.name for path in new)
        files = list(self.folder.glob("*.npy"))
        if len(files) > MOST_FILES:
            joined = self._write(self._known)
            for path in files:
                if path != joined:
                    path.unlink()

    def _learn(self, blocks: list[np.ndarray]) -> None:
        every = np.concatenate([self._known, *blocks])
        _, first = np.unique(every["pair"], return_index=True)
        self._known = every[first]

    def _write(self, block: np.ndarray) -> Path:
        path = self.folder / f"{hashlib.sha256(block.tobytes()).hexdigest()[:16]}.npy"
        with written_aside(path, binary=True) as file:
            np.save(file, block)
        self._read_names.add(path.name)
        return path

    def _lock(self) -> FileLock:
        return FileLock(str(self.folder) + ".lock")
