"""The corpus on disk: ids and texts of all passages, memory-mapped, written in one pass over the source.

A passage is a number from here on: its position in the source. Indexes, token stores and vectors are built from
this store, so that the source is read once and every later step has random access.

    ids.bin, ids.npy        UTF-8 ids one after another, and where each starts          (passages + 1,) int64
    texts.bin, texts.npy    title and text alternating, and where each starts           (2 * passages + 1,) int64
    order.npy               passage numbers in ascending byte order of their ids        (passages,) int32
    store.json              text hash, count, source; the folder is sealed (see machine/kept.py)
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.collection import Source
from mta4dpr.data.columns import Column, blocks
from mta4dpr.data.records import Passage, why_no_id
from mta4dpr.errors import UserError
from mta4dpr.machine.files import file_name, key_of, lack_of_disk, read_json, write_json
from mta4dpr.machine.kept import is_whole, sealed_folder
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import track

log = logging.getLogger(__name__)

FORMAT = 2
BLOCK = 2**18  # passages whose ids are handled at once


class Corpus:
    """An open store. Numbers are positions in the source; arrays of numbers are int32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        about = read_json(folder / "store.json")
        self.text_hash: str = about["text_hash"]
        self.size: int = about["passages"]
        self.titled: bool = about["titled"]  # whether any passage has a title
        self.about: dict[str, Any] = about

    def __len__(self) -> int:
        return self.size

    @cached_property
    def _id_starts(self) -> np.ndarray:
        return np.load(self.folder / "ids.npy", mmap_mode="r")

    @cached_property
    def _id_bytes(self) -> np.ndarray:
        return np.memmap(self.folder / "ids.bin", dtype=np.uint8, mode="r")

    @cached_property
    def _text_starts(self) -> np.ndarray:
        return np.load(self.folder / "texts.npy", mmap_mode="r")

    @cached_property
    def _text_bytes(self) -> np.ndarray:
        path = self.folder / "texts.bin"
        return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)

    @cached_property
    def order(self) -> np.ndarray:
        """Passage numbers in ascending byte order of their ids."""
        return np.load(self.folder / "order.npy", mmap_mode="r")

    @cached_property
    def id_rank(self) -> np.ndarray:
        """Rank of each passage's id in byte order, (passages,) int32: breaks ties as trec_eval does."""
        rank = np.empty(self.size, np.int32)
        rank[self.order] = np.arange(self.size, dtype=np.int32)
        return rank

    def id(self, number: int) -> str:
        """The id of the passage with that number."""
        return bytes(self._id_bytes[self._id_starts[number] : self._id_starts[number + 1]]).decode()

    def ids(self, numbers: Iterable[int]) -> list[str]:
        """The ids of those passages, in the order given."""
        return [self.id(int(number)) for number in numbers]

    @cached_property
    def _sorted_ids(self) -> np.ndarray:
        return _padded_ids(self._id_bytes, self._id_starts)[self.order]

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        """The passages with those ids, int32; -1 for an id that is not in the corpus."""
        wanted = np.array([b"" if why_no_id(passage_id) else passage_id.encode() for passage_id in ids], dtype=np.bytes_)
        if not len(wanted):
            return np.empty(0, np.int32)
        place = np.minimum(np.searchsorted(self._sorted_ids, wanted), self.size - 1)
        return np.where(self._sorted_ids[place] == wanted, self.order[place], -1).astype(np.int32)

    def passage(self, number: int) -> Passage:
        """Id, title and text of the passage with that number."""
        return Passage(self.id(number), self._field(2 * number), self._field(2 * number + 1))

    def __iter__(self) -> Iterator[Passage]:
        return (self.passage(number) for number in range(self.size))

    def _field(self, position: int) -> str:
        return bytes(self._text_bytes[self._text_starts[position] : self._text_starts[position + 1]]).decode()

    @property
    def empty(self) -> int:
        """Passages without title and text."""
        starts = self._text_starts
        return sum(
            int((starts[2 * rows.start + 2 : 2 * rows.stop + 1 : 2] == starts[2 * rows.start : 2 * rows.stop : 2]).sum())
            for rows in blocks(self.size, BLOCK)
        )

    def joined(self, number: int, separator: str) -> str:
        """Title and text: joined by a newline for Lucene, by a space for encoders; the text alone without a title."""
        _, title, text = self.passage(number)
        return f"{title}{separator}{text}" if title else text


def corpus_folder(cache: Path, source: Source) -> Path:
    """Where the store of that source is kept under `cache`, there or not. Another source or format of the store has another folder."""
    name = next(iter(source.identity.values()))
    return cache / "corpora" / f"{file_name(str(name))[-40:].strip('-')}-{key_of([FORMAT, source.identity])}"


def stored_corpus(cache: Path, source: Source, *, by_content: bool = False) -> Corpus | None:
    """The store of that source if it is there, whole, and the source's files have not changed since."""
    folder = corpus_folder(cache, source)
    if not is_whole(folder, by_content=by_content, otherwise="the corpus is read again"):
        return None
    corpus = Corpus(folder)
    if corpus.about["files"] != source.files():
        log.info("the files of %s have changed since they were read; reading them again", source.identity)
        return None
    return corpus


def open_corpus(cache: Path, source: Source, *, verify: bool = False) -> Corpus:
    """The store of that source, built on first use. `verify` reads store and source and compares both with what they were."""
    folder = corpus_folder(cache, source)
    with lock_beside(folder):
        corpus = stored_corpus(cache, source, by_content=verify)
        if corpus is not None and verify:
            found = _hash_of(_tracked(source, "verify the corpus"))
            if found != corpus.text_hash:
                log.warning("the texts of %s are not what they were (hash %s, was %s)", source.identity, found, corpus.text_hash)
                corpus = None
        if corpus is None:
            with sealed_folder(folder) as aside:
                _build(aside, source, _tracked(source, "read the corpus"))
            corpus = Corpus(folder)
    return corpus


def _tracked(source: Source, label: str) -> Iterator[Passage]:
    return track(source.passages(), label, "passages", total=source.expected_passages())


def _hash_of(passages: Iterable[Passage]) -> str:
    digest = hashlib.sha256()
    for passage in passages:
        _update(digest, [field.encode("utf-8", "replace") for field in passage])
    return digest.hexdigest()


def _update(digest: Any, fields: Sequence[bytes]) -> None:
    for field in fields:
        digest.update(len(field).to_bytes(4, "little"))
        digest.update(field)


def _build(folder: Path, source: Source, passages: Iterable[Passage]) -> None:
    digest, titled, size = hashlib.sha256(), False, 0
    id_ends, text_ends = array("q", [0]), array("q", [0])  # those not yet in a file
    try:
        with (
            open(folder / "ids.bin", "wb") as ids,
            open(folder / "texts.bin", "wb") as texts,
            Column(folder / "ids.npy", np.int64) as id_starts,
            Column(folder / "texts.npy", np.int64) as text_starts,
        ):
            for size, passage in enumerate(passages, start=1):
                fields = [field.encode("utf-8", "replace") for field in passage]
                if reason := why_no_id(passage.id):
                    raise UserError(
                        f"passage {size:,} has the id {passage.id!r:.80}, which a TREC run file cannot hold: {reason}; rename it"
                    )
                _update(digest, fields)
                titled = titled or bool(fields[1])
                ids.write(fields[0])
                texts.write(fields[1])
                texts.write(fields[2])
                id_ends.append(id_ends[-1] + len(fields[0]))
                text_ends.append(text_ends[-1] + len(fields[1]))
                text_ends.append(text_ends[-1] + len(fields[2]))
                if len(id_ends) > BLOCK:
                    id_ends, text_ends = _moved(id_starts, id_ends), _moved(text_starts, text_ends)
            for column, ends in ((id_starts, id_ends), (text_starts, text_ends)):
                column.append(np.array(ends, np.int64))
        if size == 0:
            raise UserError(f"the corpus {source.identity} has no passages; expected at least one")
        np.save(folder / "order.npy", _id_order(folder / "ids.bin", np.load(folder / "ids.npy", mmap_mode="r")))
    except OSError as error:
        raise lack_of_disk(error, folder) from error
    write_json(
        folder / "store.json",
        {"text_hash": digest.hexdigest(), "passages": size, "titled": titled, "source": source.identity, "files": source.files()},
    )


def _moved(column: Column, ends: array[int]) -> array[int]:
    """Moves all but the last one into the file."""
    column.append(np.array(ends[:-1], np.int64))
    return ends[-1:]


def _id_order(ids: Path, starts: np.ndarray) -> np.ndarray:
    """Passage numbers sorted by the bytes of their ids. UserError when an id occurs twice."""
    keys = _padded_ids(np.memmap(ids, np.uint8, mode="r"), starts)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    twice = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if len(twice):
        first, second = int(order[twice[0]]), int(order[twice[0] + 1])
        raise UserError(
            f"the passage id {bytes(keys[first]).decode()!r} occurs twice (passages {first + 1:,} and {second + 1:,}); ids must be unique"
        )
    return order


def _padded_ids(flat: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Ids as fixed-width byte strings, (passages,): what numpy sorts and searches."""
    size = len(starts) - 1
    width = max(int(np.diff(starts[rows.start : rows.stop + 1]).max()) for rows in blocks(size, BLOCK))
    padded = np.zeros((size, width), np.uint8)
    for rows in blocks(size, BLOCK):
        first, lengths = starts[rows], np.diff(starts[rows.start : rows.stop + 1])
        columns = np.arange(first[0], first[0] + lengths.sum()) - np.repeat(first, lengths)
        padded[np.repeat(np.arange(rows.start, rows.stop), lengths), columns] = flat[first[0] : first[0] + len(columns)]
    return padded.view(f"S{width}").ravel()
