"""What bi-encoders and cross-encoders share: a network, its tokenizer, how it reads texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mta4dpr.data.tokens import Tokenizer, TokenStore, tokens_of_texts


class HasQueryPrefix(Protocol):
    @property
    def query_prefix(self) -> str: ...


class Network[Reading: HasQueryPrefix]:
    """`weights_hash` names the weights; `network` is a torch module."""

    def __init__(self, label: str, network: Any, tokenizer: Any, reading: Reading, weights_hash: str) -> None:
        self.label, self.network, self.reading, self.weights_hash = label, network, reading, weights_hash
        self.tokenizer = Tokenizer(tokenizer)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @property
    def device(self) -> Any:
        return next(self.network.parameters()).device

    def query_tokens(self, texts: Sequence[str]) -> TokenStore:
        return tokens_of_texts(self.tokenizer, texts, prefix=self.reading.query_prefix)
