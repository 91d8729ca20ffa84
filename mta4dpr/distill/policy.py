"""The policy of rl_ta (Yuan 2021): whether a query listens to a teacher is a draw; REINFORCE learns its probability."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

BASELINE_DECAY = 0.9  # of the running mean of rewards


class Policy(torch.nn.Module):
    """A logistic model for each teacher. A choice is rewarded by what the student does one step later, after learning from it."""

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
        """(chosen (teachers, queries) of 0 and 1, loss of the last step's choices). A query that chose none listens to all."""
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
