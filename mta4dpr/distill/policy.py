"""The policy of rl_ta (Yuan 2021): for each query it draws which teachers are listened to; REINFORCE learns the probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

BASELINE_DECAY = 0.9  # of the running mean of rewards


class Policy(torch.nn.Module):
    """A logistic model for each teacher. A choice is rewarded by what the student does one step later, when it has learnt from it.

    `queries` are those of a step. The buffers hold what the next step needs, so that a checkpoint has it.
    """

    features: Tensor
    actions: Tensor
    baseline: Tensor
    started: Tensor

    def __init__(self, teachers: int, queries: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(teachers, 3))
        self.bias = torch.nn.Parameter(torch.zeros(teachers))
        self.register_buffer("features", torch.zeros(teachers, queries, 3))  # of the last step
        self.register_buffer("actions", torch.zeros(teachers, queries))
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, features: Tensor, uniform: Tensor, reward: Tensor) -> tuple[Tensor, Any]:
        """The choices of this step, (teachers, queries) of 0 and 1, and the loss of those of the step before, a scalar.

        `features` (teachers, queries, 3), `uniform` (teachers, queries) in [0, 1), `reward` a scalar. A query for which no teacher
        was drawn listens to all. The first step has no choices before it, so its loss is 0.
        """
        loss = features.new_zeros(())
        if self.started:
            logits = self._logits(self.features.clone())  # the buffers change before the gradient is taken
            log_p = torch.where(self.actions > 0, logsigmoid(logits), logsigmoid(-logits))
            loss = -(reward - self.baseline.clone()) * log_p.sum(dim=0).mean()
        with torch.no_grad():
            actions = (uniform < self._logits(features).sigmoid()).to(features)
            self.baseline.copy_(BASELINE_DECAY * self.baseline + (1 - BASELINE_DECAY) * reward if self.started else reward)
            self.features.copy_(features)
            self.actions.copy_(actions)
            self.started.fill_(True)
            return torch.where(actions.sum(dim=0) > 0, actions, torch.ones_like(actions)), loss

    def _logits(self, features: Tensor) -> Tensor:
        return (features * self.weight[:, None, :]).sum(dim=-1) + self.bias[:, None]
