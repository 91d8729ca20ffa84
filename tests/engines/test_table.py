"""Stored scores as a teacher or an assistant: what is looked up, what is missing, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mta4dpr.data.corpus import Corpus
from mta4dpr.engines.table import TableScorer
from mta4dpr.errors import UserError


@pytest.fixture
def table(tmp_path: Path, corpus: Corpus) -> Callable[..., TableScorer]:
    def make(
        rows: list[tuple[Any, Any, Any]], ids: list[str] | None = None, names: tuple[str, ...] = ("query", "passage", "score")
    ) -> TableScorer:
        columns = list(zip(*rows, strict=True)) if rows else [[], [], []]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), tmp_path / "scores.parquet")
        return TableScorer("stored", tmp_path / "scores.parquet", ids or ["q1", "q2"], corpus, "key")

    return make


ROWS = [("q2", "p03", 0.5), ("q1", "p00", 3.0), ("q1", "p02", 1.0), ("q1", "p01", 2.0), ("elsewhere", "p00", 9.0), ("q1", "unknown", 9.0)]


def test_table_scores_are_found_and_missing_pairs_get_the_querys_lowest(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A table holds the candidates of some retriever, groups hold others too; those count as bad, and are counted."""
    scorer = table(ROWS)
    p = corpus.numbers(["p00", "p01", "p02", "p03"])
    found = scorer.score(np.array([1, 0]), np.array([[p[3], p[0], p[1]], [p[0], p[2], p[3]]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[0.5, 0.5, 0.5], [3.0, 1.0, 1.0]]
    assert scorer.note().startswith("3 of 6 pairs are not in its table")
    scorer.score(np.array([0]), p[None, :2])
    assert scorer.note() == ""  # of the last call alone


def test_table_ranks_its_own_passages(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A short list ends with -1; queries come in the order asked."""
    [hits] = table(ROWS).rank(np.array([1, 0]), 2)
    assert [corpus.ids(row[row >= 0]) for row in hits.passages] == [["p03"], ["p00", "p01"]]
    assert hits.passages[0, 1] == -1
    assert hits.scores[1].tolist() == [3.0, 2.0]


def test_table_with_numbers_as_ids_and_whole_scores(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """MS MARCO's ids are written as integers by many tools; they are text here."""
    scorer = table([(1, "p00", 3), (2, "p01", 4)], ids=["1", "2"])
    assert scorer.score(np.array([0, 1]), corpus.numbers(["p00", "p01"])[:, None]).tolist() == [[3.0], [4.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_table_refuses_scores_that_are_no_numbers(table: Callable[..., TableScorer], bad: float | None) -> None:
    """One NaN would make the loss NaN hours later."""
    with pytest.raises(UserError, match="NaN or infinite"):
        table([*ROWS, ("q2", "p05", bad)])


def test_table_refuses_a_pair_twice(table: Callable[..., TableScorer]) -> None:
    """Which of the two counts would be a matter of file order."""
    with pytest.raises(UserError, match="twice"):
        table([*ROWS, ("q1", "p00", 3.0)])


def test_table_refuses_other_columns(table: Callable[..., TableScorer]) -> None:
    """The message names the columns that are expected."""
    with pytest.raises(UserError, match="columns query, passage, score"):
        table(ROWS, names=("qid", "passage", "score"))


def test_table_refuses_scores_that_are_text(table: Callable[..., TableScorer]) -> None:
    """A column of another type is the user's mistake, not a traceback."""
    with pytest.raises(UserError, match="columns query, passage, score"):
        table([("q1", "p00", "high"), ("q2", "p00", "low")])


def test_table_refuses_a_query_without_scores(table: Callable[..., TableScorer]) -> None:
    """There would be no lowest score to fall back on; the message names a query."""
    with pytest.raises(UserError, match=r"1 of 3 training queries, such as 'q3'"):
        table(ROWS, ids=["q1", "q2", "q3"])
    with pytest.raises(UserError, match=r"2 of 2 training queries"):
        table([("elsewhere", "p00", 1.0)])


def test_table_counts_what_is_not_used(table: Callable[..., TableScorer], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is dropped silently: a table of other queries, or of another version of the corpus, is seen in one line."""
    with caplog.at_level("INFO"):
        table([*ROWS, ("elsewhere", "p00", 1.0), ("elsewhere", "p01", 1.0), ("q1", "nowhere", 1.0)])
    [line] = caplog.messages
    told = "3 of queries that are not trained on, 2 of passages not in the corpus"
    assert line == f"stored: 5 of its table's {len(ROWS) + 3} scores are not used: {told}"


def test_table_with_an_empty_id_skips_the_row(table: Callable[..., TableScorer], corpus: Corpus) -> None:
    """A null id names no query or passage: like an unknown one, it is no pair of ours."""
    scorer = table([*ROWS, ("q1", None, 5.0), (None, "p00", 5.0)])
    assert scorer.score(np.array([0]), corpus.numbers(["p00"])[None]).tolist() == [[3.0]]


def test_table_that_is_no_parquet_file(tmp_path: Path, corpus: Corpus) -> None:
    """A CSV and a missing file are told apart from a bug of ours."""
    (tmp_path / "scores.csv").write_text("query,passage,score\nq1,p00,1\n")
    for name in ("scores.csv", "nowhere.parquet"):
        with pytest.raises(UserError, match="is not a Parquet file"):
            TableScorer("stored", tmp_path / name, ["q1"], corpus, "key")
