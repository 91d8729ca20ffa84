"""Strategies and criteria by name: ours, those of a Python file (PATH.py:NAME), those that installed packages offer; and their code.

A name of ours is one of STRATEGIES or CRITERIA. Code from outside is loaded when it is asked for, and never before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mta4dpr.config import plugins
from mta4dpr.distill import distributions, losses, selection, step
from mta4dpr.distill.selection import CRITERIA, Criterion
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement, Strategy


def is_strategy(name: str) -> bool:
    """Whether that is the name of a strategy, ours or not. Nothing is loaded."""
    return name in STRATEGIES or plugins.is_outside(name, plugins.STRATEGIES)


def strategy_named(name: str) -> Strategy:
    """The strategy of that name. UserError when there is none, or its code cannot be loaded.

    One from outside that says nothing of what it requires gets the assistants' scores where the benchmark names assistants.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    found = plugins.load(name, plugins.STRATEGIES, Strategy, "a mta4dpr.Strategy")
    return found if found.requires else replace(found, requires={Requirement.OFFERED_ASSISTANTS})


def criterion_named(name: str) -> Criterion:
    """TASelect's criterion of that name. UserError when there is none, or its code cannot be loaded.

    One from outside may be a plain function of two log distributions that gives a distance for each query.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    found: Any = plugins.load(name, plugins.CRITERIA, _is_criterion, "a function or a mta4dpr.Criterion")
    return found if isinstance(found, Criterion) else Criterion(found)


def _is_criterion(found: Any) -> bool:
    return isinstance(found, Criterion) or callable(found)


def takes(strategy: str, option: str) -> bool:
    """Whether a distill option that not every strategy takes means something to that one; what one from outside reads is not known."""
    return strategy not in STRATEGIES or option in STRATEGIES[strategy].options


def takers_of(option: str) -> list[str]:
    """Our strategies that take an option; none for one that every strategy takes."""
    return [name for name, strategy in STRATEGIES.items() if option in strategy.options]


def code_of(strategy: str, select: str) -> str:
    """A hash of the code that makes a student what it is: its strategy's, its criterion's, and the mathematics that both stand on."""
    things: list[Any] = [losses, distributions, selection, step, *sorted(one.name for one in strategy_named(strategy).requires)]
    things.append(STRATEGIES[strategy].loss if strategy in STRATEGIES else plugins.module_of(strategy, plugins.STRATEGIES))
    if select not in CRITERIA:
        things.append(plugins.module_of(select, plugins.CRITERIA))
    return plugins.hash_of_code(things)
