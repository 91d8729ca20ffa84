"""What the distiller asks of a teacher or an assistant: rankings of the corpus for the training queries, and scores of pairs.

A scorer is an engine bound to the training queries (`Engine.scorer`) and takes query numbers. Knows no distributions and no training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from mta4dpr.retrieval.hits import Hits


class Queries(Protocol):
    """Queries that a scorer is bound to; query numbers are their positions."""

    ids: list[str]
    texts: list[str]

    @property
    def text_hashes(self) -> np.ndarray:
        """A 64-bit number for each text, (queries,) uint64."""
        ...


class Scorer(Protocol):
    """A teacher or assistant. One that derives from this class needs `rank` and `score` alone."""

    label: str  # what groups, logs and tables call it
    kind: str  # a word for logs, such as "bi-encoder"
    key: str  # changes with everything that decides its scores: kept rankings are found by it
    ranks: bool  # whether it can rank the corpus, and so mine; where it cannot, it scores pairs alone

    @abstractmethod
    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        """The best `k` passages of the corpus for those queries, (n,), a block of queries at a time; asked only where it `ranks`."""

    @abstractmethod
    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Scores of groups: queries (n,), passages (n, group) -> (n, group) float32, the larger the better."""

    def score_along(self) -> None:
        """Helps the main process of a launch with the scores that it waits for; returns when there is nothing to do."""
        return None

    def note(self) -> str:
        """What a reader should know of the scores that the last call of `score` gave; empty where there is nothing to say."""
        return ""
