"""What dense retrieval takes, by hand: bytes of vectors and indexes follow from counts, before anything is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mta4dpr.config.benchmark import Benchmark, ModelSpec
from mta4dpr.config.options import DenseSettings
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.sizes import CorpusSize
from mta4dpr.engines.dense import Dense
from mta4dpr.engines.dense_cost import DenseOptions, kept_in
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import UserError
from mta4dpr.machine.files import write_json
from mta4dpr.machine.places import CACHE, OUTPUT
from mta4dpr.machine.work import Piece

from ..distill.tiny_distill import ListSource

TEXTS = CorpusSize(1000, 450_000)  # 100 tokens a passage
SMALL = ModelSpec(untrained={"layers": 2, "hidden": 64, "vocabulary": 100}, passage_length=32)
UNKNOWN = ModelSpec(model="some/model")


@pytest.fixture
def engine(corpus: Corpus, tmp_path: Path) -> Callable[..., Dense]:
    def make(model: ModelSpec = SMALL, *, label: str = "dense", root: Path | None = None, **settings: Any) -> Dense:
        place = Workplace(ListSource(list(corpus)), tmp_path, "cpu")  # type: ignore[arg-type]
        return Dense(label, DenseOptions(model, DenseSettings(**settings)), place, root=root)

    return make


def named(pieces: Any) -> dict[str, Piece]:
    return {piece.name: piece for piece in pieces}


@pytest.mark.parametrize(("dtype", "item"), [("float32", 4), ("float16", 2)])
def test_vectors_are_passages_times_dimensions(engine: Callable[..., Dense], dtype: str, item: int) -> None:
    found = named(engine(dtype=dtype).pieces(TEXTS))
    assert found["encode with dense"].disk == {CACHE: 1000 * 64 * item}
    (work,) = found["encode with dense"].work
    assert work.amount == pytest.approx(2 * 12 * 64**2 * 2 * 1000 * 32, rel=0.3), "passages are cut to 32 tokens"


def test_a_students_vectors_are_counted_where_it_is_trained(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """Each round makes some; here they would be counted once more."""
    assert list(engine(root=tmp_path / "training").pieces(TEXTS)) == []


def test_what_is_built_over_a_students_vectors_lies_in_the_output(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """The cache may be on another disk, which is not asked for it."""
    for root, place in ((None, CACHE), (tmp_path / "training", OUTPUT)):
        built = named(engine(root=root, index="hnsw").search_pieces(TEXTS))["build hnsw for dense"]
        assert list(built.disk) == [place]
        assert 1000 * (4 * 64 + 8 * 32) < built.disk[place] < 1000 * (4 * 64 + 10 * 32)


def test_the_index_beside_the_run_is_linked_to_where_that_is_possible(engine: Callable[..., Dense], tmp_path: Path) -> None:
    """A hard link costs nothing, and there is none between two disks; a flat one is always written."""
    training = tmp_path / "training"
    for settings, root, one_disk, index in (
        ({}, None, True, 4 * 64),
        ({"dtype": "float16"}, None, True, 4 * 64),  # FAISS's flat index holds 4 bytes
        ({"index": "hnsw"}, None, True, 0),
        ({"index": "hnsw"}, training, False, 0),  # beside it, whatever disk that is
    ):
        (piece,) = engine(root=root, **settings).index_pieces(TEXTS, one_disk=one_disk)
        assert piece.disk == {OUTPUT: 1000 * (8 + index)}, settings
    (copied,) = engine(index="hnsw").index_pieces(TEXTS, one_disk=False)
    assert copied.disk[OUTPUT] > 1000 * (8 + 4 * 64)


def test_exact_search_takes_time_and_an_approximate_one_takes_memory(engine: Callable[..., Dense]) -> None:
    """Mining is exact in either case."""
    exact, graph = engine(), engine(index="hnsw")
    assert [work.amount for work in exact.search_work(10, TEXTS)] == [2.0 * 10 * 1000 * 64]
    assert graph.search_work(10, TEXTS) == ()
    assert graph.mining_work(10, TEXTS) == exact.mining_work(10, TEXTS) == exact.search_work(10, TEXTS)
    assert graph.index_memory(graph.model_size, TEXTS) > 1000 * 4 * 64
    assert exact.index_memory(exact.model_size, TEXTS) == 0.0
    larger = engine(search_memory="9g").search_memory(100_000, 1000, TEXTS) - engine(search_memory="460m").search_memory(
        100_000, 1000, TEXTS
    )
    assert larger > 1e9, "the memory that a search may take is an option"


def test_a_model_that_nobody_knows_counts_nothing_and_stops_nothing(engine: Callable[..., Dense]) -> None:
    """Its name on the hub may be right; the plan says that it is left out."""
    unknown = engine(UNKNOWN)
    assert not unknown.is_known
    for _ in range(2):
        with pytest.raises(UserError, match="some/model"):
            _ = unknown.model_size
    (piece,) = unknown.pieces(TEXTS)
    assert "not counted" in piece.note
    assert (list(unknown.search_pieces(TEXTS)), unknown.search_work(5, TEXTS)) == ([], ())
    (built,) = engine(UNKNOWN, index="hnsw").search_pieces(TEXTS)
    assert (built.name, built.disk) == ("build hnsw for dense", {})
    assert unknown.search_memory(5, 10, TEXTS) < engine().search_memory(5, 10, TEXTS)


def test_models_with_one_tokenizer_and_prefix_share_the_tokens(engine: Callable[..., Dense]) -> None:
    """One thing, so one cost; another prefix is other texts."""

    def thing(label: str, **changed: Any) -> tuple[object, ...]:
        (piece,) = engine(SMALL.model_copy(update=changed), label=label).token_pieces(TEXTS)
        assert piece.subject == label
        return piece.thing

    assert thing("a") == thing("b")
    assert thing("c", passage_prefix="passage: ") != thing("a")


def test_a_prebuilt_index_is_copied_and_says_what_it_spares(engine: Callable[..., Dense]) -> None:
    model = ModelSpec(model="simlm", index="prebuilt:msmarco.simlm")
    piece = named(engine(model).pieces(TEXTS))["encode with dense"]
    assert [work.kind for work in piece.work] == ["write"]
    assert piece.note == "copied from msmarco.simlm"
    assert piece.instead_of is not None
    assert [work.kind for work in piece.instead_of.work] == ["encode"]


def test_a_dense_engine_needs_a_model() -> None:
    bench = Benchmark.model_validate(
        {"name": "x", "title": "x", "corpus": "x", "systems": ["bm25"], "eval_sets": [{"id": "x", "measures": ["RR@10"]}]}
    )
    with pytest.raises(UserError, match="name one under models"):
        Dense.options_of(bench, None, {})
    assert Dense.options_of(bench, SMALL, {}) == DenseOptions(SMALL, bench.dense, bench.bm25.heap)


def test_what_cannot_be_read_in_the_cache_is_passed_over(tmp_path: Path) -> None:
    """A note that a kill has cut off must not stop a plan."""
    write_json(tmp_path / "whole" / "about.json", {"texts": 3})
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "about.json").write_text('{"texts": ')
    assert list(kept_in(tmp_path, "*/about.json")) == [(tmp_path / "whole", {"texts": 3})]
