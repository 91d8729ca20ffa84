"""Kept scores of (query, passage) pairs: a cross-encoder never scores a pair twice, over rounds, strategies and runs.

A pair is a 64-bit mix of the query text's hash and the passage number, so that another split of the training queries finds
it again (among 10^8 pairs, two share a number with a probability of 3 in 10,000). Scores do not depend on what is scored
together (see reranker.py), so neither interruptions, the order of rounds nor the number of processes show in them.

    pairs/KEY/NAME.scores/      sealed; scores.npy, (pairs,) of (pair uint64, score float32); NAME is a hash of the pairs
    pairs/KEY/NAME/asked.npy    (pairs,) of (query hash uint64, passage int32): what is being scored, the longest first
    pairs/KEY/NAME/N.npy        its finished pieces, which all processes of a launch make
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mta4dpr.data.columns import CUT_OFF, blocks, join
from mta4dpr.data.tokens import TokenPairs
from mta4dpr.machine.counter import mix
from mta4dpr.machine.files import folder_written_aside, key_of, written_aside
from mta4dpr.machine.kept import is_whole, sealed_folder
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import bar
from mta4dpr.machine.shared_work import missing_pieces
from mta4dpr.models.reranker import Reranker

BLOCK = 2048  # pairs that are scored between two writes: as many are lost when the process is killed
MOST_BLOCKS = 4096  # of one call; more pairs make larger blocks
MOST_FILES = 64  # more are joined to one
SCORES = "scores.npy"
RECORD = np.dtype([("pair", "<u8"), ("score", "<f4")])
ASKED = np.dtype([("query", "<u8"), ("passage", "<i4")])


class PairScores:
    """Scores of one reranker over one corpus, kept below `cache`. `key` changes with everything that decides them.

    `query_hashes` (queries,) uint64 are hashes of the texts behind the query store of `pairs`; `text_hash` is the corpus's, and
    `token_budget` that of a batch.
    """

    def __init__(
        self, cache: Path, reranker: Reranker, pairs: TokenPairs, *, query_hashes: np.ndarray, text_hash: str, token_budget: int
    ) -> None:
        assert len(query_hashes) == len(pairs.queries)
        self.label = reranker.label
        self.key = key_of([reranker.key, text_hash, token_budget, reranker.device.type])
        self.folder = cache / "pairs" / self.key
        self._reranker, self._pairs, self._hashes, self._token_budget = reranker, pairs, query_hashes, token_budget
        self._read_names: set[str] = set()
        self._known = np.empty(0, RECORD)  # sorted by pair, each once

    def scores(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of pairs of query and passage numbers, float32 in the shape to which both broadcast."""
        queries, passages = np.broadcast_arrays(queries, passages)
        wanted = mix(self._hashes[queries], passages)
        distinct, places = np.unique(wanted.ravel(), return_index=True)
        if not self._are_known(distinct).all():
            with lock_beside(self.folder):
                self._read()  # what another process has scored meanwhile
                unseen = places[~self._are_known(distinct)]
                if len(unseen):
                    self._score(queries.ravel()[unseen], passages.ravel()[unseen], wanted.ravel()[unseen])
        return np.asarray(self._known["score"][np.searchsorted(self._known["pair"], wanted)])

    def _are_known(self, distinct: np.ndarray) -> np.ndarray:
        if not len(self._known):
            return np.zeros(len(distinct), bool)
        places = np.minimum(np.searchsorted(self._known["pair"], distinct), len(self._known) - 1)
        return np.asarray(self._known["pair"][places] == distinct)

    def score_along(self) -> None:
        """Scores pieces of what another process is scoring now; returns when nothing is left to take. For all but the main process."""
        for folder in self._asked():
            try:
                asked = np.load(folder / "asked.npy")
            except CUT_OFF:  # all is scored meanwhile, and the folder gone
                continue
            self._score_pieces(folder, asked)

    def _score(self, queries: np.ndarray, passages: np.ndarray, wanted: np.ndarray) -> None:
        """Scores pairs, the longest first, and learns each piece as soon as it is finished. Under the lock."""
        order = np.lexsort((wanted, -self._pairs.lengths(queries, passages)))
        asked = np.empty(len(order), ASKED)
        asked["query"], asked["passage"] = self._hashes[queries[order]], passages[order]
        folder = self.folder / hashlib.sha256(asked.tobytes()).hexdigest()[:16]
        shutil.rmtree(_whole(folder), ignore_errors=True)  # one of nothing, left by a process that was killed before its first piece
        with folder_written_aside(folder) as aside:
            np.save(aside / "asked.npy", asked)
        pieces = self._score_pieces(folder, asked)
        with sealed_folder(_whole(folder)) as aside:
            join(aside / SCORES, pieces)
        shutil.rmtree(folder, ignore_errors=True)  # another process may look into it just now
        self._learn([_whole(folder)])

    def _score_pieces(self, folder: Path, asked: np.ndarray) -> list[Path]:
        """Makes the pieces of what is asked for that no other process makes; returns all of their files.

        Another run may have other numbers for the same queries, so they come as hashes; pairs of queries that this one does
        not have are left to it.
        """
        order = np.argsort(self._hashes, kind="stable")
        places = np.minimum(np.searchsorted(self._hashes, asked["query"], sorter=order), len(order) - 1)
        queries = order[places]
        if not (self._hashes[queries] == asked["query"]).all():
            return []
        parts = list(blocks(len(asked), max(BLOCK, -(-len(asked) // MOST_BLOCKS))))
        files = [folder / f"{number:05}.npy" for number in range(len(parts))]
        with bar(len(asked), f"score pairs with {self.label}", "pairs") as shown:
            for number in missing_pieces(files, whole=_whole(folder)):
                rows = parts[number]
                passages = asked["passage"][rows].astype(np.int64)
                block = np.empty(len(passages), RECORD)
                block["pair"] = mix(asked["query"][rows], passages)
                block["score"] = self._reranker.score(self._pairs, queries[rows], passages, token_budget=self._token_budget)
                with written_aside(files[number], binary=True) as file:
                    np.save(file, block)
                shown.advance(len(block))
        return files

    def _read(self) -> None:
        """Learns the scores that are new, and what a killed process has left; joins them all when there are many. Under the lock."""
        for folder in self._asked():
            pieces = [np.load(path) for path in sorted(folder.glob("[0-9]*.npy"))]
            self._write(_whole(folder), np.concatenate([np.empty(0, RECORD), *pieces]))  # who scores along sees it, and stops
            shutil.rmtree(folder, ignore_errors=True)
        folders = sorted(self.folder.glob("[!.]*.scores"))
        self._learn([folder for folder in folders if folder.name not in self._read_names])
        if len(folders) > MOST_FILES:
            joined = self.folder / f"{hashlib.sha256(self._known['pair'].tobytes()).hexdigest()[:16]}.scores"
            self._write(joined, self._known)
            self._read_names.add(joined.name)
            for folder in folders:
                if folder != joined:
                    shutil.rmtree(folder)

    def _asked(self) -> list[Path]:
        """Folders of what is being scored, or was when a process was killed; those with a point are being written."""
        return sorted(place.parent for place in self.folder.glob("[!.]*/asked.npy"))

    def _learn(self, folders: Sequence[Path]) -> None:
        whole = [folder for folder in folders if is_whole(folder, by_content=True, otherwise="its pairs are scored again")]
        every = np.concatenate([self._known, *(np.load(folder / SCORES) for folder in whole)])
        _, first = np.unique(every["pair"], return_index=True)
        self._known = every[first]
        self._read_names.update(folder.name for folder in whole)
        for folder in set(folders) - set(whole):
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _write(place: Path, records: np.ndarray) -> None:
        with sealed_folder(place) as aside:
            np.save(aside / SCORES, records)


def _whole(folder: Path) -> Path:
    """The folder with what the pieces of a folder are joined to."""
    return folder.with_suffix(".scores")
