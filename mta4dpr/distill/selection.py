"""TASelect: which assistant is nearest to the teacher on a batch, fused assistants among them. Pure functions.

Sees stored scores only, never the student (method, "Assistants"). Log distributions are (queries, group).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mta4dpr.distill.distributions import divergence, mean_distribution, ranks

if TYPE_CHECKING:
    from torch import Tensor


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
        joined["+".join(subset)] = mean_distribution(torch.stack([log_p[label] for label in subset]))
    return joined


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
