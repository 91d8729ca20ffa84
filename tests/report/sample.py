"""What tests of the report share: the names of the sample run's systems, its values of each query, cells of a Markdown table."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mta4dpr.evaluation.per_query import write_per_query
from mta4dpr.experiment.folder import Folder

ODD = "a&b_<c>%"
SYSTEMS = ["bm25", ODD, "init", "kd", "mta4dpr"]
Write = Callable[[dict[str, Any]], Path]


def cells(text: str, name: str) -> list[str]:
    """The cells of the first Markdown line that names `name`."""
    line = next(line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def write_values(folder: Path, values: np.ndarray, query_ids: Sequence[str]) -> None:
    """(systems, queries) of RR@10, with R@100 twice as large."""
    for system, row in zip(SYSTEMS, values, strict=False):
        write_per_query(Folder(folder).per_query(system, "mini/test"), query_ids, {"RR@10": row, "R@100": np.minimum(1, 2 * row)})
