"""Vectors of a token store, encoded once per model and kept: one memory-mapped array, filled shard by shard.

Shards and the batches inside them are a pure function of the token store and the token budget, so the bytes depend neither
on how often the work was interrupted nor on how many processes share the shards. A shard counts only once its checksum is
written.

    vectors.npy             (texts, dimensions) float32 or float16
    shards/00012.json       rows, SHA-256 of the shard's bytes
    vectors.json            written last; with the stamp of vectors.npy, by which a later change is noticed (see machine/kept.py)
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.columns import CUT_OFF, blocks
from mta4dpr.data.tokens import TokenStore
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of, lack_of_disk, read_json, write_json, written_aside
from mta4dpr.machine.kept import stamp
from mta4dpr.machine.locks import lock_beside
from mta4dpr.machine.progress import bar
from mta4dpr.machine.shared_work import missing_pieces
from mta4dpr.models.encoder import Encoder

log = logging.getLogger(__name__)

SHARD_BATCHES = 32  # a shard is about this many full batches
_compared: dict[Path, list[int]] = {}  # files that this process has compared with their checksums, and their stamps then


@dataclass
class Vectors:
    """Kept vectors of one model over one set of texts."""

    folder: Path
    array: np.ndarray  # (texts, dimensions), memory-mapped

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Vectors of those texts, float32."""
        return np.asarray(self.array[numbers], np.float32)

    def blocks(self, size: int, among: range | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows as float32), `size` rows at a time; of those rows or of all."""
        among = range(len(self)) if among is None else among
        for start in range(among.start, among.stop, size):
            yield start, np.array(self.array[start : min(start + size, among.stop)], np.float32)

    @property
    def bytes(self) -> int:
        """Bytes of all vectors as they are kept."""
        return int(self.array.nbytes)


@dataclass(frozen=True)
class Encoding:
    """What decides the bytes of kept vectors, beside model and texts."""

    dtype: str
    token_budget: int
    threads: int
    precision: str = "float32"

    @property
    def parts(self) -> dict[str, Any]:
        """What keys are made of; the usual precision is left out, as it was before there were others."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("precision", "float32")}


def vectors_folder(cache: Path, encoder: Encoder, tokens: TokenStore, longest: int, how: Encoding) -> Path:
    """Where the cache keeps the vectors of an encoder over a token store, cut to `longest` tokens and made `how`."""
    key = key_of([encoder.key, tokens.key, longest, *how.parts.values(), encoder.device.type])
    return cache / "vectors" / key


def stored_vectors(folder: Path, *, by_content: bool = False) -> Vectors | None:
    """Finished vectors; None where there are none, or where the file is not what was written: then what is broken is missing again.

    By its stamp the file is known to be unchanged; `by_content` compares the checksums of its shards in any case, once a process.
    """
    about, path = folder / "vectors.json", folder / "vectors.npy"
    if not about.exists() or not path.exists():
        return None
    try:
        now, finished = stamp(path), read_json(about)
        as_written = (_compared.get(path) if by_content else finished.get("file")) == now
        vectors = Vectors(folder, _opened(path, (finished["texts"], finished["dimensions"]), finished["dtype"]))
    except CUT_OFF:
        as_written = False
    if not as_written and not _is_whole(folder):
        return None
    return vectors if as_written else Vectors(folder, np.load(path, mmap_mode="r"))


def _opened(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """The array, if that is its shape and type; its header is in no shard's checksum. ValueError if not."""
    array = np.load(path, mmap_mode="r")
    if array.shape != shape or array.dtype != np.dtype(dtype) or not array.flags.c_contiguous:
        raise ValueError(f"{path} has another header than it was written with")
    return np.asanyarray(array)


def forget(folder: Path) -> None:
    """Makes finished vectors unfinished, so that `encode` makes all of them again.

    The file itself stays: whoever reads it goes on reading, and whoever encodes writes the same bytes to the same places.
    """
    with lock_beside(folder):
        (folder / "vectors.json").unlink(missing_ok=True)
        for record in (folder / "shards").glob("*.json"):
            record.unlink(missing_ok=True)
        try:
            np.load(folder / "vectors.npy", mmap_mode="r")
        except CUT_OFF:
            (folder / "vectors.npy").unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    """Compares a file with the checksums of its shards; forgets those that are broken, so that they are made again."""
    path, about = folder / "vectors.npy", folder / "vectors.json"
    with lock_beside(folder):
        if not about.exists():
            return False  # another process has found it broken
        try:
            finished, now = read_json(about), stamp(path)
            vectors = Vectors(folder, _opened(path, (finished["texts"], finished["dimensions"]), finished["dtype"]))
        except CUT_OFF:
            log.warning("%s is damaged; its vectors are made again", path)
            about.unlink()
            return False
        broken = verify(vectors)
        if broken:
            log.warning("%s: %d shards do not have the checksum they were written with; they are made again", path, len(broken))
            about.unlink()
            _forget_shards(folder, broken)
            return False
        _compared[path] = now
        if finished.get("file") != now:
            with suppress(Exception):  # a cache that cannot be written is compared by each process
                write_json(about, {**finished, "file": now})
    return True


def _forget_shards(folder: Path, shards: Sequence[int]) -> None:
    for shard in shards:
        _record(folder, shard).unlink(missing_ok=True)


def _record(folder: Path, shard: int) -> Path:
    return folder / "shards" / f"{shard:05}.json"


def encode(cache: Path, encoder: Encoder, tokens: TokenStore, *, longest: int, how: Encoding, by_content: bool = False) -> Vectors:
    """The vectors of that store, from the cache or made now: the shards that are missing, shared with other processes.

    `by_content` as for `stored_vectors`.
    """
    folder = vectors_folder(cache, encoder, tokens, longest, how)
    found = stored_vectors(folder, by_content=by_content)
    if found is not None:
        return found
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    starts, path = shard_starts(tokens.lengths(longest), how.token_budget), folder / "vectors.npy"
    shape = (len(tokens), encoder.dimensions)
    records = [_record(folder, number) for number in range(len(starts) - 1)]
    try:
        with lock_beside(folder):
            try:
                _forget_shards(folder, verify(Vectors(folder, _opened(path, shape, how.dtype)), finished=False))
            except CUT_OFF:
                _begin(path, records, shape, how.dtype)
        with open(path, "r+b") as file, bar(len(records), f"encode with {encoder.label}", "shards") as shown:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            data, width = file.tell(), encoder.dimensions * np.dtype(how.dtype).itemsize
            shown.advance(sum(record.exists() for record in records))
            for shard in missing_pieces(records):
                start, end, began = int(starts[shard]), int(starts[shard + 1]), time.perf_counter()
                rows = encoder.encode(
                    tokens, np.arange(start, end), longest=longest, token_budget=how.token_budget, precision=how.precision
                )
                with np.errstate(over="ignore"):  # what does not fit is an error of its own
                    kept = np.ascontiguousarray(rows, how.dtype)
                _check_finite(kept, start, encoder.label, how)
                content = kept.tobytes()
                file.seek(data + start * width)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                sha256, seconds = hashlib.sha256(content).hexdigest(), round(time.perf_counter() - began, 4)
                write_json(records[shard], {"start": start, "end": end, "sha256": sha256, "seconds": seconds})
                shown.advance()
    except OSError as error:
        raise lack_of_disk(error, path) from error
    with lock_beside(folder):
        finish(folder, encoder, tokens, longest=longest, how=how)
    return Vectors(folder, np.load(path, mmap_mode="r"))


def finish(folder: Path, encoder: Encoder, tokens: TokenStore, *, longest: int, how: Encoding, **more: Any) -> None:
    """Writes that the vectors in that folder are all there, what they are of, and what `more` says of them."""
    about = {
        "model": encoder.label,
        "weights": encoder.weights_hash,
        "tokens": tokens.key,
        "longest": longest,
        "texts": len(tokens),
        "dimensions": encoder.dimensions,
        "dtype": how.dtype,
        "token_budget": how.token_budget,
        **more,
    }
    path = folder / "vectors.npy"
    _compared[path] = stamp(path)
    write_json(folder / "vectors.json", {**about, "file": stamp(path)})


def _begin(path: Path, records: Sequence[Path], shape: tuple[int, int], dtype: str) -> None:
    """An array of zeros as a file with holes; checksums of shards that are no longer there are removed first."""
    for record in records:
        record.unlink(missing_ok=True)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with written_aside(path, binary=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + shape[0] * shape[1] * np.dtype(dtype).itemsize)


def _check_finite(rows: np.ndarray, first: int, label: str, how: Encoding) -> None:
    """A search would not find such a passage, and would say nothing of it."""
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if not len(wrong):
        return
    narrow = [f"dense.{name} {value}" for name, value in (("precision", how.precision), ("dtype", how.dtype)) if value != "float32"]
    remedy = f"{' and '.join(narrow)} may be too narrow for it: take float32" if narrow else "look at its weights"
    raise UserError(
        f"{label}: expected vectors of finite numbers, found NaN or infinity in {len(wrong):,} of the {len(rows):,} texts from "
        f"{first:,} on; {remedy}. Of a student, training has diverged: try a smaller distill.lr"
    )


def shard_starts(lengths: np.ndarray, token_budget: int) -> np.ndarray:
    """Where each shard starts, and the end: a shard holds about SHARD_BATCHES batches' worth of tokens."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(1, total // (SHARD_BATCHES * token_budget) + 1) * SHARD_BATCHES * token_budget)
    return np.unique(np.concatenate([[0], cuts, [len(lengths)]]))


def verify(vectors: Vectors, *, finished: bool = True) -> list[int]:
    """Shards whose bytes no longer have the checksum they were written with, or whose record cannot be read.

    Of vectors that are `finished`, the records must also cover every row: after one that is lacking, the next one counts as broken.
    """
    broken, end = [], 0
    for path in sorted((vectors.folder / "shards").glob("*.json")):
        try:
            about = read_json(path)
            content = np.ascontiguousarray(vectors.array[about["start"] : about["end"]]).tobytes()
            is_whole = hashlib.sha256(content).hexdigest() == about["sha256"] and (about["start"] == end or not finished)
            end = about["end"]
        except (*CUT_OFF, TypeError):
            is_whole = False
        if not is_whole:
            broken.append(int(path.stem))
    if finished and end != len(vectors) and not broken:
        broken.append(int(path.stem) if end else 0)
    return broken


def damage(folder: Path) -> list[str]:
    """Names of what is broken of finished vectors; all is read, and nothing mended."""
    path = folder / "vectors.npy"
    try:
        finished = read_json(folder / "vectors.json")
        array = _opened(path, (finished["texts"], finished["dimensions"]), finished["dtype"])
    except CUT_OFF:
        return ["vectors.npy or vectors.json"]
    return [f"shard {number} of vectors.npy" for number in verify(Vectors(folder, array))]


def record_shards(folder: Path, size: int) -> None:
    """Checksums for vectors that are in the file already, `size` rows a shard; those of earlier shards are removed."""
    array = np.load(folder / "vectors.npy", mmap_mode="r")
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    _forget_shards(folder, [int(path.stem) for path in (folder / "shards").glob("*.json")])
    for number, rows in enumerate(blocks(len(array), size)):
        sha256 = hashlib.sha256(np.ascontiguousarray(array[rows]).tobytes()).hexdigest()
        write_json(_record(folder, number), {"start": rows.start, "end": rows.stop, "sha256": sha256, "seconds": 0.0})


def passages_per_second(folder: Path) -> float | None:
    """The rate at which those vectors were made."""
    records = [read_json(path) for path in (folder / "shards").glob("*.json")]
    seconds = sum(record["seconds"] for record in records)
    return round(sum(record["end"] - record["start"] for record in records) / seconds, 2) if seconds else None
