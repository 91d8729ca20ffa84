"""What a strategy is: a function of one step, and what has to be there for it. Knows no strategy and no network.

A strategy of one's own is `Strategy(source="...", about="...", loss=loss)` with

    def loss(step: Step) -> Terms:
        return {"ce": (0.2, step.cross_entropy()), "kl_teacher": (1.0, kl_loss(step.teacher, step.student))}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from mta4dpr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from mta4dpr.distill.step import Step

Terms = dict[str, tuple[float, "Tensor"]]
"""The terms of a loss by name: (weight, value), the value a scalar. A term of weight 0 is left out."""


class Requirement(Enum):
    """What a strategy can require of a training beside the teacher's scores. The value is a sentence for readers."""

    ASSISTANTS = "The assistants score the groups too: `step.assistants`."
    OFFERED_ASSISTANTS = "The assistants score the groups too, where the benchmark names any: `step.assistants`."
    REPLACEMENT = "The worst assistant gives way to a copy of the student when Compare says so (Algorithm 1)."
    STANDING = "Teacher and assistants are measured on D_eval before training: `step.standing`."
    PREVIOUS_STUDENT = "The student as it was when the round began scores the groups too: `step.previous`."
    TEACHER_TRAINING = "The teacher is trained with the student: `step.teacher` has gradients."
    LAYERS = "Hidden layers of student and teacher give distributions too: `step.student_layers`, `step.teacher_layers`."
    POLICY = "A policy that chooses among teacher and assistants is learnt beside the student: `step.policy`."
    CHAIN = "The assistants are trained one after the other, each by the one before it; the last one teaches the student."
    STAGES = "There is a round for each teacher, from weak to strong; the last round is of confusing queries alone."
    JUDGEMENTS_ALONE = "The judgements are all that is read, no teacher's scores."


IMPLIED = {Requirement.CHAIN: Requirement.ASSISTANTS, Requirement.LAYERS: Requirement.TEACHER_TRAINING}


@dataclass(frozen=True)
class Strategy:
    """A distillation strategy. A row of the leaderboard differs from the others of its form in this alone (method, "Strategies")."""

    source: str  # the paper, such as "MTA4DPR (Lu 2024)"
    about: str  # half a sentence for `list strategies`
    loss: Callable[[Step], Terms]
    cost: str = "as kd"  # of a training
    requires: Collection[Requirement] = frozenset()  # any iterable is taken, and kept as a frozenset
    overrides: dict[str, Any] = field(default_factory=dict)  # distill options that make it what it is
    options: tuple[str, ...] = ()  # distill options that mean something to it and not to every other strategy
    terms: Mapping[str, str] = field(default_factory=dict)  # titles of terms of its own, for plots; others are in terms.py

    def __post_init__(self) -> None:
        requires = tuple(self.requires)
        strange = [one for one in requires if not isinstance(one, Requirement)]
        if strange:
            names = ", ".join(f"Requirement.{one.name}" for one in Requirement)
            raise UserError(f"Strategy(requires=...) takes members of Requirement, found {strange[0]!r}; it takes {names}")
        for one in requires:
            if one in IMPLIED and IMPLIED[one] not in requires:
                raise UserError(f"a strategy that requires {one.name} requires {IMPLIED[one].name} too; add it to `requires`")
        object.__setattr__(self, "requires", frozenset(requires))

    @property
    def needs(self) -> str:
        """What a user has to provide for it, for `list strategies`."""
        of_user = {
            "judgements alone": Requirement.JUDGEMENTS_ALONE in self.requires,
            "a teacher": Requirement.JUDGEMENTS_ALONE not in self.requires,
            "assistants": Requirement.ASSISTANTS in self.requires and Requirement.CHAIN not in self.requires,
            "bi-encoder assistants that can be trained": Requirement.CHAIN in self.requires,
            "weights of the teacher": Requirement.TEACHER_TRAINING in self.requires,
            "a bi-encoder teacher's layers": Requirement.LAYERS in self.requires,
            "regime rounds": Requirement.STAGES in self.requires,
        }
        return ", ".join(need for need, is_needed in of_user.items() if is_needed)
