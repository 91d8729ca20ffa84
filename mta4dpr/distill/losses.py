"""Losses as pure functions of scores: tensors in, scalar out, in nats, means over queries (method, "Loss" and "Strategies").

Log distributions are (queries, group), -inf where a passage was dropped, the positive in column 0. A constant added to all scores
of a query changes no loss. A strategy of one's own needs `kl_loss(target, student)` for a start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mta4dpr.distill.distributions import divergence, entropy, ranks, softened

if TYPE_CHECKING:
    from torch import Tensor


def kl_loss(target: Tensor, student: Tensor) -> Tensor:
    """Mean over queries of KL(target || student), a scalar in nats, of log distributions (queries, group) (Hinton 2015)."""
    return divergence(target, student).mean()


def soft_kl_loss(target: Tensor, student: Tensor, tau: float) -> Tensor:
    """tau^2 * KL(target || student) with both sides softened by tau (Hinton 2015), a scalar.

    The factor keeps the size of the gradient whatever tau is.
    """
    return tau**2 * kl_loss(softened(target, tau), softened(student, tau))


def contrastive_loss(logits: Tensor, positives: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy against the passages of the whole batch, a scalar: the mean over a query's positives of -log softmax.

    `logits` (queries, passages) are scores / tau; `positives` and `candidates` are (queries, passages) bool. A query's positives
    are candidates; its other relevant passages are not (Karpukhin 2020; the mask is ours).
    """
    log_p = logits.masked_fill(~candidates, -math.inf).log_softmax(dim=-1)
    of_positives = log_p.masked_fill(~positives, 0.0).sum(dim=-1) / positives.sum(dim=-1)
    return -of_positives.mean()


def gold_nll(log_p: Tensor, relevant: Tensor) -> Tensor:
    """-log p of each query's positives in its group, the mean over several, (queries,).

    `log_p` (queries, group), `relevant` (queries, group) bool.
    """
    return -log_p.masked_fill(~relevant, 0.0).sum(dim=-1) / relevant.sum(dim=-1)


def margin_mse_loss(target: Tensor, student: Tensor, kept: Tensor) -> Tensor:
    """Mean squared difference of the margins between the positive (column 0) and each kept negative (Hofstätter 2020).

    A scalar; `target` and `student` (queries, group) may be log distributions or scores, `kept` is (queries, group) bool. Margins are
    of logits, that is of scores / tau on either side, so that models with other score scales can be compared.
    """
    negatives = kept[:, 1:]
    target, student = (x[:, :1] - x[:, 1:].masked_fill(~negatives, 0.0) for x in (target, student))
    wrong = (student - target).square().masked_fill(~negatives, 0.0)
    return wrong.sum() / negatives.sum().clamp_min(1)


def listwise_loss(labels: Tensor, student: Tensor, kept: Tensor) -> Tensor:
    """Sum over pairs with label_i > label_j of |1/r_i - 1/r_j| * log(1 + exp(s_j - s_i)), r the student's ranks (Zeng 2022).

    A scalar, the mean over queries; all arguments are (queries, group), `kept` bool. No gradient goes through the ranks.
    """
    import torch

    scores = student.masked_fill(~kept, 0.0)
    reciprocal = 1.0 / (ranks(student.detach()) + 1).to(student.dtype)  # (queries, group)
    gain = (reciprocal[:, :, None] - reciprocal[:, None, :]).abs()
    pairs = (labels[:, :, None] > labels[:, None, :]) & kept[:, :, None] & kept[:, None, :]
    cost = torch.nn.functional.softplus(scores[:, None, :] - scores[:, :, None])  # (queries, i, j): s_j - s_i
    return (gain * cost).masked_fill(~pairs, 0.0).sum(dim=(1, 2)).mean()


def curriculum_labels(teacher: Tensor, sizes: Sequence[int]) -> Tensor:
    """CL-DRD's labels (queries, group) of the teacher's order: 1/rank in the first part, 0 in the second, -1 in the third.

    `sizes` are the parts' proportions, (5, 12, 13) of 30 in its first iteration; the first part has at least one passage.
    """
    order, group = ranks(teacher), teacher.shape[-1]
    first = max(1, round(group * sizes[0] / sum(sizes)))
    second = max(first, round(group * (sizes[0] + sizes[1]) / sum(sizes)))
    return (order < first) / (order + 1.0) - (order >= second).to(teacher.dtype)


def gold_weights(log_ps: Tensor, relevant: Tensor) -> Tensor:
    """MT-BERT's weight of each teacher on each query (Wu 2021): 1 / (1 + CE on the positive), normalised over teachers.

    `log_ps` (teachers, queries, group), `relevant` (queries, group) bool -> (teachers, queries).
    """
    import torch

    weights = 1.0 / (1.0 + torch.stack([gold_nll(log_p, relevant) for log_p in log_ps]))
    return weights / weights.sum(dim=0)


def policy_features(log_ps: Tensor, teacher: Tensor, relevant: Tensor) -> Tensor:
    """What a policy sees of each teacher on each query: its CE on the positive, KL(teacher || it), its entropy (after Yuan 2021).

    `log_ps` (teachers, queries, group), `teacher` (queries, group), `relevant` (queries, group) bool -> (teachers, queries, 3).
    """
    import torch

    return torch.stack([torch.stack([gold_nll(x, relevant), divergence(teacher, x), entropy(x)], dim=-1) for x in log_ps])
