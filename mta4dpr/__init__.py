"""mta4dpr: a benchmark suite for distilling small dense retrievers, integrated with Pyserini.

`mta4dpr.run`, `train`, `evaluate`, `compare`, `search` and `open` do what the commands do (see commands/api.py); `Strategy`, `Criterion`,
`Engine` and `losses` are what an idea of one's own is made of (see docs/your-own.md). Each is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mta4dpr.commands.api import Results, compare, evaluate, open, run, search, train
    from mta4dpr.distill import distributions, losses
    from mta4dpr.distill.selection import Criterion
    from mta4dpr.distill.step import Step
    from mta4dpr.distill.strategy import Requirement, Strategy
    from mta4dpr.engines.engine import Engine
    from mta4dpr.errors import EnvironmentLack, UserError

__version__ = "0.1.0"

_PLACES = {
    **dict.fromkeys(("Results", "compare", "evaluate", "open", "run", "search", "train"), "mta4dpr.commands.api"),
    **dict.fromkeys(("Requirement", "Strategy"), "mta4dpr.distill.strategy"),
    **dict.fromkeys(("EnvironmentLack", "UserError"), "mta4dpr.errors"),
    "Criterion": "mta4dpr.distill.selection",
    "Engine": "mta4dpr.engines.engine",
    "Step": "mta4dpr.distill.step",
    "losses": "mta4dpr.distill",
    "distributions": "mta4dpr.distill",
}
__all__ = [
    "Criterion",
    "Engine",
    "EnvironmentLack",
    "Requirement",
    "Results",
    "Step",
    "Strategy",
    "UserError",
    "compare",
    "distributions",
    "evaluate",
    "losses",
    "open",
    "run",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = importlib.import_module(_PLACES[name])
    return importlib.import_module(f"{place.__name__}.{name}") if name in ("losses", "distributions") else getattr(place, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
