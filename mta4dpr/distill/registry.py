"""Strategies and criteria by name: ours, those of a Python file (PATH.py:NAME), those that installed packages offer; and their code.

A name of ours is one of STRATEGIES or CRITERIA. Code from outside is loaded when it is asked for, and never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mta4dpr.config import plugins
from mta4dpr.config.options import Distill
from mta4dpr.distill import distributions, losses, selection, step
from mta4dpr.distill.selection import CRITERIA, Criterion
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement, Strategy
from mta4dpr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def is_strategy(name: str) -> bool:
    """Whether that is the name of a strategy, ours or not. Nothing is loaded."""
    return name in STRATEGIES or plugins.is_outside(name, plugins.STRATEGIES)


def strategy_named(name: str) -> Strategy:
    """The strategy of that name. UserError when there is none, or its code cannot be loaded.

    One from outside gets the assistants' scores where the benchmark names assistants, unless it reads judgements alone.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    found = plugins.load(name, plugins.STRATEGIES, Strategy, "a mta4dpr.Strategy")
    plugins.check_call(found.loss, 1, (), f"{name}: a loss takes a step")
    if {Requirement.ASSISTANTS, Requirement.JUDGEMENTS_ALONE} & set(found.requires):
        return found
    return replace(found, requires={*found.requires, Requirement.OFFERED_ASSISTANTS})


def criterion_named(name: str) -> Criterion:
    """TASelect's criterion of that name. UserError when there is none, or its code cannot be loaded.

    One from outside may be a plain function of two log distributions that gives a distance for each query.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    found: Any = plugins.load(name, plugins.CRITERIA, _is_criterion, "a function or a mta4dpr.Criterion")
    criterion = found if isinstance(found, Criterion) else Criterion(found)
    unknown = set(criterion.options) - set(Distill.model_fields)
    if unknown:
        raise UserError(f"{name}: {min(unknown)!r} is no option of distillation; `mta4dpr-bench list options` has them all")
    if criterion.function is None:
        return criterion
    plugins.check_call(criterion.function, 2, criterion.options, f"{name}: a criterion takes two log distributions")
    return replace(criterion, function=partial(_checked_distance, criterion.function, name))


def _checked_distance(function: Callable[..., Tensor], name: str, teacher: Tensor, assistant: Tensor, **options: Any) -> Tensor:
    """What a criterion from outside gives. UserError when that is not a finite distance for each query, (queries,)."""
    found: Any = function(teacher, assistant, **options)
    shape = list(getattr(found, "shape", (type(found).__name__,)))
    if shape != [len(teacher)]:
        raise UserError(f"{name}: expected a distance for each query, {[len(teacher)]}; found {shape}")
    if not bool(found.isfinite().all()):
        raise UserError(f"{name}: expected finite distances, found some that are NaN or infinite")
    return found  # type: ignore[no-any-return]


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
