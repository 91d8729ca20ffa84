"""What a strategy sees of one optimiser step: distributions over the groups, the student's with gradients; and TASelect.

Knows no network: a step is made of scores, so a strategy is tested without a model. A strategy of one's own mostly needs
`teacher`, `student`, `assistants` and `cross_entropy()`.
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
    """One batch of groups: a row of a matrix is a query, and a column of its group is a passage, the positive first.

    `student`, `teacher` and the other distributions are logarithms of probabilities, (queries, group), -inf where a passage was
    dropped. They are calibrated: scores divided by a temperature before the softmax. Assistants and `standing` are by label.
    """

    number: int  # of the step, over all rounds
    round: int  # from 0
    seed: int
    options: Distill
    logits: Tensor  # the student's scores / tau over the distinct passages of the batch, (queries, passages)
    positives: Tensor  # (queries, passages) bool
    candidates: Tensor  # (queries, passages) bool: what the cross-entropy compares with, positives included
    relevant: Tensor  # (queries, group) bool: the positive and relabelled negatives
    kept: Tensor  # (queries, group) bool: not dropped as a false negative
    student: Tensor  # with gradients
    teacher: Tensor  # with gradients where the teacher is trained too
    assistants: dict[str, Tensor] = field(default_factory=dict)
    previous: Tensor | None = None  # the student as it was when the round began
    standing: dict[str, float] = field(default_factory=dict)  # Compare's measure of teacher and assistants on D_eval
    student_layers: list[Tensor] = field(default_factory=list)  # distributions of hidden layers, in order of depth
    teacher_layers: list[Tensor] = field(default_factory=list)
    teacher_name: str = "teacher"  # its label
    policy: Any = None  # of policy.py
    criterion: Criterion | None = None  # TASelect's, where it is not one of ours
    notes: dict[str, Any] = field(default_factory=dict)  # what a strategy leaves for steps.jsonl, such as its choice

    def cross_entropy(self) -> Tensor:
        """The contrastive loss, a scalar in nats: the positive against all passages of the batch (see `contrastive_loss`)."""
        return contrastive_loss(self.logits, self.positives, self.candidates)

    @cached_property
    def everyone(self) -> dict[str, Tensor]:
        """Distributions of the teacher, which comes first, and of all assistants, by label."""
        return {self.teacher_name: self.teacher, **self.assistants}

    def select(self) -> Tensor:
        """TASelect by the option `select`: the chosen assistant's log distribution for each query, (queries, group).

        The choice is noted as "assistant": a label, or with granularity "query" a list of labels.
        """
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
        """Label of the assistant that is best on D_eval, the first of equals; it needs `standing`."""
        return max(self.assistants, key=lambda label: self.standing[label])

    def draw(self, count: int, stream: int = 0) -> np.ndarray:
        """Uniform numbers in [0, 1), (count,) float64. Seed, step and stream decide them alone, so a repeated step repeats them."""
        return (mix(self.seed, 9, self.number, stream, np.arange(count)) >> np.uint64(11)) * 2.0**-53
