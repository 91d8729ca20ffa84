"""What a strategy sees of one optimiser step: distributions over the groups, the student's with gradients; and TASelect.

Knows no network: a step is made from scores, so a strategy is tested without a model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mta4dpr.config.options import Distill
from mta4dpr.distill.losses import contrastive_loss
from mta4dpr.distill.selection import CRITERIA, Basis, Criterion, distances, fused_subsets, nearest, with_fused
from mta4dpr.machine.counter import mix

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Step:
    """One batch of groups. Log distributions are (queries, group); labels name teachers."""

    number: int
    round: int
    seed: int
    options: Distill
    logits: Tensor  # the student's scores / tau over the batch's distinct passages, (queries, passages)
    positives: Tensor  # (queries, passages) bool
    candidates: Tensor  # (queries, passages) bool: what CE compares with
    relevant: Tensor  # (queries, group) bool: the positive and relabelled negatives
    kept: Tensor  # (queries, group) bool
    student: Tensor
    teacher: Tensor  # of the stored scores; with gradients where the teacher is trained too
    assistants: dict[str, Tensor] = field(default_factory=dict)
    previous: Tensor | None = None  # the student as it was when the round began
    standing: dict[str, float] = field(default_factory=dict)  # Compare's measure of teacher and assistants on D_eval
    student_layers: list[Tensor] = field(default_factory=list)
    teacher_layers: list[Tensor] = field(default_factory=list)
    teacher_name: str = "teacher"
    policy: Any = None
    criterion: Criterion | None = None  # TASelect's, where it is not one of ours
    notes: dict[str, Any] = field(default_factory=dict)  # for steps.jsonl

    def cross_entropy(self) -> Tensor:
        return contrastive_loss(self.logits, self.positives, self.candidates)

    @cached_property
    def everyone(self) -> dict[str, Tensor]:
        """The teacher and all assistants."""
        return {self.teacher_name: self.teacher, **self.assistants}

    def select(self) -> Tensor:
        """TASelect: the chosen assistant's log distribution for each query; the choice is noted."""
        import torch

        options, queries = self.options, len(self.student)
        criterion = self.criterion or CRITERIA[options.select]
        if criterion.basis is Basis.STANDING:
            self.notes["assistant"] = self.best_assistant()
            return self.assistants[self.notes["assistant"]]
        offered = with_fused(self.assistants, fused_subsets(list(self.assistants), options.fused))
        labels = list(offered)
        if criterion.basis is Basis.CHANCE:
            draws = self.draw(queries if options.granularity == "query" else 1)
            chosen = torch.from_numpy((draws * len(labels)).astype(np.int64)).to(self.student.device).expand(queries)
        else:
            own = {name: getattr(options, name) for name in criterion.options}
            chosen = nearest(distances(criterion, self.teacher, offered, **own), options.granularity)
        names = [labels[n] for n in chosen.tolist()]
        self.notes["assistant"] = names[0] if options.granularity == "batch" else names
        return torch.stack(list(offered.values()))[chosen, torch.arange(queries, device=self.student.device)]

    def best_assistant(self) -> str:
        """The assistant that is best on D_eval, the first of equals."""
        return max(self.assistants, key=lambda label: self.standing[label])

    def draw(self, count: int, stream: int = 0) -> np.ndarray:
        """Uniform numbers in [0, 1) that only seed, step and stream decide, (count,) float64."""
        return (mix(self.seed, 9, self.number, stream, np.arange(count)) >> np.uint64(11)) * 2.0**-53
