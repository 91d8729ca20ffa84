"""Leaks, D_eval and what is counted, over training sets small enough to count by eye."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.data.collection import QuerySet
from mta4dpr.data.corpus import Corpus
from mta4dpr.data.records import normalised
from mta4dpr.distill.queries import PassageLists, TrainingQueries, training_queries
from mta4dpr.errors import UserError


def split(corpus: Corpus, train: dict[str, str], evals: list[dict[str, str]] | None = None, **more: Any) -> TrainingQueries:
    """training_queries with one positive a query (p00), unless `qrels` says otherwise."""
    qrels = more.pop("qrels", {query_id: {"p00": 1} for query_id in train})
    settings = {"positive_rel": 1, "eval_fraction": 0.1, "eval_max": 1000, **more}
    eval_sets = [QuerySet(f"eval{n}", texts, {}) for n, texts in enumerate(evals or [])]
    return training_queries(QuerySet("t/train", train, qrels), eval_sets, corpus, **settings)


def test_a_query_of_an_eval_set_never_trains(corpus: Corpus) -> None:
    """The leak rule is by id and by normalised text, over every eval set; a number measured with a leak is worthless."""
    train = {"a": "what is x", "b": "What   IS\u3000Y", "c": "\uff37hy z", "d": "kept one", "e": "kept two", "f": "kept three"}
    found = split(corpus, train, [{"a": "another text"}, {"z1": "what is y", "z2": "why z"}])
    assert sorted(found.ids) == ["d", "e", "f"]
    assert any("3 dropped because they occur in an eval set" in line for line in found.counts)


def test_nothing_is_dropped_without_a_leak(corpus: Corpus) -> None:
    """The counter-example: near texts are not equal texts."""
    found = split(corpus, {"a": "what is x", "b": "what is y"}, [{"c": "what is"}, {"d": "what is x ?"}])
    assert sorted(found.ids) == ["a", "b"]
    assert any(": 0 dropped because" in line for line in found.counts)


def test_queries_without_a_positive_are_dropped_and_absent_passages_counted(corpus: Corpus) -> None:
    """positive_rel decides positives, relevance 1 decides what can never be a negative; absent passages make neither."""
    qrels = {"a": {"p00": 2, "p01": 1, "p02": 0}, "b": {"p03": 1}, "c": {"gone": 2}, "d": {"gone": 2, "p04": 3, "also-gone": 1}}
    found = split(corpus, {n: f"text {n}" for n in qrels}, qrels=qrels, positive_rel=2)
    of = {query_id: n for n, query_id in enumerate(found.ids)}
    assert sorted(of) == ["a", "d"]
    assert corpus.ids(found.positives[of["a"]]) == ["p00"]
    assert sorted(corpus.ids(found.relevant[of["a"]])) == ["p00", "p01"]
    assert corpus.ids(found.positives[of["d"]]) == ["p04"]
    assert any("2 because no positive (relevance >= 2)" in line for line in found.counts)
    assert any("3 judgements name passages that are not in the corpus" in line for line in found.counts)


def test_a_positive_is_always_among_the_relevant(corpus: Corpus) -> None:
    """With positive_rel 0 a passage of relevance 0 is a positive: it must not be drawn as a negative of the same query."""
    found = split(corpus, {"a": "x", "b": "y"}, qrels={"a": {"p00": 0, "p01": -1}, "b": {"p02": 1}}, positive_rel=0)
    for positives, relevant in zip(found.positives, found.relevant, strict=True):
        assert len(positives) == 1
        assert set(positives) <= set(relevant)


def test_held_out_queries_are_those_with_the_smallest_hashes(corpus: Corpus) -> None:
    """D_eval is min(10 %, eval_max) of the queries and a function of the texts alone: ids and order do not matter."""
    train = {f"q{n}": f"text number {n}" for n in range(50)}
    found = split(corpus, train)
    assert len(found.held_out) == 5
    assert found.train_size == 45
    held_out = {found.texts[n] for n in found.held_out}
    again = split(corpus, {f"other{n}": text for n, text in enumerate(reversed(train.values()))})
    assert {again.texts[n] for n in again.held_out} == held_out
    assert len(split(corpus, train, eval_max=3).held_out) == 3
    wider = split(corpus, train, eval_fraction=0.3)
    assert held_out < {wider.texts[n] for n in wider.held_out}


def test_the_numbers_are_train_first(corpus: Corpus) -> None:
    """Positions are query numbers everywhere else: D_train is 0..train_size, D_eval the rest, texts follow their ids."""
    train = {f"q{n}": f"text number {n}" for n in range(20)}
    found = split(corpus, train)
    assert found.train.tolist() + found.held_out.tolist() == list(range(20))
    assert all(train[query_id] == text for query_id, text in zip(found.ids, found.texts, strict=True))
    assert set(found.qrels_held_out(corpus)) == {found.ids[n] for n in found.held_out}
    assert all(judged == {"p00": 1} for judged in found.qrels_held_out(corpus).values())


@given(copies=st.lists(st.integers(1, 8), min_size=2, max_size=8), fraction=st.floats(0.05, 0.95))
def test_duplicates_of_a_text_are_on_one_side_and_neither_side_is_empty(corpus: Corpus, copies: list[int], fraction: float) -> None:
    """A duplicate of a D_eval query in D_train would be a leak; a text with many copies must not swallow D_train."""
    train = {f"q{text}-{n}": f"  Text {text} {' ' * n}" for text, times in enumerate(copies) for n in range(times)}
    found = split(corpus, train, eval_fraction=fraction)
    sides = [{normalised(found.texts[n]) for n in side} for side in (found.train, found.held_out)]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert len(found.ids) == sum(copies)


def test_fewer_than_two_texts_is_an_error_that_says_where_they_went(corpus: Corpus) -> None:
    """Two copies of one text cannot be split into D_train and D_eval."""
    with pytest.raises(UserError, match=r"2 training queries \(of 3; 1 also occur in an eval set"):
        split(corpus, {"a": "same", "b": "Same ", "c": "leak"}, [{"x": "leak"}])


def test_the_key_changes_with_what_rankings_depend_on(corpus: Corpus) -> None:
    """Kept rankings are looked up by this key: an equal key for other queries would give the wrong rankings."""
    train = {f"q{n}": f"text {n}" for n in range(10)}
    key = split(corpus, train).key
    assert key == split(corpus, dict(train)).key
    assert key != split(corpus, {**train, "q3": "text three"}).key
    assert key != split(corpus, train, eval_fraction=0.5).key
    assert key != split(corpus, {("r3" if q == "q3" else q): text for q, text in train.items()}).key


def test_hashes_depend_on_the_id_alone(queries: TrainingQueries) -> None:
    """Draws are keyed by these numbers, so they must not depend on position."""
    assert queries.hashes.dtype == np.uint64
    assert len(set(queries.hashes.tolist())) == len(queries.ids)
    turned = TrainingQueries(queries.ids[::-1], queries.texts[::-1], queries.positives, queries.relevant, 1, [])
    assert (turned.hashes[::-1] == queries.hashes).all()


@pytest.mark.parametrize(("namespace", "left"), [("", 17), ("another file", 19)])
def test_equal_ids_count_as_a_leak_within_one_collection_only(corpus: Corpus, namespace: str, left: int) -> None:
    """Every file of DPR numbers its questions from 0: question 3 to train on is not question 3 of the test."""
    ids = [str(n) for n in range(20)]
    train = QuerySet("t/train", {n: f"question {n}" for n in ids}, {n: {"p00": 1} for n in ids})
    test = QuerySet("t/test", {"3": "asked", "4": "told", "x": "Question  9"}, {}, namespace=namespace)
    assert len(training_queries(train, [test], corpus, positive_rel=1, eval_fraction=0.1, eval_max=5).ids) == left


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), min_size=1, max_size=6), st.data())
def test_passage_lists_are_the_lists(lists: list[list[int]], data: st.DataObject) -> None:
    """Queries in any order and more than once, empty lists, and -1, which is no passage."""
    packed = PassageLists.of([np.array(one, np.int32) for one in lists])
    assert [one.tolist() for one in packed] == lists
    queries = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)), np.int64)
    places, flat = packed.of_queries(queries)
    assert list(zip(places.tolist(), flat.tolist(), strict=True)) == [(i, p) for i, n in enumerate(queries.tolist()) for p in lists[n]]
    asked = np.random.default_rng(0).integers(-1, 12, (len(queries), 5))
    assert packed.contain(queries, asked).tolist() == [[p in lists[n] for p in row] for n, row in zip(queries, asked.tolist(), strict=True)]
