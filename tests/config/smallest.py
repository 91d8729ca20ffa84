"""The smallest benchmark, with changes, and what is told of its mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from mta4dpr.config.benchmark import parse_benchmark
from mta4dpr.errors import UserError


def document(**over: Any) -> dict[str, Any]:
    found = {
        "name": "mini",
        "title": "Mini",
        "corpus": "beir/nfcorpus",
        "eval_sets": [{"id": "beir/nfcorpus/test", "measures": ["nDCG@10", "R@100"]}],
        "systems": ["bm25"],
    }
    return {**found, **over}


def mistakes(**over: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse_benchmark(document(**over), "mini.yaml")
    return str(caught.value)
