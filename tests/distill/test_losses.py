"""Losses against values by hand and torch.nn.functional, and what must never change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mta4dpr.distill.distributions import divergence, log_distribution
from mta4dpr.distill.losses import (
    contrastive_loss,
    curriculum_labels,
    gold_nll,
    gold_weights,
    kl_loss,
    listwise_loss,
    margin_mse_loss,
    policy_features,
    soft_kl_loss,
)

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


def test_kl_has_a_gradient_for_its_target_too_and_none_from_dropped_passages() -> None:
    """Where a teacher is trained, the target moves as well; a dropped passage's -inf must not become NaN on that side either."""
    raw, student = scores(1).requires_grad_(), scores(2)
    kept = torch.ones(3, 5, dtype=torch.bool)
    kept[:, 3] = False
    kl_loss(log_distribution(raw, kept), log_distribution(student, kept)).backward()
    short = raw.detach()[:, [0, 1, 2, 4]].requires_grad_()
    p = short.softmax(-1)
    (p * (p.log() - student[:, [0, 1, 2, 4]].log_softmax(-1))).sum(-1).mean().backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad[:, [0, 1, 2, 4]], short.grad)
    assert (raw.grad[:, 3] == 0).all()


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


# --- the other losses -----------------------------------------------------------------------------------------------


def embeddings(seed: int, queries: int = 4, group: int = 5) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Columns as sentence-transformers' losses take them (queries, first passages, second ...), and their inner products."""
    generator = np.random.default_rng(seed)
    columns = [torch.from_numpy(generator.normal(size=(queries, 8))) for _ in range(1 + group)]
    return columns, torch.stack([(columns[0] * column).sum(dim=1) for column in columns[1:]], dim=1)


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_soft_kl_is_sentence_transformers(seed: int, tau: float) -> None:
    """DistillKLDivLoss of the same scores: both sides softened, and tau^2."""
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    columns, student = embeddings(seed)
    teacher = scores(seed, 4)
    reference = DistillKLDivLoss(torch.nn.Identity(), temperature=tau).compute_loss_from_embeddings(columns, teacher)
    torch.testing.assert_close(soft_kl_loss(teacher.log_softmax(-1), student.log_softmax(-1), tau), reference)
    if tau == 1:
        torch.testing.assert_close(kl_loss(teacher.log_softmax(-1), student.log_softmax(-1)), reference)


@pytest.mark.parametrize("group", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_margin_mse_is_sentence_transformers(seed: int, group: int) -> None:
    """MarginMSELoss of the same scores: a log softmax keeps every margin."""
    from sentence_transformers.sentence_transformer.losses import MarginMSELoss

    columns, student = embeddings(seed, group=group)
    teacher = scores(seed, 4, group)
    reference = MarginMSELoss(torch.nn.Identity()).compute_loss_from_embeddings(columns, teacher)
    everything = torch.ones(4, group, dtype=torch.bool)
    torch.testing.assert_close(margin_mse_loss(teacher, student, everything), reference)
    torch.testing.assert_close(margin_mse_loss(teacher.log_softmax(-1), student.log_softmax(-1), everything), reference)


def test_margin_mse_by_hand_without_dropped_negatives() -> None:
    """Margins 2 and 3 against 1 and 3: (1 + 0) / 2; without the second 1; without any 0, and no NaN in the gradient."""
    target = torch.tensor([[3.0, 2.0, 0.0]])
    student = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    for kept, expected in (([True, True, True], 0.5), ([True, True, False], 1.0), ([True, False, False], 0.0)):
        mask = torch.tensor([kept])
        loss = margin_mse_loss(log_distribution(target, mask), log_distribution(student, mask), mask)
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        [gradient] = torch.autograd.grad(loss, student)
        assert torch.isfinite(gradient).all()


def test_listwise_by_hand() -> None:
    """Student's order 0, 1, 2 with scores 2, 1, 0 and labels 0, 1, -1: pairs (1, 0), (1, 2) and (0, 2)."""
    student, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, -1.0]])
    everything = torch.ones(1, 3, dtype=torch.bool)
    expected = 1 / 2 * math.log(1 + math.e) + (1 / 2 - 1 / 3) * math.log(1 + 1 / math.e) + 2 / 3 * math.log(1 + math.exp(-2))
    assert listwise_loss(labels, student, everything).item() == pytest.approx(expected)
    without = torch.tensor([[True, True, False]])
    assert listwise_loss(labels, student, without).item() == pytest.approx(1 / 2 * math.log(1 + math.e))
    assert listwise_loss(torch.zeros(1, 3), student, everything).item() == 0  # equal labels are no pair


def test_listwise_takes_ranks_as_constants() -> None:
    """The gain is a weight: no gradient goes through a sort, and each pair's is the gain times the logistic's."""
    student = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    listwise_loss(torch.tensor([[1.0, 0.0]]), student, torch.ones(1, 2, dtype=torch.bool)).backward()
    slope = 0.5 / (1 + math.exp(-1.0))
    assert student.grad is not None
    assert student.grad.tolist() == [pytest.approx([-slope, slope])]


def test_curriculum_labels_follow_the_teacher_alone() -> None:
    """The best passage is 1 wherever it stands; a group of 6 in thirds is 1, 1/2, 0, 0, -1, -1."""
    teacher = torch.tensor([[0.1, 0.6, 0.3, 0.5, 0.2, 0.4]], dtype=torch.float64).log()
    assert curriculum_labels(teacher, (10, 10, 10)).tolist() == [[-1.0, 1.0, 0.0, 0.5, -1.0, 0.0]]


@pytest.mark.parametrize("seed", range(3))
def test_gold_nll_is_torchs_cross_entropy(seed: int) -> None:
    """With the positive in column 0, for each query; with two positives it is the mean of both."""
    logits = scores(seed)
    relevant = torch.zeros(3, 5, dtype=torch.bool)
    relevant[:, 0] = True
    first = functional.cross_entropy(logits, torch.zeros(3, dtype=torch.long), reduction="none")
    torch.testing.assert_close(gold_nll(logits.log_softmax(-1), relevant), first)
    relevant[:, 2] = True
    second = functional.cross_entropy(logits, torch.full((3,), 2), reduction="none")
    torch.testing.assert_close(gold_nll(logits.log_softmax(-1), relevant), (first + second) / 2)


def test_gold_weights_by_hand() -> None:
    """CE of ln 2 and ln 4 on the positive: 1 / (1 + ln 2) and 1 / (1 + ln 4), normalised for each query."""
    log_ps = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.25, 0.75], [0.25, 0.75]]]).log()
    relevant = torch.tensor([[True, False], [True, False]])
    better, worse = 1 / (1 + LN2), 1 / (1 + 2 * LN2)
    expected = torch.tensor([[better / (better + worse), 0.5], [worse / (better + worse), 0.5]])
    torch.testing.assert_close(gold_weights(log_ps, relevant), expected)


def test_policy_features_by_hand() -> None:
    """(CE, KL from the teacher, entropy) of (1/4, 3/4) with the teacher at (1/2, 1/2)."""
    log_ps = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]]).log()
    found = policy_features(log_ps, log_ps[0], torch.tensor([[True, False]]))
    entropy = 0.25 * 2 * LN2 + 0.75 * (2 * LN2 - LN3)
    torch.testing.assert_close(found, torch.tensor([[[LN2, 0.0, LN2]], [[2 * LN2, LN2 - LN3 / 2, entropy]]]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), junk=st.floats(-100, 100))
def test_dropped_passages_change_no_other_loss(seed: int, junk: float) -> None:
    """Whatever the scores of dropped passages are, on either side."""
    teacher, student = scores(seed), scores(seed + 1)
    kept = torch.from_numpy(np.random.default_rng(seed + 2).random((3, 5)) < 0.6)
    kept[:, 0] = True
    noisy = [torch.where(kept, one, torch.full_like(one, junk)) for one in (teacher, student)]
    plain = [log_distribution(one, kept) for one in (teacher, student)]
    other = [log_distribution(one, kept) for one in noisy]
    torch.testing.assert_close(margin_mse_loss(*other, kept), margin_mse_loss(*plain, kept))
    torch.testing.assert_close(soft_kl_loss(*other, 3.0), soft_kl_loss(*plain, 3.0))
    labels = [curriculum_labels(one, (10, 10, 10)) for one in (other[0], plain[0])]
    torch.testing.assert_close(listwise_loss(labels[0], other[1], kept), listwise_loss(labels[1], plain[1], kept))
