"""Distributions over the passages of a group: made of scores, calibrated, averaged, compared. Pure functions, nothing of ours.

Log distributions are (queries, group), -inf where a passage was dropped from its group.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def log_distribution(scores: Tensor, kept: Tensor) -> Tensor:
    """Log softmax of scores over the kept passages of each group, (queries, group); -inf for the others.

    `scores` (queries, group), divided by a temperature already; `kept` (queries, group) bool.
    """
    return scores.masked_fill(~kept, -np.inf).log_softmax(dim=-1)


def softened(log_p: Tensor, tau: float) -> Tensor:
    """The log distribution (queries, group) whose logits are divided by tau: flatter, where tau is above 1 (Hinton 2015)."""
    return (log_p / tau).log_softmax(dim=-1)


def mean_distribution(log_ps: Tensor, weights: Tensor | None = None) -> Tensor:
    """Log of the mean of distributions, (teachers, queries, group) -> (queries, group).

    `weights` (teachers, queries) sum to 1 over teachers; without them all weigh the same.
    """
    if weights is None:
        return log_ps.logsumexp(dim=0) - math.log(len(log_ps))
    return (log_ps + weights.log()[:, :, None]).logsumexp(dim=0)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats of each log distribution, (queries, group) -> (queries,)."""
    return -(log_p.exp() * log_p.masked_fill(log_p == -np.inf, 0.0)).sum(dim=-1)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats of each query, of log distributions (queries, group) -> (queries,).

    Where p is 0 the term is 0, and so is its gradient with respect to q and to p.
    """
    ratio = (log_p - log_q).masked_fill(log_p == -np.inf, 0.0)  # before the product: a NaN times a gradient of 0 would be NaN
    return (log_p.exp() * ratio).sum(dim=-1)


def ranks(scores: Tensor) -> Tensor:
    """Rank of each passage in its group, 0 for the largest score, ties by position, (queries, group) int64."""
    return scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)


def zscore(scores: Tensor, kept: Tensor) -> Tensor:
    """Each query's kept scores with mean 0 and standard deviation 1, (queries, group); constant scores become 0."""
    count = kept.sum(dim=-1, keepdim=True)
    mean = scores.masked_fill(~kept, 0.0).sum(dim=-1, keepdim=True) / count
    centred = (scores - mean).masked_fill(~kept, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(1e-6)


def fit_temperature(scores: Tensor, kept: Tensor, wanted: float) -> tuple[float, bool]:
    """The temperature at which the mean entropy of softmax(scores / temperature) is `wanted` nats, by bisection.

    Entropy rises with temperature. Where the wanted value cannot be reached (ties, constants), the nearest bound is returned, with
    False. `scores` (queries, group), `kept` (queries, group) bool; ours (method, "Assistants" [C]).
    """
    spread = float((scores.masked_fill(~kept, -np.inf).amax(-1) - scores.masked_fill(~kept, np.inf).amin(-1)).mean())
    low, high = np.log(max(spread, 1e-6) * 1e-4), np.log(max(spread, 1e-6) * 1e4)

    def at(log_temperature: float) -> float:
        return float(entropy(log_distribution(scores / float(np.exp(log_temperature)), kept)).mean())

    for bound, reachable in ((low, at(low) <= wanted + 1e-6), (high, at(high) >= wanted - 1e-6)):
        if not reachable:
            return float(np.exp(bound)), False
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle) > wanted else (middle, high)
    return float(np.exp((low + high) / 2)), True
