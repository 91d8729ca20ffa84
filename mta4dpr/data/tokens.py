"""Texts as token ids, tokenised once: flat memory-mapped ids with offsets, shared by every model with the same tokenizer.

Ids are stored without special tokens and untruncated up to MOST_TOKENS; a batch adds the special tokens and cuts to the
length that a model wants. Knows tokenizers, no models.

    ids.bin, starts.npy     token ids (uint16 or uint32), where each text starts        (texts + 1,) int64
    tokens.json             hash of texts and tokenizer, count
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mta4dpr.data.corpus import Corpus
from mta4dpr.files import folder_written_aside, key_of, lack_of_disk, read_json, write_json
from mta4dpr.progress import track

MOST_TOKENS = 512
BLOCK = 5000  # texts tokenised at once


class Tokenizer:
    """A fast tokenizer of transformers, reduced to what the store needs."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer as Backend

        # a copy: transformers switches padding and truncation of its own on with every call
        self._backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self.pad = int(tokenizer.pad_token_id or 0)
        probe = self._backend.encode("a", add_special_tokens=False).ids
        whole = self._backend.encode("a").ids
        start = next((i for i in range(len(whole)) if whole[i : i + len(probe)] == probe), 0)
        self.before = np.array(whole[:start], np.int64)  # [CLS]
        self.after = np.array(whole[start + len(probe) :], np.int64)  # [SEP]
        self.dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self.hash = hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [one.ids[:MOST_TOKENS] for one in encoded]


@dataclass
class TokenStore:
    """Token ids of n texts. `key` names texts, tokenizer and prefix; equal keys hold equal ids."""

    key: str
    starts: np.ndarray  # (texts + 1,) int64
    flat: np.ndarray  # (tokens,) uint16 or uint32
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self, longest: int) -> np.ndarray:
        """Tokens of each text in a batch that is cut to `longest`, special ones included, (texts,) int64."""
        specials = len(self.tokenizer.before) + len(self.tokenizer.after)
        return np.minimum(np.diff(self.starts) + specials, longest)

    def truncated(self, longest: int) -> int:
        """Texts that lose tokens at that length."""
        specials = len(self.tokenizer.before) + len(self.tokenizer.after)
        return int((np.diff(self.starts) + specials > longest).sum())

    def batch(self, numbers: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Padded ids and attention mask of those texts, both (texts, longest of them) int64."""
        before, after = self.tokenizer.before, self.tokenizer.after
        room = longest - len(before) - len(after)
        cut = [self.flat[self.starts[n] : min(self.starts[n + 1], self.starts[n] + room)] for n in numbers]
        width = max(len(ids) for ids in cut) + len(before) + len(after)
        ids = np.full((len(cut), width), self.tokenizer.pad, np.int64)
        mask = np.zeros((len(cut), width), np.int64)
        for row, inner in enumerate(cut):
            end = len(before) + len(inner)
            ids[row, : len(before)] = before
            ids[row, len(before) : end] = inner
            ids[row, end : end + len(after)] = after
            mask[row, : end + len(after)] = 1
        return ids, mask


def tokens_of_texts(tokenizer: Tokenizer, texts: Sequence[str], *, prefix: str) -> TokenStore:
    """Tokens of a few texts (queries), in memory."""
    starts, flat = array("q", [0]), array("I")
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "replace") + b"\0")
    for block in batched(texts, BLOCK):
        for ids in tokenizer.ids([prefix + text for text in block]):
            flat.extend(ids)
            starts.append(starts[-1] + len(ids))
    key = key_of([digest.hexdigest(), tokenizer.hash, prefix, MOST_TOKENS])
    return TokenStore(key, np.array(starts, np.int64), np.array(flat, tokenizer.dtype), tokenizer)


def tokens_folder(cache: Path, corpus: Corpus, tokenizer: Tokenizer, prefix: str) -> Path:
    key = key_of([corpus.text_hash, tokenizer.hash, prefix, MOST_TOKENS, "title space text"])
    return cache / "tokens" / f"{corpus.folder.name.rsplit('-', 1)[0]}-{key}"


def tokens_of_corpus(cache: Path, corpus: Corpus, tokenizer: Tokenizer, *, prefix: str) -> TokenStore:
    """The corpus's token store, made on first use and kept."""
    folder = tokens_folder(cache, corpus, tokenizer, prefix)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if not (folder / "tokens.json").exists():
            with folder_written_aside(folder) as aside:
                _write(aside, corpus, tokenizer, prefix, track(range(len(corpus)), "tokenise", "passages"))
    starts = np.load(folder / "starts.npy", mmap_mode="r")
    dtype = read_json(folder / "tokens.json")["dtype"]
    flat = np.memmap(folder / "ids.bin", dtype=dtype, mode="r") if starts[-1] else np.empty(0, dtype)
    return TokenStore(folder.name.rsplit("-", 1)[-1], starts, flat, tokenizer)


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer, prefix: str, numbers: Iterable[int]) -> None:
    starts = array("q", [0])
    try:
        with open(folder / "ids.bin", "wb") as file:
            for block in batched(numbers, BLOCK):
                for ids in tokenizer.ids([prefix + corpus.joined(n, " ") for n in block]):
                    file.write(np.array(ids, tokenizer.dtype).tobytes())
                    starts.append(starts[-1] + len(ids))
        np.save(folder / "starts.npy", np.array(starts, np.int64))
    except OSError as error:
        raise lack_of_disk(error, folder) from error
    write_json(
        folder / "tokens.json",
        {
            "text_hash": corpus.text_hash,
            "tokenizer_hash": tokenizer.hash,
            "prefix": prefix,
            "texts": len(corpus),
            "tokens": starts[-1],
            "dtype": np.dtype(tokenizer.dtype).name,
        },
    )
