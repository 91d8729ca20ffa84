"""TASelect: which assistant teaches a batch, fused assistants among them. Pure functions, and the registry of criteria.

Sees stored scores, never the student (method, "Assistants"). Log distributions are (queries, group).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from mta4dpr.distill.distributions import divergence, mean_distribution, ranks

if TYPE_CHECKING:
    from torch import Tensor


class Basis(Enum):
    """What a criterion goes by. The value is a sentence for readers."""

    NEARNESS = "The assistant whose stored scores are nearest to the teacher's."
    CHANCE = "Any assistant, each as likely as the others."
    STANDING = "The assistant that is best on D_eval; a fused one is not measured there, so it is never chosen."


@dataclass(frozen=True)
class Criterion:
    """One way of TASelect to choose an assistant.

    `function(teacher, assistant, **options)` takes two log distributions (queries, group) and gives the assistant's distance from
    the teacher on each query, (queries,); smaller is nearer. It must not look at the order of the passages within a group.
    `options` names the distill options that it takes, each as a keyword of the same name. A criterion of another basis than
    nearness has no function.
    """

    function: Callable[..., Tensor] | None = None
    options: tuple[str, ...] = ()
    basis: Basis = Basis.NEARNESS

    def __post_init__(self) -> None:
        if (self.function is None) == (self.basis is Basis.NEARNESS):
            raise ValueError(
                f"a criterion by nearness needs a function, and another takes none; found {self.basis} with function {self.function}"
            )


def footrule(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Spearman's footrule of each query: the sum of rank differences, (queries,) float32; 0 is the same order (Spearman 1906)."""
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


def overlap_distance(log_p: Tensor, log_q: Tensor, *, rbo_p: float) -> Tensor:
    """Rank-biased overlap as a distance, (queries,): the larger the overlap, the nearer."""
    return -rank_biased_overlap(log_p, log_q, rbo_p)


CRITERIA: dict[str, Criterion] = {
    "kl": Criterion(divergence),  # KL(teacher || assistant)
    "footrule": Criterion(footrule),
    "rbo": Criterion(overlap_distance, options=("rbo_p",)),
    "random": Criterion(basis=Basis.CHANCE),
    "best": Criterion(basis=Basis.STANDING),
}


def distances(criterion: Criterion, teacher: Tensor, assistants: Mapping[str, Tensor], **options: Any) -> Tensor:
    """How far each assistant is from the teacher on each query, (assistants, queries), in the order of `assistants`.

    `options` are values of the options that the criterion names.
    """
    import torch

    assert criterion.function is not None, "only a criterion by nearness measures distances"
    return torch.stack([criterion.function(teacher, log_p, **options) for log_p in assistants.values()])


def nearest(distance: Tensor, granularity: str) -> Tensor:
    """The nearest assistant's number for each query, (queries,) int64, the first of equals; distance (assistants, queries).

    With granularity "query" each query has its own; with "batch" it is the one with the smallest mean distance, for all queries.
    """
    if granularity == "query":
        return distance.argmin(dim=0)
    return distance.mean(dim=1).argmin().expand(distance.shape[1])


def fused_subsets(labels: Sequence[str], fused: str | list[list[str]]) -> list[tuple[str, ...]]:
    """Which assistants are averaged: "all" subsets of two or more, "none", or those named of which no member was replaced."""
    if fused == "none":
        return []
    if fused == "all":
        return [subset for size in range(2, len(labels) + 1) for subset in itertools.combinations(labels, size)]
    return [tuple(subset) for subset in fused if set(subset) <= set(labels)]


def with_fused(log_p: dict[str, Tensor], subsets: Sequence[tuple[str, ...]]) -> dict[str, Tensor]:
    """The assistants and, for each subset, the plain mean of its members' distributions, named a+b (method, "Assistants" [B])."""
    import torch

    return dict(log_p) | {"+".join(subset): mean_distribution(torch.stack([log_p[label] for label in subset])) for subset in subsets}
