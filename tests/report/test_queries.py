"""Values of every query on the page: exact, packed, bounded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mta4dpr import report
from mta4dpr.evaluation.per_query import write_per_query
from mta4dpr.experiment.folder import Folder
from mta4dpr.report import queries
from mta4dpr.report.queries import by_query, pack

from .sample import SYSTEMS, write_values


def unpacked(document: dict[str, Any], row: int) -> list[float]:
    codes = np.frombuffer(base64.b64decode(document["codes"][row]), "u1" if document["bytes"] == 1 else "<u2")
    return [document["levels"][code] for code in codes]


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
    write_per_query(Folder(run).per_query("kd", "mini/test"), ["x"], {"RR@10": np.zeros(1)})
    found = by_query(board, run)
    assert found is not None
    assert found["evalSets"][0]["systems"] == SYSTEMS[:3]
    assert found["evalSets"][0]["texts"] is None
    assert not found["hasTexts"]
