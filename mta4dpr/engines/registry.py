"""The engines by name. Adding one is a file in this folder and an entry here."""

from __future__ import annotations

from mta4dpr.engines.bm25 import Bm25
from mta4dpr.engines.cross_encoder import CrossEncoder
from mta4dpr.engines.dense import Dense
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.table import ScoreTable

ENGINES: dict[str, type[Engine]] = {"bm25": Bm25, "bi-encoder": Dense, "cross-encoder": CrossEncoder, "scores": ScoreTable}


def engine_named(name: str) -> type[Engine]:
    """The engine's class."""
    return ENGINES[name]
