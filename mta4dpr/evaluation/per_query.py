"""per_query/EVAL_SET/SYSTEM.csv: the unrounded value of each measure for each query. Reads and writes; computes nothing."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mta4dpr.errors import UserError
from mta4dpr.machine.files import written_aside


def write_per_query(path: Path, query_ids: Sequence[str], values: Mapping[str, np.ndarray]) -> None:
    """One line a query: its id and the value of each measure, `values` being {measure: (queries,)}."""
    with written_aside(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query_id", *values])
        for row, query_id in enumerate(query_ids):
            writer.writerow([query_id, *(repr(float(column[row])) for column in values.values())])


def read_per_query(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Query ids, and {measure: (queries,) float64}. UserError when the file is not what `write_per_query` writes."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        columns = np.array([row[1:] for row in rows], np.float64).reshape(len(rows), len(head) - 1)
        query_ids = [row[0] for row in rows]
        if len(set(query_ids)) < len(rows) or len(set(head)) < len(head):
            raise ValueError("a query or a measure twice")
    except (OSError, ValueError, IndexError, csv.Error) as error:  # IndexError: an empty line below a head of one column
        raise UserError(
            f"expected the values of each query in {path} (query_id, then a column a measure), found: {error}; "
            "run `mta4dpr-bench run BENCH --redo evaluate` to write it again"
        ) from error
    if not np.isfinite(columns).all():
        raise UserError(f"expected finite values in {path}, found NaN or infinity; run `mta4dpr-bench run BENCH --redo evaluate`")
    return query_ids, {measure: columns[:, n] for n, measure in enumerate(head[1:])}
