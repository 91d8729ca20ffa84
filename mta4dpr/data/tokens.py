"""Texts as token ids, tokenised once: flat memory-mapped ids with offsets, shared by every model with the same tokenizer.

Ids are stored without special tokens and untruncated up to MOST_TOKENS; a batch adds the special tokens and cuts to the
length that a model wants. Knows tokenizers, no models. A piece is PIECE texts, tokenised by all threads of a process
(the tokenizer's own: Python's share is 5 % of the time); the processes of one launch share the pieces, and what was cut
off goes on at the next one.

    ids.bin, starts.npy     token ids (uint16 or uint32), where each text starts        (texts + 1,) int64
    tokens.json             hash of texts and tokenizer, count; the folder is sealed (see machine/kept.py)
    KEY.pieces/             while it is made: 00012.npy, ids of a piece, and 00012.lengths.npy
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import batched, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.data.columns import Column, blocks
from mta4dpr.data.corpus import Corpus
from mta4dpr.machine.files import key_of, lack_of_disk, read_json, write_json, written_aside
from mta4dpr.machine.progress import Bar
from mta4dpr.machine.shared_work import Pieces, make_together

MOST_TOKENS = 512
PROBES = ("a", "1", ".", "的", "а", "ا")  # texts by which special tokens are found; the first of which something is left
BLOCK = 5000  # texts tokenised at once
PIECE = 100_000  # texts between two files: as many are lost when the process is killed


class Tokenizer:
    """A fast tokenizer of transformers, reduced to what the store needs."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer as Backend

        # a copy: transformers switches padding and truncation of its own on with every call
        self._backend = Backend.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self.pad = int(tokenizer.pad_token_id or 0)
        self._probe = next((text for text in PROBES if self._backend.encode(text, add_special_tokens=False).ids), PROBES[0])
        probe = self._backend.encode(self._probe, add_special_tokens=False).ids
        whole = self._backend.encode(self._probe).ids
        start = next((i for i in range(len(whole)) if whole[i : i + len(probe)] == probe), 0)
        self.before = np.array(whole[:start], np.int64)  # [CLS]
        self.after = np.array(whole[start + len(probe) :], np.int64)  # [SEP]
        self.dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
        self.hash = hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    @cached_property
    def pair(self) -> PairTemplate:
        """How this tokenizer joins two texts, found on a probe."""
        probe = self._backend.encode(self._probe, self._probe)
        ids, types = np.array(probe.ids, np.int64), np.array(probe.type_ids, np.int64)
        first, second = (np.flatnonzero([s == which for s in probe.sequence_ids]) for which in (0, 1))
        bounds = (0, first[0], first[-1] + 1, second[0], second[-1] + 1, len(ids))
        before, query, between, passage, after = (slice(*ends) for ends in pairwise(bounds))
        return PairTemplate(
            ids[before], ids[between], ids[after], types[before], int(types[query][0]), types[between], int(types[passage][0]), types[after]
        )

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens, at most MOST_TOKENS of a text."""
        encoded = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [one.ids[:MOST_TOKENS] for one in encoded]


@dataclass(frozen=True)
class PairTemplate:
    """Special tokens before, between and after two texts, and the token types of these and of the texts; arrays are int64."""

    before: np.ndarray  # [CLS]
    between: np.ndarray  # [SEP], or </s></s>
    after: np.ndarray  # [SEP]
    before_types: np.ndarray
    query_type: int
    between_types: np.ndarray
    passage_type: int
    after_types: np.ndarray

    @property
    def specials(self) -> int:
        """How many special tokens a pair has."""
        return len(self.before) + len(self.between) + len(self.after)


@dataclass
class TokenStore:
    """Token ids of n texts. `key` names texts, tokenizer and prefix; equal keys hold equal ids."""

    key: str
    starts: np.ndarray  # (texts + 1,) int64
    flat: np.ndarray  # (tokens,) uint16 or uint32
    tokenizer: Tokenizer
    prefix: str = ""  # what stands before each text, its tokens being among the ids

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self, longest: int, numbers: np.ndarray | None = None) -> np.ndarray:
        """Tokens of each text (or of those numbers) in a batch that is cut to `longest`, special ones included, (texts,) int64."""
        specials = len(self.tokenizer.before) + len(self.tokenizer.after)
        inner = np.diff(self.starts) if numbers is None else self.starts[numbers + 1] - self.starts[numbers]
        return np.minimum(inner + specials, longest)

    def truncated(self, longest: int) -> int:
        """Texts that lose tokens at that length."""
        specials = len(self.tokenizer.before) + len(self.tokenizer.after)
        return int((np.diff(self.starts) + specials > longest).sum())

    def batch(self, numbers: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Padded ids and attention mask of those texts, both (texts, longest of them, at least 1) int64."""
        before, after = self.tokenizer.before, self.tokenizer.after
        room = longest - len(before) - len(after)
        cut = [self.flat[self.starts[n] : min(self.starts[n + 1], self.starts[n] + room)] for n in numbers]
        width = max(1, max(len(ids) for ids in cut) + len(before) + len(after))  # of texts without tokens: padding
        ids = np.full((len(cut), width), self.tokenizer.pad, np.int64)
        mask = np.zeros((len(cut), width), np.int64)
        for row, inner in enumerate(cut):
            end = len(before) + len(inner)
            ids[row, : len(before)] = before
            ids[row, len(before) : end] = inner
            ids[row, end : end + len(after)] = after
            mask[row, : end + len(after)] = 1
        return ids, mask


@dataclass(frozen=True)
class TokenPairs:
    """(query, passage) pairs out of two stores of one tokenizer.

    A query is cut to `query_length` (of the query alone, special tokens included), if there is one. Then the longer of the
    two is cut until the pair has `pair_length` tokens, special ones included, as transformers' truncation=True does: with
    queries of less than half of it, passages alone are cut.
    """

    queries: TokenStore
    passages: TokenStore
    query_length: int | None
    pair_length: int

    def lengths(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Tokens of each pair, special ones included, (pairs,) int64."""
        of_query, of_passage = self._kept(queries, passages)
        return of_query + of_passage + self.queries.tokenizer.pair.specials

    def batch(self, queries: np.ndarray, passages: np.ndarray, *, width: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Padded ids, attention mask and token types of those pairs, each (pairs, longest of them or `width`) int64."""
        pair, pad = self.queries.tokenizer.pair, self.queries.tokenizer.pad
        of_query, of_passage = self._kept(queries, passages)
        shape = (len(queries), max(1, width, int((of_query + of_passage).max()) + pair.specials))
        ids, mask, types = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, (query, passage) in enumerate(zip(self.queries.starts[queries], self.passages.starts[passages], strict=True)):
            place = 0
            for piece, kind in (
                (pair.before, pair.before_types),
                (self.queries.flat[query : query + of_query[row]], pair.query_type),
                (pair.between, pair.between_types),
                (self.passages.flat[passage : passage + of_passage[row]], pair.passage_type),
                (pair.after, pair.after_types),
            ):
                ids[row, place : place + len(piece)] = piece
                types[row, place : place + len(piece)] = kind
                place += len(piece)
            mask[row, :place] = 1
        return ids, mask, types

    def _kept(self, queries: np.ndarray, passages: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that are kept of each query and of each passage, without special ones."""
        tokenizer = self.queries.tokenizer
        of_query = self.queries.starts[queries + 1] - self.queries.starts[queries]
        of_passage = self.passages.starts[passages + 1] - self.passages.starts[passages]
        if self.query_length is not None:
            of_query = np.minimum(of_query, self.query_length - len(tokenizer.before) - len(tokenizer.after))
        room = self.pair_length - tokenizer.pair.specials
        query_is_longer = of_query > of_passage
        shorter, longer = np.minimum(of_query, of_passage), np.maximum(of_query, of_passage)
        over = shorter + longer > room
        shorter = np.where(over, np.minimum(shorter, room // 2), shorter)
        longer = np.where(over, np.minimum(longer, room - shorter), longer)
        return np.where(query_is_longer, longer, shorter), np.where(query_is_longer, shorter, longer)


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
    return TokenStore(key, np.array(starts, np.int64), np.array(flat, tokenizer.dtype), tokenizer, prefix)


def tokens_folder(cache: Path, corpus: Corpus, tokenizer: Tokenizer, prefix: str) -> Path:
    """Where the corpus's token store for that tokenizer and prefix is kept under `cache`, there or not."""
    key = key_of([corpus.text_hash, tokenizer.hash, prefix, MOST_TOKENS, "title space text"])
    return cache / "tokens" / f"{corpus.folder.name.rsplit('-', 1)[0]}-{key}"


def tokens_of_corpus(cache: Path, corpus: Corpus, tokenizer: Tokenizer, *, prefix: str) -> TokenStore:
    """The corpus's token store, made on first use and kept."""
    folder, parts = tokens_folder(cache, corpus, tokenizer, prefix), list(blocks(len(corpus), PIECE))

    def make(number: int, file: Path, shown: Bar) -> None:
        _tokenise(file, corpus, tokenizer, prefix, parts[number])
        shown.advance(parts[number].stop - parts[number].start)

    join = partial(_join, corpus, tokenizer, prefix)
    pieces = Pieces(len(parts), make, join, len(corpus), "tokenise", "passages")
    make_together(folder, pieces, otherwise="the corpus is tokenised again")
    starts = np.load(folder / "starts.npy", mmap_mode="r")
    dtype = read_json(folder / "tokens.json")["dtype"]
    flat = np.memmap(folder / "ids.bin", dtype=dtype, mode="r") if starts[-1] else np.empty(0, dtype)
    return TokenStore(folder.name.rsplit("-", 1)[-1], starts, flat, tokenizer, prefix)


def _tokenise(file: Path, corpus: Corpus, tokenizer: Tokenizer, prefix: str, rows: slice) -> None:
    ids, lengths = array("I"), array("q")
    for block in batched(range(rows.start, rows.stop), BLOCK):
        for found in tokenizer.ids([prefix + corpus.joined(n, " ") for n in block]):
            ids.extend(found)
            lengths.append(len(found))
    for name, values in ((_lengths(file), np.array(lengths, np.int64)), (file, np.array(ids, tokenizer.dtype))):
        with written_aside(name, binary=True) as opened:
            np.save(opened, values)


def _lengths(piece: Path) -> Path:
    return piece.with_suffix(".lengths.npy")


def _join(corpus: Corpus, tokenizer: Tokenizer, prefix: str, folder: Path, pieces: Sequence[Path]) -> None:
    tokens = 0
    try:
        with open(folder / "ids.bin", "wb") as file, Column(folder / "starts.npy", np.int64) as starts:
            starts.append(np.zeros(1, np.int64))
            for piece in pieces:
                file.write(np.load(piece).data)
                ends = tokens + np.cumsum(np.load(_lengths(piece)))
                starts.append(ends)
                tokens = int(ends[-1])
    except OSError as error:
        raise lack_of_disk(error, folder) from error
    write_json(
        folder / "tokens.json",
        {
            "text_hash": corpus.text_hash,
            "tokenizer_hash": tokenizer.hash,
            "prefix": prefix,
            "texts": len(corpus),
            "tokens": tokens,
            "dtype": np.dtype(tokenizer.dtype).name,
        },
    )
