"""Vectors of a token store, encoded once per model and kept: one memory-mapped array, filled shard by shard.

Shards and the batches inside them are a pure function of the token store and the token budget, so the bytes depend neither
on how often the work was interrupted nor on how many processes share the shards. A shard counts only once its checksum is
written.

    vectors.npy             (texts, dimensions) float32 or float16
    shards/00012.json       rows, SHA-256 of the shard's bytes
    vectors.json            written last; with the size and time of vectors.npy, by which a later change is noticed
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mta4dpr.data.columns import CUT_OFF
from mta4dpr.data.tokens import TokenStore
from mta4dpr.errors import UserError
from mta4dpr.machine.files import key_of, lack_of_disk, read_json, write_json, written_aside
from mta4dpr.machine.progress import bar
from mta4dpr.machine.shared_work import missing_pieces
from mta4dpr.models.encoder import Encoder

log = logging.getLogger(__name__)

SHARD_BATCHES = 32  # a shard is about this many full batches


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


def stored_vectors(folder: Path) -> Vectors | None:
    """Finished vectors; None where there are none, or where the file is not what was written: then what is broken is missing again."""
    about, path = folder / "vectors.json", folder / "vectors.npy"
    if not about.exists() or not path.exists():
        return None
    try:
        as_written = read_json(about).get("file") == _stat(path)
    except CUT_OFF:
        as_written = False
    return Vectors(folder, np.load(path, mmap_mode="r")) if as_written or _is_whole(folder) else None


def forget(folder: Path) -> None:
    """Makes finished vectors unfinished, so that `encode` makes all of them again.

    The file itself stays: whoever reads it goes on reading, and whoever encodes writes the same bytes to the same places.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        (folder / "vectors.json").unlink(missing_ok=True)
        for record in (folder / "shards").glob("*.json"):
            record.unlink(missing_ok=True)
        try:
            np.load(folder / "vectors.npy", mmap_mode="r")
        except CUT_OFF:
            (folder / "vectors.npy").unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    """Compares a file that was touched since it was finished with the checksums of its shards; forgets those that are broken."""
    path = folder / "vectors.npy"
    with FileLock(str(folder) + ".lock"):
        if not (folder / "vectors.json").exists():
            return False  # another process has found it broken
        try:
            about, broken = read_json(folder / "vectors.json"), verify(Vectors(folder, np.load(path, mmap_mode="r")))
        except CUT_OFF:  # or a record of a shard is
            log.warning("%s is damaged; its vectors are made again", path)
            (folder / "vectors.json").unlink()
            path.unlink()
            return False
        if broken:
            log.warning("%s: %d shards do not have the checksum they were written with; they are made again", path, len(broken))
            (folder / "vectors.json").unlink()
            for shard in broken:
                _record(folder, shard).unlink()
            return False
        write_json(folder / "vectors.json", {**about, "file": _stat(path)})
    return True


def _stat(path: Path) -> list[int]:
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _record(folder: Path, shard: int) -> Path:
    return folder / "shards" / f"{shard:05}.json"


def encode(cache: Path, encoder: Encoder, tokens: TokenStore, *, longest: int, how: Encoding) -> Vectors:
    """The vectors of that store, from the cache or made now: the shards that are missing, shared with other processes."""
    folder = vectors_folder(cache, encoder, tokens, longest, how)
    found = stored_vectors(folder)
    if found is not None:
        return found
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    starts, path = shard_starts(tokens.lengths(longest), how.token_budget), folder / "vectors.npy"
    records = [_record(folder, number) for number in range(len(starts) - 1)]
    try:
        with FileLock(str(folder) + ".lock"):
            if not path.exists():
                _begin(path, records, (len(tokens), encoder.dimensions), how.dtype)
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
    about = {
        "model": encoder.label,
        "weights": encoder.weights_hash,
        "tokens": tokens.key,
        "longest": longest,
        "texts": len(tokens),
        "dimensions": encoder.dimensions,
        "dtype": how.dtype,
        "token_budget": how.token_budget,
    }
    with FileLock(str(folder) + ".lock"):
        write_json(folder / "vectors.json", {**about, "file": _stat(path)})
    return Vectors(folder, np.load(path, mmap_mode="r"))


def _begin(path: Path, records: Sequence[Path], shape: tuple[int, int], dtype: str) -> None:
    """An array of zeros as a file with holes; checksums of shards that are no longer there are removed first."""
    for record in records:
        record.unlink(missing_ok=True)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with written_aside(path, binary=True) as file:
        np.lib.format.write_array_header_1_0(file, header)


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


def verify(vectors: Vectors) -> list[int]:
    """Shards whose bytes no longer have the checksum they were written with."""
    broken = []
    for path in sorted((vectors.folder / "shards").glob("*.json")):
        about = read_json(path)
        content = np.ascontiguousarray(vectors.array[about["start"] : about["end"]]).tobytes()
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            broken.append(int(path.stem))
    return broken


def passages_per_second(folder: Path) -> float | None:
    """The rate at which those vectors were made."""
    records = [read_json(path) for path in (folder / "shards").glob("*.json")]
    seconds = sum(record["seconds"] for record in records)
    return round(sum(record["end"] - record["start"] for record in records) / seconds, 2) if seconds else None
