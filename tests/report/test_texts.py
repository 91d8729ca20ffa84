"""texts.json: which texts a run keeps for the page, and how much of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mta4dpr.data.collection import QuerySet
from mta4dpr.data.records import Passage
from mta4dpr.report import texts

from .sample import write_values


class Shelf(NamedTuple):
    """As much of a corpus as `write_texts` asks for."""

    passages: list[Passage]

    def numbers(self, ids: Sequence[str]) -> np.ndarray:
        known = [passage.id for passage in self.passages]
        return np.array([known.index(passage_id) if passage_id in known else -1 for passage_id in ids], np.int32)

    def passage(self, number: int) -> Passage:
        return self.passages[number]


def test_texts_are_kept_for_the_queries_that_differ_most(run: Path) -> None:
    """kd and mta4dpr differ on q1 only; the judged passage says so, one that the corpus lacks has no text, long ones are cut."""
    write_values(run, np.array([[0.0, 0.0]] * 4 + [[0.0, 1.0]]), ["q0", "q1"])
    path = run / "runs" / "mta4dpr.trec"
    path.parent.mkdir()
    path.write_text("".join(f"q{q} Q0 d{n} {n} {9 - n} x\n" for q in (0, 1) for n in range(5)))
    corpus = Shelf([Passage("d0", "Title", "word " * 100), Passage("d1", "", "lone \ud800 half")])
    query_set = QuerySet("mini/test", {"q0": "first", "q1": "second\n line"}, {"q0": {"d9": 1}, "q1": {"d0": 2, "d1": 0}})
    written = texts.write_texts(run, corpus, {"mini/test": query_set}, {("mta4dpr", "mini/test"): path})  # type: ignore[arg-type]
    found = json.loads(written.read_text(encoding="utf-8"))
    assert found["queries"] == {"mini/test": {"q0": "first", "q1": "second line"}}
    assert found["hits"] == {"mini/test": {"mta4dpr": {"q1": [["d0", 2], ["d1", 0], ["d2", None]]}}}
    assert found["passages"]["d1"] == ["", "lone ? half"]
    assert len(found["passages"]["d0"][1]) <= texts.LETTERS
    assert "d2" not in found["passages"]


def test_texts_are_bounded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((5, 50))
    values[4] = 1
    write_values(run, values, [f"q{n}" for n in range(50)])
    path = run / "kd.trec"
    path.write_text("".join(f"q{q} Q0 d{q}-{n} {n} {9 - n} x\n" for q in range(50) for n in range(5)))
    corpus = Shelf([Passage(f"d{q}-{n}", "", "x" * 100) for q in range(50) for n in range(5)])
    query_set = QuerySet("mini/test", {f"q{n}": "y" * 10 for n in range(50)}, {f"q{n}": {"d": 1} for n in range(50)})
    monkeypatch.setattr(texts, "QUERY_LETTERS", 105)
    monkeypatch.setattr(texts, "PASSAGE_LETTERS", 350)
    runs = {("mta4dpr", "mini/test"): path}
    found = json.loads(texts.write_texts(run, corpus, {"mini/test": query_set}, runs).read_text())  # type: ignore[arg-type]
    assert len(found["queries"]["mini/test"]) == 10
    assert len(found["passages"]) == 4
    assert list(found["hits"]["mini/test"]["mta4dpr"]) == [f"q{n}" for n in range(texts.DIFFER)]


def test_queries_worth_keeping_by_hand() -> None:
    """The largest differences first, either way; those of equal size in their order; none that are equal."""
    a, b = np.array([0.0, 0.5, 1.0, 0.2, 0.0]), np.array([0.0, 0.0, 0.0, 0.3, 1.0])
    assert texts.worth_keeping(a, b) == [2, 4, 1, 3]
