"""Whether an encoder gives the vectors that sentence-transformers gives for the same network, and a reranker transformers' scores.

Settings that no file names, such as a tokenizer's template with token types, show here: what is read otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.data.tokens import TokenPairs
from mta4dpr.errors import UserError

if TYPE_CHECKING:
    from mta4dpr.models.encoder import Encoder
    from mta4dpr.models.reranker import Reranker

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
                    raise _refusal(encoder, f"tokens of {text[:40]!r}")
            ours = encoder.encode(encoder.tokens(ENCODED, prefix), np.arange(len(ENCODED)), longest=longest, token_budget=8192)
            encode = network.encode_query if task == "query" else network.encode_document
            vectors = np.asarray(encode(list(ENCODED), show_progress_bar=False))
            if not same(ours, vectors):
                raise _refusal(encoder, "vectors")


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether vectors are equal but for rounding; what is no number there must be none here."""
    largest = np.nanmax(np.abs(theirs), initial=0.0, where=np.isfinite(theirs))
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=0, atol=TOLERANCE * max(largest, 1e-6), equal_nan=True))


def check_scores(reranker: Reranker, tokenizer: Any) -> None:
    """UserError for a cross-encoder whose token ids of pairs, or scores, are not those of transformers."""
    import torch

    longest = reranker.reading.pair_length
    read = [*READ[:-1], " ".join(READ[-1].split()[: 2 * longest])]  # what overflows costs tokenizers the square of it
    texts = reranker.tokens(read, "")
    pairs = TokenPairs(texts, texts, None, longest)
    settings = {"truncation": True, "max_length": pairs.pair_length, "padding": True, "return_tensors": "pt"}
    with tokenizer_as_it_was(tokenizer), torch.inference_mode():
        for query, passage in product(range(len(read)), repeat=2):
            ids, _, _ = pairs.batch(np.array([query]), np.array([passage]))
            if ids.tolist() != tokenizer([read[query]], [read[passage]], **settings)["input_ids"].tolist():
                raise UserError(
                    f"model {reranker.label!r}: expected pairs read as its tokenizer ({type(tokenizer).__name__}) reads them, found other "
                    f"tokens of {read[query][:40]!r} and {read[passage][:40]!r}; choose another model"
                )
        short, long = np.array([0, 2]), np.array([2, 3])
        ours = reranker.score(pairs, short, long, token_budget=8192)
        batch = tokenizer([read[n] for n in short], [read[n] for n in long], **settings)
        types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
        theirs = reranker.forward(batch["input_ids"], batch["attention_mask"], types).numpy()
    if not same(ours, theirs):
        side = tokenizer.padding_side
        why = f" (padding_side in tokenizer_config.json is {side!r}, and they depend on where padding stands)" if side != "right" else ""
        raise UserError(f"model {reranker.label!r}: expected the scores that transformers gives, found others{why}; choose another model")


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
    why = "its tokenizer or network takes features that are not supported, such as token types or a task"
    if side != "right":
        why = f"padding_side in tokenizer_config.json is {side!r}, and its vectors depend on where padding stands"
    return UserError(
        f"model {encoder.label!r}: expected the {what} that sentence-transformers has, found others ({why}); choose another model"
    )
