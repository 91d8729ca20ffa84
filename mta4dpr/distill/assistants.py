"""Distributions over a group, calibration, fusion, TASelect, which sees stored scores only, never the student (method, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


# --- distributions over a group, calibration, fusion ---------------------------------------------------------------


def log_distribution(scores: Tensor, kept: Tensor) -> Tensor:
    """Log softmax over the kept passages of each group, (queries, group); -inf for the others."""
    return scores.masked_fill(~kept, -np.inf).log_softmax(dim=-1)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats of each distribution, (queries,)."""
    return -(log_p.exp() * log_p.masked_fill(log_p == -np.inf, 0.0)).sum(dim=-1)


def zscore(scores: Tensor, kept: Tensor) -> Tensor:
    """Each query's kept scores with mean 0 and standard deviation 1; constant scores become 0."""
    count = kept.sum(dim=-1, keepdim=True)
    mean = scores.masked_fill(~kept, 0.0).sum(dim=-1, keepdim=True) / count
    centred = (scores - mean).masked_fill(~kept, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / deviation.clamp_min(1e-6)


def fit_temperature(scores: Tensor, kept: Tensor, wanted: float) -> tuple[float, bool]:
    """The temperature at which the mean entropy of softmax(scores / temperature) is `wanted` nats, by bisection.

    Entropy rises with temperature. When the wanted value cannot be reached (ties, constants), the nearest bound is
    returned with False. Method, section 3 [C].
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


def fused_subsets(labels: Sequence[str], fused: str | list[list[str]]) -> list[tuple[str, ...]]:
    """Which assistants are averaged: all subsets of two or more, none, or the named ones still there."""
    if fused == "none":
        return []
    if fused == "all":
        return [subset for size in range(2, len(labels) + 1) for subset in itertools.combinations(labels, size)]
    return [tuple(subset) for subset in fused if set(subset) <= set(labels)]


def with_fused(log_p: dict[str, Tensor], subsets: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
    """Adds the plain mean of the members' distributions for each subset, named a+b (method, section 3 [B])."""
    import torch

    joined = dict(log_p)
    for subset in subsets:
        joined["+".join(subset)] = torch.stack([log_p[label] for label in subset]).logsumexp(dim=0) - float(np.log(len(subset)))
    return joined


# --- TASelect -------------------------------------------------------------------------------------------------------


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats of each query, (queries,). Where p is 0 a term is 0, and so are its gradients, p's as well."""
    ratio = (log_p - log_q).masked_fill(log_p == -np.inf, 0.0)  # before the product: a NaN times a gradient of 0 would be NaN
    return (log_p.exp() * ratio).sum(dim=-1)


def ranks(scores: Tensor) -> Tensor:
    """Rank of each passage in its group, best is 0, ties by position, (queries, group)."""
    return scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1, stable=True)


def footrule(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Spearman's footrule of each query: sum of rank differences, (queries,); 0 is the same order."""
    return (ranks(log_p) - ranks(log_q)).abs().sum(dim=-1).float()


def rank_biased_overlap(log_p: Tensor, log_q: Tensor, persistence: float) -> Tensor:
    """Rank-biased overlap of two full rankings of one group (Webber, Moffat and Zobel 2010), (queries,); 1 is the same order.

    Both rankings hold the same passages, so the tail beyond the group agrees entirely: its weight p^group counts in full.
    """
    import torch

    group = log_p.shape[-1]
    deepest = torch.maximum(ranks(log_p), ranks(log_q))  # depth at which a passage is in both prefixes
    depths = torch.arange(1, group + 1, device=log_p.device)
    overlap = (deepest[:, None, :] < depths[:, None]).sum(dim=-1) / depths  # (queries, group)
    weights = (1 - persistence) * persistence ** (depths - 1).float()
    return (overlap * weights).sum(dim=-1) + persistence**group


def distances(criterion: str, teacher: Tensor, assistants: dict[str, Tensor], *, rbo_p: float) -> Tensor:
    """How far each assistant is from the teacher on each query, (assistants, queries); smaller is nearer."""
    import torch

    measure: dict[str, Any] = {"kl": divergence, "footrule": footrule, "rbo": lambda t, a: -rank_biased_overlap(t, a, rbo_p)}
    return torch.stack([measure[criterion](teacher, log_p) for log_p in assistants.values()])


def select(distance: Tensor, granularity: str) -> Tensor:
    """TASelect: the nearest assistant for each query, (queries,) int64; the same one throughout for granularity batch."""
    if granularity == "query":
        return distance.argmin(dim=0)
    return distance.mean(dim=1).argmin().expand(distance.shape[1])
