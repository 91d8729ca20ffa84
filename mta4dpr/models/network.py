"""What bi-encoders and cross-encoders share: a network, its tokenizer, how it reads texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mta4dpr.data.tokens import Tokenizer, TokenStore, tokens_of_texts


class HasQueryPrefix(Protocol):
    """What Network needs to know of a reading."""

    @property
    def query_prefix(self) -> str:
        """What is put before every query; empty where nothing is."""
        ...


class Network[Reading: HasQueryPrefix]:
    """A model with its tokenizer and its reading. `network` is a torch module, `weights_hash` a key of its weights.

    `label` is the model's name in the benchmark; messages and logs use it.
    """

    def __init__(self, label: str, network: Any, tokenizer: Any, reading: Reading, weights_hash: str) -> None:
        self.label, self.network, self.reading, self.weights_hash = label, network, reading, weights_hash
        self.tokenizer = Tokenizer(tokenizer)

    @property
    def parameters(self) -> int:
        """The number of weights, those of embeddings and heads included."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def device(self) -> Any:
        """The torch device that holds the weights."""
        return next(self.network.parameters()).device

    def query_tokens(self, texts: Sequence[str]) -> TokenStore:
        """Token ids of those queries with this model's prefix before each, in memory; not cut to the query length yet."""
        return self.tokens(texts, self.reading.query_prefix)

    def tokens(self, texts: Sequence[str], prefix: str) -> TokenStore:
        """Token ids of those texts with that prefix before each, in memory; not cut yet."""
        return tokens_of_texts(self.tokenizer, texts, prefix=prefix)
