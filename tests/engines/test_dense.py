"""Dense retrieval as an engine: inner products of kept vectors, what decides its hits, and what --redo makes again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.config.options import DenseSettings
from mta4dpr.data.corpus import Corpus
from mta4dpr.engines.dense import BiEncoderScorer, Dense
from mta4dpr.engines.dense_cost import DenseOptions
from mta4dpr.engines.workplace import Workplace
from mta4dpr.models.encoder import Encoder
from mta4dpr.retrieval import approximate
from mta4dpr.retrieval.exact import ExactIndex
from mta4dpr.retrieval.vectors import Vectors

from ..distill.tiny_distill import ListSource

UNTRAINED = {"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 200}
MODEL = ModelSpec(untrained=UNTRAINED, query_length=12, passage_length=24)
HNSW = {"index": "hnsw", "hnsw_m": 4}
QUERIES = ["bat bet", "bit", "bot but dat", "det"]


@pytest.fixture
def engine(corpus: Corpus, tmp_path: Path) -> Callable[..., Dense]:
    """A new one in a process of its own, as it were: over the same cache, which `again` makes again."""

    def make(again: str = "", *, model: ModelSpec = MODEL, root: Path | None = None, cache: Path = tmp_path, **settings: Any) -> Dense:
        place = Workplace(ListSource(list(corpus)), cache, "cpu", again=again)  # type: ignore[arg-type]
        return Dense("dense", DenseOptions(model, DenseSettings(**settings)), place, root=root)

    return make


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of texts of each call that has encoded some."""
    found: list[int] = []
    plain = Encoder.encode

    def encode(self: Encoder, tokens: Any, rows: np.ndarray, **how: Any) -> np.ndarray:
        found.append(len(rows))
        return plain(self, tokens, rows, **how)

    monkeypatch.setattr(Encoder, "encode", encode)
    return found


def files(cache: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.glob(pattern)}


# --- what it is ---


@pytest.mark.parametrize("idle", [{"search_memory": "2g"}, {"pyserini_index": False}])
def test_what_changes_no_hit_changes_no_identity(engine: Callable[..., Dense], idle: dict[str, Any]) -> None:
    """A run on a machine with more memory must not search all again."""
    assert engine(**idle).identity == engine().identity


@pytest.mark.parametrize("other", [{"dtype": "float16"}, {"token_budget": 64}, {"precision": "bfloat16"}, HNSW, {"engine": "pyserini"}])
def test_what_may_change_a_hit_does(engine: Callable[..., Dense], other: dict[str, Any]) -> None:
    assert engine(**other).identity != engine().identity
    assert engine(**other).settings != engine().settings, "which is what a student's rows are told apart by"


def test_the_model_is_part_of_it(engine: Callable[..., Dense]) -> None:
    assert engine(model=ModelSpec(untrained={**UNTRAINED, "seed": 9})).identity != engine().identity
    assert engine(model=MODEL.model_copy(update={"passage_length": 16})).identity != engine().identity


# --- searching ---


def test_a_score_does_not_depend_on_how_many_queries_are_asked(engine: Callable[..., Dense]) -> None:
    """--limit must give the beginning of the same run file, so vectors are made of all queries."""
    opened = engine()
    (all_hits,) = opened.search(QUERIES, 5)
    (first,) = opened.search_first(QUERIES, 2, 5)
    assert (first.passages == all_hits.passages[:2]).all()
    assert (first.scores == all_hits.scores[:2]).all()


def test_vectors_are_encoded_once_for_all_who_search_them(engine: Callable[..., Dense], corpus: Corpus, encoded: list[int]) -> None:
    """A second engine, or a second run, takes those of the cache; closing and opening again encodes nothing."""
    first = engine()
    first.open()
    first.close()
    first.open()
    assert sum(encoded) == len(corpus)
    engine().open()
    engine(**HNSW).open()
    assert sum(encoded) == len(corpus)


def test_a_student_keeps_its_vectors_where_it_is_trained(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """They are of no use to another run, and go when the training's folder is removed."""
    cache, training = tmp_path / "cache", tmp_path / "training"
    student = engine(root=training, cache=cache)
    student.open()
    assert student.is_student
    assert list(training.glob("vectors/*/vectors.json"))
    assert not (cache / "vectors").exists()


def test_parts_of_a_search_give_the_hits_of_the_whole(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """Two processes that share a search leave the run file of one."""
    opened = engine()
    assert opened.is_shared
    assert not engine(**HNSW).is_shared
    for part in range(2):
        opened.search_part(QUERIES, 3, 5, tmp_path / "parts", part=part, parts=2)
    (merged,) = opened.merged_parts(3, 5, tmp_path / "parts", parts=2)
    (whole,) = opened.search_first(QUERIES, 3, 5)
    assert (merged.passages == whole.passages).all()
    assert (merged.scores == whole.scores).all()


# --- --redo ---


def test_redo_encode_encodes_once_more_in_a_process(
    engine: Callable[..., Dense], corpus: Corpus, encoded: list[int], tmp_path: Path
) -> None:
    """A teacher that is a system too has the same vectors: made again for the one, they serve the other."""
    engine().open()
    (before,) = tmp_path.glob("vectors/*/vectors.npy")
    content = before.read_bytes()
    again = engine("encode")
    again.open()
    again.close()
    again.open()
    assert sum(encoded) == 2 * len(corpus)
    assert before.read_bytes() == content


def test_redo_index_builds_the_index_and_leaves_the_vectors(engine: Callable[..., Dense], encoded: list[int], tmp_path: Path) -> None:
    """Building takes minutes where encoding takes hours."""
    engine(**HNSW).open()
    vectors, built = files(tmp_path, "vectors/*/shards/*.json"), files(tmp_path, "vectors/*/hnsw-*/about.json")
    encoded.clear()
    again = engine("index", **HNSW)
    again.open()
    once = files(tmp_path, "vectors/*/hnsw-*/about.json")
    assert built.keys() == once.keys()
    assert built != once
    again.close()
    again.open()
    assert files(tmp_path, "vectors/*/hnsw-*/about.json") == once
    assert files(tmp_path, "vectors/*/shards/*.json") == vectors
    assert encoded == []


def test_redo_encode_builds_the_index_over_them_too(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """An index over vectors that somebody no longer trusts is not to be trusted either."""
    engine(**HNSW).open()
    built = files(tmp_path, "vectors/*/hnsw-*/about.json")
    engine("encode", **HNSW).open()
    assert files(tmp_path, "vectors/*/hnsw-*/about.json") != built


# --- the index that a run leaves ---


def test_the_index_that_it_leaves_is_the_one_that_it_searches(engine: Callable[..., Dense], corpus: Corpus, tmp_path: Path) -> None:
    """Flat for exact search, the approximate one where that was searched; one id a line beside it."""
    import faiss

    for settings, kind in (({}, "IndexFlat"), (HNSW, "IndexHNSWFlat")):
        opened = engine(**settings)
        opened.write_index(tmp_path / kind)
        assert type(faiss.read_index(str(tmp_path / kind / "index"))).__name__ in (kind, f"{kind}IP")
        assert (tmp_path / kind / "docid").read_text().split() == corpus.ids(np.arange(len(corpus)))
    assert engine().leaves_index
    assert not engine(pyserini_index=False).leaves_index


def test_only_an_approximate_index_has_a_recall_to_tell(engine: Callable[..., Dense], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over at most so many queries, spread over all of them."""
    assert engine().quality(QUERIES, 5) == {}
    asked: list[int] = []
    plain = approximate.recall

    def recall(index: Any, exact: Any, vectors: np.ndarray, k: int) -> float:
        asked.append(len(vectors))
        return plain(index, exact, vectors, k)

    monkeypatch.setattr(approximate, "recall", recall)
    monkeypatch.setattr("mta4dpr.engines.dense.RECALL_QUERIES", 2)
    about = engine(**HNSW).quality(QUERIES, 5)["index"]
    assert asked == [about["recall_queries"]] == [2]
    assert (about["recall_depth"], about["hnsw_m"], about["reproducible"]) == (5, 4, True)
    assert 0 < about["recall"] <= 1


# --- as a teacher or an assistant ---


def test_mining_is_exact_whatever_the_leaderboard_searches_by(engine: Callable[..., Dense], corpus: Corpus) -> None:
    """A student must not depend on how its teacher's row is searched."""
    queries = type("Queries", (), {"ids": list("abcd"), "texts": QUERIES})()
    exact, approximated = engine().scorer(queries), engine(**HNSW).scorer(queries)
    assert exact.key == approximated.key
    asked = np.array([2, 0])
    for one, other in zip(exact.rank(asked, len(corpus)), approximated.rank(asked, len(corpus)), strict=True):
        assert (one.passages == other.passages).all()
    groups = np.array([[0, 3, 5], [7, 7, 1]])
    assert (exact.score(asked, groups) == approximated.score(asked, groups)).all()


def test_bi_encoder_scores_are_inner_products_in_blocks(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The block size must not show, and `rank` and `score` must agree on a pair."""
    generator = np.random.default_rng(0)
    passage_vectors, query_vectors = generator.normal(size=(len(corpus), 8)), generator.normal(size=(9, 8)).astype(np.float32)
    monkeypatch.setattr("mta4dpr.engines.dense.SCORE_BLOCK", 2)
    index = ExactIndex(Vectors(tmp_path, passage_vectors.astype(np.float32)), corpus, "cpu")
    scorer = BiEncoderScorer("dense", index, query_vectors, "key")
    asked, groups = np.array([8, 0, 3, 3, 1]), generator.integers(0, len(corpus), (5, 4))
    expected = np.array([[query_vectors[q] @ passage_vectors[p] for p in row] for q, row in zip(asked, groups, strict=True)])
    np.testing.assert_allclose(scorer.score(asked, groups), expected, rtol=1e-4, atol=1e-5)
    [hits] = scorer.rank(asked, 4)
    best = np.argsort(-(query_vectors[asked] @ passage_vectors.T), axis=1)[:, :4]
    assert (hits.passages == best).all()
    np.testing.assert_allclose(scorer.score(asked, hits.passages), hits.scores, rtol=1e-5, atol=1e-5)
