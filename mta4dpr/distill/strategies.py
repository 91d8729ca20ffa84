"""Distillation strategies: which terms a strategy's loss has and whether it replaces assistants. One entry each.

All strategies share the trainer, the groups, the student's initial weights and the number of optimiser steps, so that
a row of the leaderboard differs in the strategy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta4dpr.benchmark import Distill


@dataclass(frozen=True)
class Strategy:
    """`distils`: has a KL to the teacher; `assisted`: has a KL to the assistant that TASelect chooses."""

    source: str
    about: str
    distils: bool
    assisted: bool = False
    replaces: bool = False

    def weights(self, options: Distill) -> tuple[float, float, float]:
        """(a, b, c) of a * CE + b * KL(teacher || student) + c * KL(assistant || student).

        The KL weights sum to the same number for every strategy that distils (method, section 4).
        """
        if not self.distils:
            return 1.0, 0.0, 0.0
        if not self.assisted:
            return options.ce_weight, options.teacher_weight + options.assistant_weight, 0.0
        return options.ce_weight, options.teacher_weight, options.assistant_weight


STRATEGIES: dict[str, Strategy] = {
    "contrastive": Strategy("DPR (Karpukhin 2020)", "cross-entropy alone, no teacher", distils=False),
    "kd": Strategy("Hinton 2015; SimLM (Wang 2023)", "cross-entropy and KL to the teacher", distils=True),
    "mta4dpr": Strategy(
        "MTA4DPR (Lu 2024)",
        "KL to the teacher and to the assistant nearest to it, the worst assistant replaced by the student",
        distils=True,
        assisted=True,
        replaces=True,
    ),
}
