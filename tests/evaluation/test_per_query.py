"""The values of each query as files: exact, and named when they are no such table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mta4dpr.errors import UserError
from mta4dpr.evaluation.per_query import read_per_query, write_per_query


def test_values_come_back_to_the_last_bit(tmp_path: Path) -> None:
    """Tests are made from these files again: a rounded value could move a p-value over the level."""
    values = {"RR@10": np.array([1 / 3, 0.1 + 0.2, 0.0]), "AP(rel=2)@1000": np.array([1e-300, 1.0, np.nextafter(0.5, 1)])}
    ids = ["q,1", 'q"2', "日本"]
    path = tmp_path / "per_query" / "beir-nfcorpus-test" / "kd.csv"
    write_per_query(path, ids, values)
    found_ids, found = read_per_query(path)
    assert found_ids == ids
    assert list(found) == list(values)
    assert all((found[measure] == column).all() for measure, column in values.items())


def test_a_set_without_queries_keeps_its_measures(tmp_path: Path) -> None:
    write_per_query(tmp_path / "kd.csv", [], {"RR@10": np.empty(0)})
    ids, found = read_per_query(tmp_path / "kd.csv")
    assert ids == []
    assert found["RR@10"].shape == (0,)


def test_a_file_that_is_no_table_of_values_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kd.csv"
    head = "query_id,RR@10\n"
    broken = [
        "",
        "\n",
        head + "q1,zero\n",
        head + "q1,nan\n",
        head + "q1\n",
        head + "q1,1\nq1,0\n",
        "query_id,RR@10,RR@10\nq1,1,0\n",
        "query_id\n\n",
    ]
    broken += [head + "q1," + "9" * 200_000 + "\n", head + "q1,\ud8001\n"]
    for text in broken:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(UserError, match=r"kd\.csv"):
            read_per_query(path)
