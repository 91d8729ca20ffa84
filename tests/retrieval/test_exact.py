"""Exact search against a plain sort."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.data.tokens import tokens_of_corpus
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import exact
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.hits import Hits
from mta4dpr.retrieval.vectors import Encoding, Vectors, encode


def index_of(array: np.ndarray, id_rank: np.ndarray) -> ExactIndex:
    corpus: Any = SimpleNamespace(id_rank=id_rank)
    return ExactIndex(Vectors(Path(), array), corpus, "cpu")


def all_of(blocks: Any) -> Hits:
    found = list(blocks)
    return Hits(np.vstack([block.passages for block in found]), np.vstack([block.scores for block in found]))


def brute_force(queries: np.ndarray, array: np.ndarray, id_rank: np.ndarray, k: int) -> np.ndarray:
    """(queries, k), by sorting everything: score descending, then id descending."""
    scores = queries.astype(np.float64) @ array.astype(np.float64).T
    ranked = np.array([np.lexsort((-id_rank, -row)) for row in scores])
    return np.pad(ranked, ((0, 0), (0, max(0, k - len(array)))), constant_values=-1)[:, :k]


@pytest.mark.parametrize("block", [7, 16, 64, 1000])
@pytest.mark.parametrize("k", [1, 5, 16, 17, 120, 200])
def test_search_is_the_brute_force_sort(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, block: int, k: int) -> None:
    """Small whole numbers: sums are exact and most scores tie, at the cut too, within a block and across blocks. k > corpus is filled."""
    draw = np.random.default_rng(3)
    array = draw.integers(-1, 2, (len(corpus), 6)).astype(np.float32)
    queries = draw.integers(-1, 2, (70, 6)).astype(np.float32)
    monkeypatch.setattr(exact, "PASSAGE_BLOCK", block)
    hits = all_of(index_of(array, corpus.id_rank).search(queries, k))
    np.testing.assert_array_equal(hits.passages, brute_force(queries, array, corpus.id_rank, k))
    rows, columns = np.nonzero(hits.passages >= 0)
    found = hits.passages[rows, columns]
    np.testing.assert_array_equal(hits.scores[rows, columns], (queries[rows] * array[found]).sum(1))
    assert (hits.scores[hits.passages < 0] == -np.inf).all()


def test_all_scores_equal(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that collapsed gives every passage one score: then ids alone decide, whatever block they are in."""
    monkeypatch.setattr(exact, "PASSAGE_BLOCK", 11)
    hits = all_of(index_of(np.ones((len(corpus), 4), np.float32), corpus.id_rank).search(np.ones((1, 4), np.float32), 5))
    assert hits.passages[0].tolist() == corpus.order[::-1][:5].tolist()


def test_negative_scores_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block of queries is padded with zero vectors; their score of 0 must not count as a threshold."""
    monkeypatch.setattr(exact, "PASSAGE_BLOCK", 2)
    array = -np.arange(1, 7, dtype=np.float32)[:, None]
    hits = all_of(index_of(array, np.arange(6)).search(np.ones((1, 1), np.float32), 3))
    assert (hits.passages.tolist(), hits.scores.tolist()) == ([[0, 1, 2]], [[-1, -2, -3]])


def test_a_score_does_not_depend_on_the_other_queries(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """`search --query` must show what the run file says, bit for bit; a matrix product's rounding depends on its shape."""
    import torch

    monkeypatch.setattr(exact, "PASSAGE_BLOCK", 2048)
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(2)
    draw = np.random.default_rng(5)
    index = index_of(draw.standard_normal((3001, 384), np.float32), np.arange(3001))
    queries = draw.standard_normal((100, 384), np.float32)
    together = all_of(index.search(queries, 50))
    for row in (0, 1, 37, 63, 64, 99):
        alone = all_of(index.search(queries[row : row + 1], 50))
        np.testing.assert_array_equal(alone.passages[0], together.passages[row])
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])


def test_half_precision_vectors_are_searched_as_they_are() -> None:
    """Kept as float16, multiplied in float32."""
    draw = np.random.default_rng(6)
    array, queries = draw.standard_normal((300, 16)).astype(np.float16), draw.standard_normal((3, 16)).astype(np.float32)
    hits = all_of(index_of(array, np.arange(300)).search(queries, 300))
    expected = np.take_along_axis(queries @ array.astype(np.float32).T, hits.passages.astype(np.int64), 1)
    np.testing.assert_allclose(hits.scores, expected, rtol=1e-4, atol=1e-5)


def test_a_passage_asked_for_by_its_own_text_is_first(cache: Path, corpus: Corpus, encoder: Encoder) -> None:
    """From text to hits through the encoder: the vectors are normalised, so nothing is nearer than the text itself."""
    tokens = tokens_of_corpus(cache, corpus, encoder.tokenizer, prefix="")
    vectors = encode(cache, encoder, tokens, longest=encoder.reading.passage_length, how=Encoding("float32", 1024, 2))
    queries = encoder.encode_queries([corpus.joined(n, " ") for n in (40, 77)])
    (hits,) = ExactIndex(vectors, corpus, encoder.device).search(queries, 1)
    assert hits.passages.tolist() == [[40], [77]]
    np.testing.assert_allclose(hits.scores, 1, atol=1e-5)


def drawn(queries: int = 130, passages: int = 500, seed: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers, so that ties are everywhere; query vectors, passage vectors, ranks of ids."""
    draw = np.random.default_rng(seed)
    array = draw.integers(-2, 3, (passages, 6)).astype(np.float32)
    return draw.integers(-2, 3, (queries, 6)).astype(np.float32), array, draw.permutation(passages).astype(np.int32)


@pytest.mark.parametrize("k", [3, 40, 600])
def test_little_memory_means_more_passes_and_the_same_hits(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """130 queries in one pass over the vectors, or a pass for each block of 64."""
    monkeypatch.setattr(exact, "PASSAGE_BLOCK", 32)
    queries, array, rank = drawn()
    corpus: Any = SimpleNamespace(id_rank=rank)
    passes: list[int] = []
    real = Vectors.blocks
    monkeypatch.setattr(Vectors, "blocks", lambda self, *more: (passes.append(1), real(self, *more))[1])
    much = all_of(ExactIndex(Vectors(Path(), array), corpus, "cpu").search(queries, k))
    assert len(passes) == 1
    little = all_of(ExactIndex(Vectors(Path(), array), corpus, "cpu", memory=1).search(queries, k))
    assert len(passes) == 1 + 3
    np.testing.assert_array_equal(little.passages, much.passages)
    assert little.scores.tobytes() == much.scores.tobytes()


@pytest.mark.parametrize("parts", [1, 2, 3, 30])
@pytest.mark.parametrize("memory", [1, 10**9])
def test_processes_that_share_the_passages_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, memory: int
) -> None:
    """More processes than ranges of passages, too: some then have nothing to search."""
    monkeypatch.setattr(exact, "PASSAGE_BLOCK", 32)
    queries, array, rank = drawn()
    corpus: Any = SimpleNamespace(id_rank=rank)
    index = ExactIndex(Vectors(Path(), array), corpus, "cpu", memory=memory)
    alone = all_of(index.search(queries, 40))
    for part in reversed(range(parts)):
        index.search_part(queries, 40, tmp_path, part=part, parts=parts)
    together = all_of(index.merged_parts(len(queries), 40, tmp_path, parts=parts))
    np.testing.assert_array_equal(together.passages, alone.passages)
    assert together.scores.tobytes() == alone.scores.tobytes()
