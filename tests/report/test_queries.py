"""Values of every query on the page: exact, packed, bounded; and texts.json, which `run` writes for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mta4dpr import report
from mta4dpr.data.collection import QuerySet
from mta4dpr.data.records import Passage
from mta4dpr.errors import UserError
from mta4dpr.evaluation.per_query import per_query_file, read_per_query, write_per_query
from mta4dpr.report import queries, texts
from mta4dpr.report.queries import by_query, pack

SYSTEMS = ["bm25", "a&b_<c>%", "init", "kd", "mta4dpr"]


def unpacked(document: dict[str, Any], row: int) -> list[float]:
    codes = np.frombuffer(base64.b64decode(document["codes"][row]), "u1" if document["bytes"] == 1 else "<u2")
    return [document["levels"][code] for code in codes]


def write_values(folder: Path, values: np.ndarray, query_ids: Sequence[str]) -> None:
    """(systems, queries) of RR@10, with R@100 twice as large."""
    for system, row in zip(SYSTEMS, values, strict=False):
        write_per_query(per_query_file(folder, "mini/test", system), query_ids, {"RR@10": row, "R@100": np.minimum(1, 2 * row)})


@pytest.mark.parametrize("distinct", [3, 257, 10_000])
def test_packed_values_are_exact(distinct: int) -> None:
    """One byte a value up to 256 distinct values, two beyond; the page must not show a digit that the file does not have."""
    levels = np.random.default_rng(0).random(distinct)
    values = np.stack([levels, levels[::-1]])
    document = json.loads(json.dumps(pack(values)))
    assert [unpacked(document, row) for row in range(2)] == values.tolist()
    assert (document["bytes"], document["rounded"]) == (1 if distinct < 257 else 2, None)


def test_too_many_distinct_values_are_rounded_and_it_is_said() -> None:
    values = np.random.default_rng(0).random((2, 6_000))
    document = pack(values)
    assert document["rounded"] == 4
    assert np.abs(np.array(unpacked(document, 0)) - values[0]).max() <= 0.000051


def test_a_page_has_room_for_so_many_values(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5 systems x 40 queries x 2 measures: first the other measures go, then queries on which systems differ least."""
    values = np.zeros((5, 40))
    values[3, 20:] = np.linspace(0.5, 1, 20)
    write_values(run, values, [f"q{n}" for n in range(40)])
    board = report.load(run)
    for room, measures, count in ((400, ["RR@10", "R@100"], 40), (399, ["RR@10"], 40), (100, ["RR@10"], 20)):
        monkeypatch.setattr(queries, "VALUES", room)
        found = by_query(board, run)
        assert found is not None
        [eval_set] = found["evalSets"]
        assert (list(eval_set["values"]), len(eval_set["queries"]), eval_set["total"]) == (measures, count, 40)
        assert eval_set["leftOut"] == ["R@100"][len(measures) - 1 :]
    assert eval_set["queries"] == [f"q{n}" for n in range(20, 40)]


def test_what_is_not_there_is_left_out(run: Path) -> None:
    """A folder of an older version has no per_query/; one system alone, or one with other queries, has nothing to be compared with."""
    board = report.load(run)
    assert by_query(board, run) is None
    write_values(run, np.zeros((1, 3)), ["x", "y", "z"])
    assert by_query(board, run) is None
    write_values(run, np.zeros((3, 3)), ["x", "y", "z"])
    write_per_query(per_query_file(run, "mini/test", "kd"), ["x"], {"RR@10": np.zeros(1)})
    found = by_query(board, run)
    assert found is not None
    assert found["evalSets"][0]["systems"] == SYSTEMS[:3]
    assert found["evalSets"][0]["texts"] is None
    assert not found["hasTexts"]


def test_a_file_that_is_no_table_of_values_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kd.csv"
    for broken in ("", "query_id,RR@10\nq1,zero\n", "query_id,RR@10\nq1,nan\n", "query_id,RR@10\nq1\n"):
        path.write_text(broken)
        with pytest.raises(UserError, match=r"kd\.csv"):
            read_per_query(path)


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
