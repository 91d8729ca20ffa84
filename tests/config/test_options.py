"""The options of the method, of BM25 and of dense retrieval: each is explained, and none is without effect."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from mta4dpr.config.benchmark import options, settings
from mta4dpr.config.options import Bm25Settings, DenseSettings, Distill

from .smallest import mistakes


def test_every_option_of_the_method_has_a_mark_and_a_help_text() -> None:
    """docs/method.md and `list options` promise where each choice comes from."""
    listed = {name: (mark, text) for name, _, mark, text in options()}
    assert set(listed) == {f"distill.{name}" for name in Distill.model_fields}
    assert {name: found for name, found in listed.items() if found[0] not in set("ABCD") or len(found[1]) < 10} == {}
    assert all(text for *_, text in settings())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"steps": 2, "rounds": 3}, "steps (2) are fewer than rounds (3)"),
        ({"tau_teacher": 0}, "tau_teacher is a positive number"),
        ({"tau_teacher": "entropy:1.5"}, "entropy:X with 0 < X < 1"),
        ({"tau_teacher": "entropy:0.0"}, "entropy:X with 0 < X < 1"),
        ({"regime": "static", "harder": True}, "harder has no effect"),
        ({"group": 8, "scored": 6}, "scored (6) is less than the 7 negatives of a group"),
        ({"scored": 20}, "distill.scored has no effect unless the teacher or an assistant is a cross-encoder"),
        ({"lr": 0}, "distill.lr"),
        ({"group": 1}, "distill.group"),
    ],
)
def test_choices_that_contradict_each_other(settings: dict[str, Any], told: str) -> None:
    """Nothing is ignored in silence: an option without effect is an error."""
    assert told in mistakes(distill=settings)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"hnsw_m": 8}, "hnsw_m has no effect with index flat"),
        ({"index": "hnsw", "ivf_probes": 8, "pq_bytes": 8}, "ivf_probes, pq_bytes has no effect with index hnsw"),
        ({"deterministic": True}, "deterministic has no effect with index flat"),
        ({"search_memory": "lots"}, "search_memory"),
        ({"hnsw": 1}, "hnsw"),
    ],
)
def test_an_option_of_an_index_that_is_not_asked_for_is_refused(given: dict[str, Any], told: str) -> None:
    """Whoever sets it believes that it changes the hits."""
    with pytest.raises(ValidationError, match=told):
        DenseSettings(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"language": "deu"}, "bm25.language: expected one of en, ar, .*, zh .did you mean 'de'?"),
        ({"language": "German"}, "did you mean 'de'?"),
        ({"language": "DE"}, "did you mean 'de'?"),
        ({"language": ["de"]}, "bm25.language: expected one of"),
        ({"language": False}, "bm25.language: YAML reads a bare no as false; for Norwegian write it in quotes"),
        ({"analyzer": "white_space"}, "bm25.analyzer: expected one of language, whitespace .did you mean 'whitespace'?"),
        ({"stemmer": "poter"}, "did you mean 'porter'?"),
        ({"analyser": "whitespace"}, "unknown key bm25.analyser .did you mean 'analyzer'?"),
        ({"language": "de", "stemmer": "none"}, "stemmer has no effect with language de"),
        ({"analyzer": "whitespace", "language": "fr", "stopwords": False}, "language, stopwords has no effect with analyzer whitespace"),
    ],
)
def test_a_wrong_analyzer_is_told_with_the_nearest_name(given: dict[str, Any], told: str) -> None:
    assert re.search(told.replace("?", r"\?"), mistakes(bm25=given))


def test_the_usual_analyzer_changes_no_stage() -> None:
    """What earlier versions kept was made with it: its parts join a key only where they differ."""
    assert Bm25Settings().of_hits() == {"k1": 0.9, "b": 0.4, "index": ""}
    assert Bm25Settings(language="no").of_hits() == {"k1": 0.9, "b": 0.4, "index": "", "language": "no"}


def test_what_decides_hits_is_told_from_what_does_not() -> None:
    """Stages are done again by it: an option that is missing would leave stale rows, one too many hours of needless work."""
    assert DenseSettings(search_memory="9g", pyserini_index=False).of_search() == DenseSettings().of_search() == {}
    hnsw = DenseSettings(index="hnsw", hnsw_m=8).of_search()
    assert set(hnsw) == {"index", "hnsw_m", "hnsw_ef_construction", "hnsw_ef_search", "deterministic"}
    assert DenseSettings(engine="pyserini").of_search() == {"engine": "pyserini"}
    assert set(DenseSettings().of_vectors()) == {"dtype", "token_budget"}, "as it was before there was a precision"
    assert DenseSettings(precision="float16").of_vectors()["precision"] == "float16"


@pytest.mark.parametrize(("text", "expected"), [("460m", 460_000_000), ("9g", 9_000_000_000)])
def test_the_memory_of_a_search_as_a_number(text: str, expected: int) -> None:
    assert DenseSettings(search_memory=text).search_bytes == expected


def test_a_criterion_is_ours_or_a_reference() -> None:
    assert Distill(select="my.py:mine").select == "my.py:mine"
    with pytest.raises(ValidationError, match="did you mean 'footrule'"):
        Distill(select="footrull")
