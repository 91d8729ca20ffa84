"""BM25 as an engine: what decides its hits, when its index is built, and its scores as a teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr.config.options import Bm25Settings
from mta4dpr.data.corpus import Corpus
from mta4dpr.engines import bm25
from mta4dpr.engines.bm25 import Bm25
from mta4dpr.engines.workplace import Workplace
from mta4dpr.errors import EnvironmentLack
from mta4dpr.machine.rates import FILE
from mta4dpr.retrieval.lucene import ABOUT

from ..distill.tiny_distill import ListSource


@pytest.fixture
def engine(corpus: Corpus, tmp_path: Path) -> Callable[..., Bm25]:
    """A new one over the same cache, which `again` makes again."""

    def make(again: str = "", **settings: Any) -> Bm25:
        place = Workplace(ListSource(list(corpus)), tmp_path, "cpu", again=again)  # type: ignore[arg-type]
        return Bm25("bm25", Bm25Settings(heap="256m", **settings), place)

    return make


def built(cache: Path) -> int:
    """When the index was finished."""
    (about,) = cache.glob(f"bm25/*/{ABOUT}")
    return about.stat().st_mtime_ns


def test_hits_are_decided_by_k1_b_and_the_index_alone(engine: Callable[..., Bm25]) -> None:
    """A larger heap finds the same passages."""
    usual = engine().identity
    assert Bm25("other label", Bm25Settings(heap="1g"), engine().place).identity == usual
    assert usual == ["bm25", 0.9, 0.4], "stages of before there was a choice of analyzers are done again otherwise"
    others = [engine(k1=1.2).identity, engine(b=0.75).identity, engine(index="prebuilt:x").identity, engine(language="de").identity]
    assert all(other != usual for other in others)


def test_an_index_is_built_when_it_is_first_searched_and_again_where_redo_asks(
    engine: Callable[..., Bm25], corpus: Corpus, tmp_path: Path
) -> None:
    """Opening twice builds once, also under --redo; the hits are the same."""
    first = engine()
    assert not (tmp_path / "bm25").exists()
    text = corpus.passage(3).text
    (before,) = first.search([text], 5)
    when = built(tmp_path)
    engine().open()
    engine("encode").open()
    assert built(tmp_path) == when
    again = engine("index")
    again.open()
    later = built(tmp_path)
    assert later != when
    again.close()
    (after,) = again.search([text], 5)
    assert built(tmp_path) == later
    assert (before.passages == after.passages).all()
    assert (before.scores == after.scores).all()


def test_what_building_took_is_noted_for_the_next_plan(
    engine: Callable[..., Bm25], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an index that was found in the cache nothing is: it would look as if building took no time."""
    monkeypatch.setattr("mta4dpr.machine.rates.SMALLEST", dict.fromkeys(("read", "index", "bm25"), 0))
    for again, lines in (("", 1), ("", 1), ("index", 2)):
        engine(again).open()
        assert (tmp_path / FILE).read_text().count('"work": "index"') == lines


def test_without_java_it_says_so_before_anything_starts(engine: Callable[..., Bm25], monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old() -> None:
        raise EnvironmentLack("Lucene needs Java 21")

    assert engine().lacks() == ""
    monkeypatch.setattr(bm25, "find_java", too_old)
    assert engine().lacks() == "Lucene needs Java 21"


@pytest.mark.parametrize(("heap", "expected"), [("512m", 512 * 2**20), ("2g", 2**31)])
def test_the_heap_is_memory_that_it_holds(engine: Callable[..., Bm25], heap: str, expected: float) -> None:
    """As long as the process lives, so a plan adds it to whatever else is searched."""
    assert Bm25("bm25", Bm25Settings(heap=heap), engine().place).held_memory == expected


def test_the_index_that_is_exported_is_lucenes_alone(engine: Callable[..., Bm25], tmp_path: Path) -> None:
    """Our note and Lucene's lock are of no use elsewhere."""
    opened = engine()
    opened.write_index(tmp_path / "index")
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert ABOUT not in names
    assert "write.lock" not in names
    assert any(name.startswith("segments_") for name in names)
    assert opened.bytes > 0


def test_as_a_teacher_it_gives_the_scores_of_its_search(engine: Callable[..., Bm25], corpus: Corpus) -> None:
    """A pair that shares no term is 0; query numbers are positions among the training queries."""
    texts = [corpus.passage(n).text for n in (3, 8)]
    scorer = engine().scorer(type("Queries", (), {"ids": ["a", "b"], "texts": texts})())
    (hits,) = scorer.rank(np.array([1, 0]), 4)
    assert hits.passages[0, 0] == 8
    found = hits.passages >= 0
    np.testing.assert_allclose(scorer.score(np.array([1, 0]), np.maximum(hits.passages, 0))[found], hits.scores[found], rtol=1e-6)
    (scores,) = scorer.score(np.array([0]), np.arange(len(corpus))[None])
    strangers = [not set(texts[0].split()) & set(passage.text.split()) for passage in corpus]
    assert (scores[strangers] == 0).all()
    assert 0 < sum(strangers) < (scores > 0).sum() + sum(strangers)


def test_the_key_of_its_scores_is_that_of_settings_and_corpus(engine: Callable[..., Bm25]) -> None:
    """Mined lists are found by it."""
    queries = type("Queries", (), {"ids": ["a"], "texts": ["bat"]})()
    assert engine().scorer(queries).key == engine().scorer(queries).key != engine(k1=1.2).scorer(queries).key


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ["tokenizer", "stemmer", "stopwords"]),
        ({"stemmer": "none", "stopwords": False}, ["tokenizer"]),
        ({"language": "de"}, ["analyzer"]),
        ({"analyzer": "whitespace"}, ["tokenizer"]),
    ],
)
def test_the_metadata_says_what_makes_terms_of_texts(given: dict[str, Any], said: list[str]) -> None:
    """A run file of another analyzer that named Porter's stemmer would be taken for one of Anserini's usual ones."""
    manifest = {"settings": {"bm25": Bm25Settings(**given).model_dump(), "depth": 10}}
    found = Bm25.metadata("bm25", manifest)["indexing"]
    assert [name for name, value in found.items() if value] == said
    assert ("Porter" in str(found)) == (not given)
