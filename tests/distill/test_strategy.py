"""What a strategy says of itself: requirements however they are given, and the needs that `list strategies` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mta4dpr.distill.losses import kl_loss
from mta4dpr.distill.step import Step
from mta4dpr.distill.strategies import STRATEGIES
from mta4dpr.distill.strategy import Requirement, Strategy, Terms
from mta4dpr.errors import UserError

from .slow_reference import hand_made, step_of

ALL = frozenset(Requirement)


def loss(step: Step) -> Terms:
    """kd as a researcher would write it."""
    return {"ce": (0.2, step.cross_entropy()), "kl_teacher": (1.0, kl_loss(step.teacher, step.student))}


def made(**more: Any) -> Strategy:
    return Strategy(source="ours", about="a test", loss=loss, **more)


def test_three_words_make_a_strategy() -> None:
    """Source, what it is about, a loss: it needs a teacher and nothing else, and its loss runs on a step."""
    strategy = made()
    assert (strategy.requires, strategy.needs, strategy.cost) == (frozenset(), "a teacher", "as kd")
    step, _ = step_of(hand_made(0))
    assert set(strategy.loss(step)) == {"ce", "kl_teacher"}


@pytest.mark.parametrize("as_given", [list, tuple, set, frozenset, iter])
def test_requirements_may_be_any_iterable(as_given: Any) -> None:
    """Nobody should have to write frozenset; two ways of saying the same are equal."""
    given: Iterable[Requirement] = as_given([Requirement.ASSISTANTS, Requirement.STANDING])
    strategy = made(requires=given)
    assert strategy.requires == frozenset({Requirement.STANDING, Requirement.ASSISTANTS})
    assert strategy == made(requires=[Requirement.STANDING, Requirement.ASSISTANTS])


@pytest.mark.parametrize("given", [["assistants"], "ASSISTANTS", [Requirement.ASSISTANTS, True]])
def test_what_is_no_requirement_is_refused_with_those_that_are(given: Any) -> None:
    """A name instead of a member would otherwise never be in the set, and the strategy would silently lack what it needs."""
    with pytest.raises(UserError, match=r"found .*; it takes Requirement\.ASSISTANTS, .*Requirement\.JUDGEMENTS_ALONE"):
        made(requires=given)


@pytest.mark.parametrize(
    ("one", "other"), [(Requirement.CHAIN, Requirement.ASSISTANTS), (Requirement.LAYERS, Requirement.TEACHER_TRAINING)]
)
def test_a_requirement_that_rests_on_another_is_refused_without_it(one: Requirement, other: Requirement) -> None:
    """A chain is of assistants; layers are made where the teacher runs in training."""
    with pytest.raises(UserError, match=f"{one.name} requires {other.name} too"):
        made(requires=[one])
    assert made(requires=[one, other]).requires == {one, other}


def test_every_requirement_says_what_it_is_in_a_sentence() -> None:
    """A reader of the enum, or of an error, has nothing else."""
    assert all(one.value[0].isupper() and one.value.endswith(".") for one in Requirement)
    assert len({one.value for one in Requirement}) == len(Requirement)


@pytest.mark.parametrize(
    ("requires", "needs"),
    [
        ({Requirement.JUDGEMENTS_ALONE}, "judgements alone"),
        ({Requirement.ASSISTANTS, Requirement.STANDING, Requirement.POLICY, Requirement.REPLACEMENT}, "a teacher, assistants"),
        ({Requirement.ASSISTANTS, Requirement.CHAIN}, "a teacher, bi-encoder assistants that can be trained"),
        ({Requirement.TEACHER_TRAINING}, "a teacher, weights of the teacher"),
        ({Requirement.TEACHER_TRAINING, Requirement.LAYERS}, "a teacher, weights of the teacher, a bi-encoder teacher's layers"),
        ({Requirement.ASSISTANTS, Requirement.PREVIOUS_STUDENT, Requirement.STAGES}, "a teacher, assistants, regime rounds"),
    ],
)
def test_needs_are_what_a_user_has_to_provide(requires: Iterable[Requirement], needs: str) -> None:
    """What `list strategies` shows; what the trainer makes itself is not among them."""
    assert made(requires=requires).needs == needs


def test_every_requirement_is_that_of_some_strategy() -> None:
    """One that nobody has would be untested. Offered assistants are for strategies from outside, which say nothing (test_registry.py)."""
    found = frozenset().union(*(strategy.requires for strategy in STRATEGIES.values()))
    assert found == ALL - {Requirement.OFFERED_ASSISTANTS}
