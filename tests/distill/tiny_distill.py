"""Thirty passages' worth of training queries, and scorers whose scores are a matrix that a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.records import Passage, Qrel
from mta4dpr.distill.queries import PassageLists, TrainingQueries
from mta4dpr.engines.scorer import Scorer
from mta4dpr.machine.files import key_of
from mta4dpr.retrieval.hits import Hits, best

PASSAGES = 30
TRAIN, HELD_OUT = 24, 6
WORDS = [f"{onset}{vowel}{coda}" for onset in "bdgklmnprst" for vowel in "aeiou" for coda in "nt"]


class ListSource:
    """Passages from a list."""

    exclude_self = False

    def __init__(self, passages: list[Passage]) -> None:
        self._passages = passages
        self.identity: dict[str, Any] = {"list": "tiny"}

    def files(self) -> list[list[Any]]:
        return []

    def passages(self) -> Iterator[Passage]:
        return iter(self._passages)

    def queries(self, query_set: str) -> Iterator[tuple[str, str]]:
        return iter(())

    def qrels(self, query_set: str) -> Iterator[Qrel]:
        return iter(())

    def expected_passages(self) -> int | None:
        return len(self._passages)


class MatrixScorer(Scorer):
    """A scorer whose score of (query number, passage number) is an entry of a matrix; ranks at most `longest` passages."""

    kind, ranks = "matrix", True

    def __init__(self, label: str, matrix: np.ndarray, corpus: Corpus, longest: int | None = None) -> None:
        self.label, self.key = label, key_of([label, np.asarray(matrix, np.float32).tolist(), longest])
        self.matrix, self._corpus, self._longest = np.asarray(matrix, np.float32), corpus, longest

    def rank(self, queries: np.ndarray, k: int) -> Iterator[Hits]:
        for start in range(0, len(queries), 7):  # blocks that divide nothing evenly
            scores = self.matrix[queries[start : start + 7]]
            rows, passages = np.indices(scores.shape).reshape(2, -1)
            hits = best(rows, passages, scores.ravel(), queries=len(scores), k=k, id_rank=self._corpus.id_rank)
            hits.passages[:, self._longest or k :] = -1
            hits.scores[:, self._longest or k :] = -np.inf
            yield hits

    def score(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        return self.matrix[np.asarray(queries)[:, None], passages]


def text_of(number: int, length: int) -> str:
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(WORDS, length))


def make_queries(
    order: list[int] | None = None,
    *,
    positives: Callable[[int], list[int]] | None = None,
    relevant: Callable[[int], list[int]] | None = None,
    train: int = TRAIN,
    held_out: int = HELD_OUT,
) -> TrainingQueries:
    """Query n is relevant to passage n (and n + 1 where n is a multiple of 3); `order` permutes the training queries."""
    names = [*(order if order is not None else range(train)), *range(1000, 1000 + held_out)]
    of = positives or (lambda n: [n % PASSAGES, (n + 1) % PASSAGES] if n % 3 == 0 else [n % PASSAGES])
    also = relevant or of
    return TrainingQueries(
        [f"q{n}" for n in names],
        [text_of(500 + n, 3 + n % 4) for n in names],
        PassageLists.of([np.array(sorted(of(n)), np.int32) for n in names]),
        PassageLists.of([np.array(sorted(also(n)), np.int32) for n in names]),
        len(names) - held_out,
        [],
    )


def random_matrix(seed: int, queries: int = TRAIN + HELD_OUT, passages: int = PASSAGES) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(queries, passages)).astype(np.float32)


def knowing_matrix(seed: int, queries: TrainingQueries, strength: float) -> np.ndarray:
    """Noise, with `strength` added to each query's positives: the greater, the better the scorer."""
    matrix = random_matrix(seed, len(queries.ids))
    for n, found in enumerate(queries.positives):
        matrix[n, found] += strength
    return matrix


SMALL = {"rounds": 2, "steps": 8, "batch_queries": 4, "group": 4, "depth": 10, "checkpoint_every": 3, "lr": 1e-3, "tau_student": 0.1}


def small_options(**changes: Any) -> Distill:
    return Distill(**{**SMALL, **changes})
