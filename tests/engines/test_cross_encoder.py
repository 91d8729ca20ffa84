"""Cross-encoders as an engine: scores of pairs, and no ranking of a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mta4dpr.config.benchmark import ModelSpec
from mta4dpr.config.options import DenseSettings
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.distill.queries import TrainingQueries
from mta4dpr.engines.cross_encoder import CrossEncoder
from mta4dpr.engines.dense_cost import DenseOptions
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.machine.places import CACHE

from ..distill.tiny_distill import ListSource

SPEC = ModelSpec(
    kind="cross-encoder", untrained={"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300, "seed": 3}, query_length=12, pair_length=28
)
TEXTS = CorpusSize(1000, 450_000)  # 100 tokens a passage


@pytest.fixture
def engine(corpus: Corpus, tmp_path: Path) -> Callable[..., CrossEncoder]:
    def make(model: ModelSpec = SPEC) -> CrossEncoder:
        place = Workplace(ListSource(list(corpus)), tmp_path, "cpu")  # type: ignore[arg-type]
        return CrossEncoder("ce", DenseOptions(model, DenseSettings(token_budget=512)), place)

    return make


def test_it_scores_groups_and_ranks_nothing(engine: Callable[..., CrossEncoder], queries: TrainingQueries) -> None:
    """(queries,), (queries, group) -> (queries, group), as every scorer; a group's order does not show in its scores."""
    scorer = engine().scorer(queries)
    assert (scorer.label, scorer.kind, scorer.ranks) == ("ce", "cross-encoder", False)
    asked, groups = np.array([3, 1], np.int32), np.array([[4, 5, 6], [6, 5, 4]], np.int32)
    found = scorer.score(asked, groups)
    assert found.shape == (2, 3)
    assert (scorer.score(asked[1:], groups[:1])[0] == found[1, ::-1]).all()
    assert (scorer.score(asked[:1], groups[:1])[0] == found[0]).all()
    assert len(set(found.ravel().tolist())) == 6
    with pytest.raises(AssertionError, match="cannot rank the corpus"):
        scorer.rank(asked, 10)


def test_scores_are_kept_for_the_next_engine(
    engine: Callable[..., CrossEncoder], queries: TrainingQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run, or another student, finds them in the cache."""
    from mta4dpr.models.reranker import Reranker

    asked, groups = np.array([3, 1], np.int32), np.array([[4, 5, 6], [6, 5, 4]], np.int32)
    first = engine().scorer(queries)
    found = first.score(asked, groups)
    monkeypatch.setattr(Reranker, "score", lambda *_, **__: pytest.fail("a pair was scored twice"))
    again = engine().scorer(queries)
    assert again.key == first.key
    assert (again.score(asked, groups) == found).all()


def test_it_searches_no_corpus(engine: Callable[..., CrossEncoder]) -> None:
    with pytest.raises(UserError, match="ce is a cross-encoder, which cannot search a corpus"):
        engine().search(["fox"], 10)


def test_its_model_and_batches_decide_its_scores(engine: Callable[..., CrossEncoder]) -> None:
    assert engine().identity == engine().identity
    assert engine(SPEC.model_copy(update={"pair_length": 30})).identity != engine().identity


def test_what_scoring_takes_follows_from_pairs_and_their_length(engine: Callable[..., CrossEncoder]) -> None:
    """12 bytes a pair; a passage is read to the length of a pair, a short one to its own."""
    (piece,) = engine().scoring_pieces(5000, TEXTS, queries_memory=7.0)
    assert piece.disk == {CACHE: 12.0 * 5000}
    (long,) = engine(SPEC.model_copy(update={"pair_length": 56})).scoring_pieces(5000, TEXTS, queries_memory=7.0)
    assert long.work[0].amount == 2 * piece.work[0].amount
    (short,) = engine(SPEC.model_copy(update={"pair_length": 512})).scoring_pieces(5000, TEXTS, queries_memory=7.0)
    assert short.work[0].amount / piece.work[0].amount == pytest.approx((100 + 15) / 28)
    (unknown,) = engine(ModelSpec(kind="cross-encoder", model="some/model")).scoring_pieces(5000, TEXTS, queries_memory=7.0)
    assert (unknown.disk, "not counted" in unknown.note) == ({}, True)
