"""Vectors of a token store, encoded once per model and kept: one memory-mapped array, filled shard by shard.

Shards and the batches inside them are a pure function of the token store and the token budget, so the bytes do not
depend on how often the work was interrupted. A shard counts only once its checksum is written.

    vectors.npy             (texts, dimensions) float32 or float16
    shards/00012.json       rows, SHA-256 of the shard's bytes
    vectors.json            written last
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from mta4dpr.data.tokens import TokenStore
from mta4dpr.files import key_of, lack_of_disk, read_json, write_json, written_aside
from mta4dpr.models.encoder import Encoder
from mta4dpr.progress import track

log = logging.getLogger(__name__)

SHARD_BATCHES = 32  # a shard is about this many full batches


@dataclass
class Vectors:
    """Kept vectors of one model over one set of texts."""

    folder: Path
    array: np.ndarray  # (texts, dimensions), memory-mapped

    @property
    def dimensions(self) -> int:
        return int(self.array.shape[1])

    def __len__(self) -> int:
        return len(self.array)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Vectors of those texts, float32."""
        return np.asarray(self.array[numbers], np.float32)

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows as float32), `size` rows at a time."""
        for start in range(0, len(self.array), size):
            yield start, np.array(self.array[start : start + size], np.float32)

    @property
    def bytes(self) -> int:
        return int(self.array.nbytes)


@dataclass(frozen=True)
class Encoding:
    """What decides the bytes of kept vectors, beside model and texts."""

    dtype: str
    token_budget: int
    threads: int


def vectors_folder(cache: Path, encoder: Encoder, tokens: TokenStore, longest: int, how: Encoding) -> Path:
    key = key_of([encoder.key, tokens.key, longest, how.dtype, how.token_budget, how.threads, encoder.device.type])
    return cache / "vectors" / key


def stored_vectors(folder: Path) -> Vectors | None:
    if not (folder / "vectors.json").exists() or not (folder / "vectors.npy").exists():
        return None
    return Vectors(folder, np.load(folder / "vectors.npy", mmap_mode="r"))


def encode(cache: Path, encoder: Encoder, tokens: TokenStore, *, longest: int, how: Encoding) -> Vectors:
    """The vectors of that store, from the cache or made now; goes on at the first shard that is missing."""
    folder = vectors_folder(cache, encoder, tokens, longest, how)
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        found = stored_vectors(folder)
        if found is not None:
            return found
        shards = shard_starts(tokens.lengths(longest), how.token_budget)
        path, width = folder / "vectors.npy", encoder.dimensions * np.dtype(how.dtype).itemsize
        todo = [n for n in range(len(shards) - 1) if not path.exists() or not (folder / "shards" / f"{n:05}.json").exists()]
        try:
            if not path.exists():
                header = np.lib.format.header_data_from_array_1_0(np.empty((0, encoder.dimensions), how.dtype))
                header["shape"] = (len(tokens), encoder.dimensions)
                with written_aside(path, binary=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
            with open(path, "r+b") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                data = file.tell()
                for shard in track(todo, f"encode with {encoder.label}", "shards"):
                    start, end, began = shards[shard], shards[shard + 1], time.perf_counter()
                    rows = encoder.encode(tokens, np.arange(start, end), longest=longest, token_budget=how.token_budget)
                    content = np.ascontiguousarray(rows, how.dtype).tobytes()
                    file.seek(data + int(start) * width)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    write_json(
                        folder / "shards" / f"{shard:05}.json",
                        {
                            "start": int(start),
                            "end": int(end),
                            "sha256": hashlib.sha256(content).hexdigest(),
                            "seconds": round(time.perf_counter() - began, 4),
                        },
                    )
        except OSError as error:
            raise lack_of_disk(error, path) from error
        write_json(
            folder / "vectors.json",
            {
                "model": encoder.label,
                "weights": encoder.weights_hash,
                "tokens": tokens.key,
                "longest": longest,
                "texts": len(tokens),
                "dimensions": encoder.dimensions,
                "dtype": how.dtype,
                "token_budget": how.token_budget,
            },
        )
    return Vectors(folder, np.load(path, mmap_mode="r"))


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
