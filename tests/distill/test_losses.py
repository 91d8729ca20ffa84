"""Losses against values by hand and torch.nn.functional, and what must never change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mta4dpr.distill.assistants import divergence, log_distribution
from mta4dpr.distill.losses import contrastive_loss, kl_loss

LN2, LN3 = math.log(2), math.log(3)


def scores(seed: int, queries: int = 3, width: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(queries, width)) * 3)


def one_positive(queries: int, width: int) -> torch.Tensor:
    positives = torch.zeros(queries, width, dtype=torch.bool)
    positives[torch.arange(queries), torch.arange(queries)] = True
    return positives


def test_kl_by_hand() -> None:
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 - ln 3 / 2, and the mean with an identical pair is half of it: direction, nats, mean."""
    target = torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log()
    student = torch.tensor([[0.25, 0.75], [0.2, 0.8]]).log()
    assert kl_loss(target[:1], student[:1]).item() == pytest.approx(LN2 - LN3 / 2, abs=1e-6)
    assert kl_loss(target, student).item() == pytest.approx((LN2 - LN3 / 2) / 2, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_kl_is_torchs(seed: int) -> None:
    """torch's kl_div(input, target) is KL(target || input): a swap of the arguments would show here."""
    target, student = scores(seed).log_softmax(-1), scores(seed + 100).log_softmax(-1)
    reference = functional.kl_div(student, target, reduction="batchmean", log_target=True)
    torch.testing.assert_close(kl_loss(target, student), reference)


def test_kl_has_torchs_gradient_and_none_from_dropped_passages() -> None:
    """-inf minus -inf is NaN: a dropped passage must give gradient 0, not NaN, and leave the others as without it."""
    raw, target = scores(1).requires_grad_(), scores(2)
    kept = torch.ones(3, 5, dtype=torch.bool)
    kept[:, 3] = False
    kl_loss(log_distribution(target, kept), log_distribution(raw, kept)).backward()
    assert raw.grad is not None
    found = raw.grad.clone()
    short = raw.detach()[:, [0, 1, 2, 4]].requires_grad_()
    functional.kl_div(short.log_softmax(-1), target[:, [0, 1, 2, 4]].log_softmax(-1), reduction="batchmean", log_target=True).backward()
    torch.testing.assert_close(found[:, [0, 1, 2, 4]], short.grad)
    assert (found[:, 3] == 0).all()


def test_a_target_probability_of_zero_gives_a_zero_term() -> None:
    """0 * ln 0 is 0: KL((1, 0) || (1/2, 1/2)) = ln 2."""
    target = torch.tensor([[0.0, -math.inf]])
    assert divergence(target, torch.tensor([[-LN2, -LN2]])).item() == pytest.approx(LN2)


def test_contrastive_by_hand() -> None:
    """Two queries, three passages: exp(logits) are 1, 2, 3 and 4, 1, 1; losses ln 6 and ln 6."""
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 1.0, 1.0]]).log()
    positives = torch.tensor([[True, False, False], [False, True, False]])
    everything = torch.ones(2, 3, dtype=torch.bool)
    assert contrastive_loss(logits, positives, everything).item() == pytest.approx(math.log(6))
    candidates = torch.tensor([[True, True, False], [True, True, True]])  # the first is without 3: ln(1 + 2)
    assert contrastive_loss(logits, positives, candidates).item() == pytest.approx((LN3 + math.log(6)) / 2)


def test_relabelled_positives_share_the_loss() -> None:
    """Two positives of e^logit 1 and 2 among 1, 2, 3: the mean of ln 6 and ln 3."""
    logits = torch.tensor([[1.0, 2.0, 3.0]]).log()
    positives = torch.tensor([[True, True, False]])
    found = contrastive_loss(logits, positives, torch.ones(1, 3, dtype=torch.bool)).item()
    assert found == pytest.approx((math.log(6) + LN3) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_contrastive_is_torchs_cross_entropy(seed: int) -> None:
    """With one positive and no mask it is cross_entropy; with a mask it is cross_entropy without those columns."""
    logits = scores(seed, 4, 7).requires_grad_()
    everything = torch.ones(4, 7, dtype=torch.bool)
    loss = contrastive_loss(logits, one_positive(4, 7), everything)
    reference = functional.cross_entropy(logits, torch.arange(4))
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(*(torch.autograd.grad(one, logits, retain_graph=True)[0] for one in (loss, reference)))
    candidates = everything.clone()
    candidates[:, 5] = False
    reference = functional.cross_entropy(logits[:, [0, 1, 2, 3, 4, 6]], torch.arange(4))
    torch.testing.assert_close(contrastive_loss(logits, one_positive(4, 7), candidates), reference)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(5)), shift=st.floats(-50, 50), target_shift=st.floats(-50, 50))
def test_group_order_and_constants_never_matter(seed: int, order: list[int], shift: float, target_shift: float) -> None:
    """A model's scores have no zero and a group has no order: both losses see neither (method, section 4)."""
    target, student = scores(seed), scores(seed + 1)
    kept = torch.from_numpy(np.random.default_rng(seed + 2).random((3, 5)) < 0.7) | one_positive(3, 5)

    def kl(target: torch.Tensor, student: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        return kl_loss(log_distribution(target, kept), log_distribution(student, kept))

    torch.testing.assert_close(kl(target[:, order], student[:, order], kept[:, order]), kl(target, student, kept))
    offsets = torch.tensor([[shift], [0.0], [-shift]], dtype=torch.float64)
    torch.testing.assert_close(kl(target + target_shift, student + offsets, kept), kl(target, student, kept))
    positives = one_positive(3, 5)
    plain = contrastive_loss(student, positives, kept)
    torch.testing.assert_close(contrastive_loss(student[:, order], positives[:, order], kept[:, order]), plain)
    torch.testing.assert_close(contrastive_loss(student + offsets, positives, kept), plain)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), junk=st.floats(-100, 100))
def test_masked_passages_change_nothing(seed: int, junk: float) -> None:
    """Whatever the scores of dropped passages are, losses and kept probabilities are the same."""
    target, student = scores(seed), scores(seed + 1)
    kept = torch.from_numpy(np.random.default_rng(seed + 2).random((3, 5)) < 0.6) | one_positive(3, 5)
    noisy_target, noisy_student = (torch.where(kept, one, torch.full_like(one, junk)) for one in (target, student))
    torch.testing.assert_close(
        kl_loss(log_distribution(noisy_target, kept), log_distribution(noisy_student, kept)),
        kl_loss(log_distribution(target, kept), log_distribution(student, kept)),
    )
    positives = one_positive(3, 5)
    torch.testing.assert_close(contrastive_loss(noisy_student, positives, kept), contrastive_loss(student, positives, kept))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_kl_is_zero_for_equal_and_positive_for_different(seed: int) -> None:
    """Gibbs' inequality: a sign error or a missing normalisation breaks it."""
    target, student = scores(seed).log_softmax(-1), scores(seed + 1).log_softmax(-1)
    assert kl_loss(target, target).item() == pytest.approx(0, abs=1e-12)
    assert (divergence(target, student) > 0).all()
