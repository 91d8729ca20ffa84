"""Whether an encoder gives the vectors that sentence-transformers gives for the same network.

Settings that no file names, such as a tokenizer's template with token types, show here: what is read otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.errors import UserError

if TYPE_CHECKING:
    from mta4dpr.data.tokens import TokenPairs
    from mta4dpr.models.encoder import Encoder

READ = ("a", "", "  Two words,\n and 3 more. ", "naïve Zürich 北京 мир", "one two three four five six seven eight nine ten " * 60)
ENCODED = ("a", "some words that are read, and padding behind the shorter one")
TOLERANCE = 1e-3  # of the largest number of a vector


def check_agreement(encoder: Encoder) -> None:
    """UserError for a model whose token ids, or vectors, are not those of sentence-transformers."""
    network, reading = encoder.network, encoder.reading
    with tokenizer_as_it_was(network.tokenizer):
        for task, prefix, longest in (
            ("query", reading.query_prefix, reading.query_length),
            ("document", reading.passage_prefix, reading.passage_length),
        ):
            tokens = encoder.tokens(READ, prefix)
            for number, text in enumerate(READ):
                ids, mask = tokens.batch(np.array([number]), longest)
                theirs = network.preprocess([text], prompt=prefix or None, task=task)
                if ids[mask == 1].tolist() != theirs["input_ids"][theirs["attention_mask"] == 1].long().tolist():
                    raise _refusal(encoder, f"other tokens of {text[:40]!r} than it reads")
            ours = encoder.encode(encoder.tokens(ENCODED, prefix), np.arange(len(ENCODED)), longest=longest, token_budget=8192)
            encode = network.encode_query if task == "query" else network.encode_document
            vectors = np.asarray(encode(list(ENCODED), show_progress_bar=False))
            if not same(ours, vectors):
                raise _refusal(encoder, "other vectors than it gives")


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether vectors are equal but for rounding; what is no number there must be none here."""
    largest = np.nanmax(np.abs(theirs), initial=0.0, where=np.isfinite(theirs))
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * max(largest, 1e-6), equal_nan=True))


def check_pairs(label: str, tokenizer: Any, pairs: TokenPairs, texts: Sequence[str]) -> None:
    """UserError for a cross-encoder whose pairs of those texts are read otherwise than transformers does. `pairs` holds them twice."""
    every = np.array([(q, p) for q in range(len(texts)) for p in range(len(texts))])
    with tokenizer_as_it_was(tokenizer):
        for query, passage in every:
            ids, mask, types = (array[0] for array in pairs.batch(np.array([query]), np.array([passage])))
            theirs = tokenizer(texts[query], texts[passage], truncation=True, max_length=pairs.pair_length, return_token_type_ids=True)
            shown = theirs["attention_mask"]
            alike = ids[mask == 1].tolist() == [n for n, seen in zip(theirs["input_ids"], shown, strict=True) if seen]
            typed = "token_type_ids" not in tokenizer.model_input_names or types[mask == 1].tolist() == [
                n for n, seen in zip(theirs["token_type_ids"], shown, strict=True) if seen
            ]
            if not (alike and typed):
                raise UserError(
                    f"model {label!r}: expected a tokenizer that joins two texts by a fixed template, found another one "
                    f"({type(tokenizer).__name__}); choose another model"
                )


@contextmanager
def tokenizer_as_it_was(tokenizer: Any) -> Iterator[None]:
    """transformers leaves the padding and truncation of its last call in a tokenizer, which would be saved with it."""
    backend = tokenizer.backend_tokenizer
    padding, truncation = backend.padding, backend.truncation
    try:
        yield
    finally:
        backend.no_padding() if padding is None else backend.enable_padding(**padding)
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)


def _refusal(encoder: Encoder, what: str) -> UserError:
    side = encoder.network.tokenizer.padding_side
    why = f" (padding_side in tokenizer_config.json is {side!r}, here padding stands right of a text)" if side != "right" else ""
    return UserError(
        f"model {encoder.label!r}: {what} in sentence-transformers would come out{why}: its tokenizer or network takes features that are "
        "not supported; choose another model"
    )
