"""HNSW and IVF-PQ: inner products as they are, how much they find, and the same bytes again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.options import DenseSettings
from mta4dpr.errors import UserError
from mta4dpr.retrieval import approximate
from mta4dpr.retrieval.approximate import ApproximateIndex, build, expected_bytes, index_folder, recall
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.vectors import Vectors

PASSAGES = 1500
CORPUS: Any = SimpleNamespace(id_rank=np.random.default_rng(1).permutation(PASSAGES).astype(np.int32))


def clustered(count: int, seed: int) -> np.ndarray:
    """Points around 20 centres, of lengths from 0.2 to 5: by distance or by angle, other passages are nearest than by inner product."""
    draw = np.random.default_rng(seed)
    points = np.random.default_rng(0).standard_normal((20, 16))[draw.integers(0, 20, count)] + 0.5 * draw.standard_normal((count, 16))
    return (points * draw.uniform(0.2, 5, (count, 1))).astype(np.float32)


QUERIES = clustered(70, 3)


def indexed(folder: Path, settings: DenseSettings, dtype: str = "float32") -> tuple[ApproximateIndex, ExactIndex]:
    vectors = Vectors(folder, clustered(PASSAGES, 2).astype(dtype))
    return ApproximateIndex(build(vectors, settings, 2), CORPUS, settings, 2), ExactIndex(vectors, CORPUS, "cpu")


@pytest.mark.parametrize(
    "more", [{"index": "hnsw"}, {"index": "hnsw", "hnsw_m": 8, "dtype": "float16"}, {"index": "ivfpq", "pq_bytes": 4, "ivf_lists": 9}]
)
def test_its_bytes_are_known_before(tmp_path: Path, more: dict[str, Any]) -> None:
    """`plan` counts them on disk and in memory."""
    settings = DenseSettings(**more)
    array = np.random.default_rng(1).normal(size=(2000, 48)).astype(settings.dtype)
    folder = build(Vectors(tmp_path, array), settings, 1)
    assert folder == index_folder(tmp_path, settings, 2000)
    assert (folder / "index").stat().st_size == pytest.approx(expected_bytes(settings, 2000, 48), rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("settings", "least"),
    [(DenseSettings(index="hnsw"), 0.97), (DenseSettings(index="ivfpq", ivf_lists=20, ivf_probes=20, pq_bytes=8), 0.7)],
)
def test_most_of_what_exact_search_finds_is_found(tmp_path: Path, settings: DenseSettings, least: float, dtype: str) -> None:
    """Of vectors that are not normalised: an index by distance would find less than half of it."""
    found, exact = indexed(tmp_path, settings, dtype)
    assert least < recall(found, exact, QUERIES, 20) <= 1
    flat = np.vstack([hits.passages for hits in exact.search(QUERIES, 20)])
    by_distance = np.argsort(((QUERIES[:, None] - clustered(PASSAGES, 2)) ** 2).sum(-1), axis=1)[:, :20]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(flat, by_distance, strict=True)]) < 0.5


def test_scores_of_hnsw_are_inner_products_in_the_one_order(tmp_path: Path) -> None:
    hits = list(indexed(tmp_path, DenseSettings(index="hnsw"))[0].search(QUERIES, 30))
    passages, scores = np.vstack([h.passages for h in hits]), np.vstack([h.scores for h in hits])
    assert passages.shape == (70, 30)
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", QUERIES, clustered(PASSAGES, 2)[passages]), rtol=1e-5, atol=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_fewer_probes_find_less(tmp_path: Path) -> None:
    """Options of a search take effect without another build."""
    many, exact = indexed(tmp_path, DenseSettings(index="ivfpq", ivf_lists=20, ivf_probes=20))
    few, _ = indexed(tmp_path, DenseSettings(index="ivfpq", ivf_lists=20, ivf_probes=1))
    assert few.file == many.file
    assert recall(few, exact, QUERIES, 20) < recall(many, exact, QUERIES, 20) - 0.03


@pytest.mark.parametrize("settings", [DenseSettings(index="hnsw"), DenseSettings(index="ivfpq")])
def test_one_thread_builds_the_same_bytes_again(tmp_path: Path, settings: DenseSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [indexed(tmp_path / str(n), settings)[0] for n in range(2)]
    assert files[0].file.read_bytes() == files[1].file.read_bytes()
    assert files[0].about["reproducible"] is True
    monkeypatch.setattr(approximate, "DETERMINISTIC_UP_TO", PASSAGES - 1)
    assert indexed(tmp_path / "large", settings)[0].about["reproducible"] is False


def test_a_score_does_not_depend_on_the_other_queries(tmp_path: Path) -> None:
    index, _ = indexed(tmp_path, DenseSettings(index="ivfpq"))
    together = next(index.search(QUERIES[:64], 10))
    alone = next(index.search(QUERIES[5:6], 10))
    np.testing.assert_array_equal(alone.passages[0], together.passages[5])
    np.testing.assert_array_equal(alone.scores[0], together.scores[5])


def test_more_hits_than_passages_are_filled(tmp_path: Path) -> None:
    hits = next(indexed(tmp_path, DenseSettings(index="hnsw"))[0].search(QUERIES[:2], PASSAGES + 7))
    assert (hits.passages[:, -7:] == -1).all()
    assert (hits.scores[:, -7:] == -np.inf).all()


@pytest.mark.parametrize(
    ("settings", "size", "words"),
    [
        (DenseSettings(index="ivfpq"), 200, "at least 256 passages, found 200"),
        (DenseSettings(index="ivfpq", pq_bytes=5), 300, "must divide the 16 dimensions"),
        (DenseSettings(index="ivfpq", ivf_lists=400), 300, "more than the 300 passages"),
    ],
)
def test_what_cannot_be_built_is_said_and_leaves_nothing(tmp_path: Path, settings: DenseSettings, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(Vectors(tmp_path, clustered(size, 2)), settings, 2)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    "given", [{"hnsw_m": 8}, {"index": "hnsw", "pq_bytes": 8}, {"index": "ivfpq", "hnsw_m": 8}, {"deterministic": True}]
)
def test_options_without_effect_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no effect with index"):
        DenseSettings(**given)
