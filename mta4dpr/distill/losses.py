"""Losses as pure functions of scores: tensors in, scalar out, KL in nats, means over queries (method, section 4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mta4dpr.distill.assistants import divergence

if TYPE_CHECKING:
    from torch import Tensor


def kl_loss(target: Tensor, student: Tensor) -> Tensor:
    """Mean KL(target || student) of log distributions, both (queries, group)."""
    return divergence(target, student).mean()


def contrastive_loss(logits: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy against the passages of the whole batch: the mean over a query's positives of -log softmax.

    logits (queries, passages) are scores / tau; positives and candidates (queries, passages) bool. A query's positives
    are candidates; its other relevant passages are not.
    """
    log_p = logits.masked_fill(~candidates, -math.inf).log_softmax(dim=-1)
    of_positives = log_p.masked_fill(~positives, 0.0).sum(dim=-1) / positives.sum(dim=-1)
    return -of_positives.mean()
