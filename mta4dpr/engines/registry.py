"""The engines by name. Adding one is a file in this folder and an entry here."""

from __future__ import annotations

from typing import Any

from mta4dpr.config import plugins
from mta4dpr.engines.bm25 import Bm25
from mta4dpr.engines.cross_encoder import CrossEncoder
from mta4dpr.engines.dense import Dense
from mta4dpr.engines.engine import Engine
from mta4dpr.engines.table import ScoreTable

ENGINES: dict[str, type[Engine]] = {"bm25": Bm25, "bi-encoder": Dense, "cross-encoder": CrossEncoder, "scores": ScoreTable}


def by_name() -> dict[str, type[Engine]]:
    """Our engines that are systems by their own name, without a model."""
    return {name: engine for name, engine in ENGINES.items() if not engine.needs_model}


def engine_named(name: str) -> type[Engine]:
    """The engine's class: ours, that of a Python file (PATH.py:NAME), or one that an installed package offers. UserError if none is."""
    return ENGINES[name] if name in ENGINES else plugins.load(name, plugins.ENGINES, _is_engine, "a subclass of mta4dpr.Engine")


def is_engine(reference: str) -> bool:
    """Whether what a reference names is an engine: code in a file is loaded to see it, that of a package is not."""
    if not plugins.is_reference(reference):
        return reference in plugins.offered(plugins.ENGINES)
    return _is_engine(plugins.load(reference, plugins.ENGINES, lambda _: True, "anything"))


def code_of(name: str) -> str:
    """A hash of the code of an engine from outside; '' for one of ours."""
    return plugins.hash_of_class(engine_named(name))


def _is_engine(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Engine)
