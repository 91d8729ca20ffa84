"""Distributions over a group by hand: entropy, means, calibration, ranks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.distill.distributions import divergence, entropy, fit_temperature, log_distribution, mean_distribution, ranks, softened, zscore

GROUP = 6


def random_scores(seed: int, queries: int = 20, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(queries, GROUP)).astype(np.float32) * scale)


def everything(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


def mean_entropy(scores: torch.Tensor, kept: torch.Tensor, temperature: float) -> float:
    return float(entropy(log_distribution(scores / temperature, kept)).mean())


def test_entropy_by_hand() -> None:
    """(1/2, 1/4, 1/4) has 1.5 ln 2 nats, the uniform one of two ln 2, a sure one 0; dropped passages have no part."""
    log_p = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).log()
    assert entropy(log_p).tolist() == pytest.approx([1.5 * math.log(2), math.log(2), 0.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.01, 1.0, 300.0]), share=st.floats(0.1, 0.9), drop=st.booleans())
def test_fit_temperature_reaches_the_wanted_entropy(seed: int, scale: float, share: float, drop: bool) -> None:
    """Cosines, logits and BM25 scores differ by orders of magnitude; each must come to the teacher's entropy (1e-4)."""
    scores = random_scores(seed, scale=scale)
    kept = everything(scores)
    kept[:, 3] = not drop
    wanted = share * math.log(int(kept[0].sum()))
    temperature, reached = fit_temperature(scores, kept, wanted)
    assert reached
    assert mean_entropy(scores, kept, temperature) == pytest.approx(wanted, abs=1e-4)


def test_constant_scores_cannot_reach_an_entropy_and_say_so() -> None:
    """A softmax of constants is uniform at every temperature: reported, with the nearest (lowest) bound, never an endless search."""
    scores = torch.full((5, GROUP), 3.0)
    temperature, reached = fit_temperature(scores, everything(scores), 0.5)
    assert not reached
    assert 0 < temperature < 1e-6
    assert math.isfinite(mean_entropy(scores, everything(scores), temperature))


def test_ties_at_the_top_give_the_nearest_bound() -> None:
    """Two tied best passages keep ln 2 nats at any temperature; a wish for less gets the bound whose entropy is ln 2."""
    scores = torch.tensor([[2.0, 2.0, 1.0, 0.0, 0.0, 0.0]]).repeat(4, 1)
    temperature, reached = fit_temperature(scores, everything(scores), 0.3)
    assert not reached
    assert mean_entropy(scores, everything(scores), temperature) == pytest.approx(math.log(2), abs=1e-4)


def test_more_than_the_greatest_entropy_gives_the_upper_bound() -> None:
    """The other end: nothing is flatter than uniform."""
    scores = random_scores(1)
    temperature, reached = fit_temperature(scores, everything(scores), math.log(GROUP) + 0.1)
    assert not reached
    assert mean_entropy(scores, everything(scores), temperature) == pytest.approx(math.log(GROUP), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_entropy_rises_with_temperature(seed: int) -> None:
    """What the bisection rests on."""
    scores = random_scores(seed)
    found = [mean_entropy(scores, everything(scores), float(t)) for t in np.geomspace(0.05, 20, 12)]
    assert all(low < high + 1e-6 for low, high in pairwise(found))
    assert found[0] < found[-1] - 0.5


def test_zscore_by_hand() -> None:
    """(1, 3, dropped) has mean 2 and deviation 1; the dropped 100 has no part in them."""
    found = zscore(torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]]))
    assert found[0, :2].tolist() == pytest.approx([-1.0, 1.0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.01, 1.0, 300.0]), shift=st.floats(-10, 10))
def test_zscore_has_mean_0_and_deviation_1(seed: int, scale: float, shift: float) -> None:
    """Per query, whatever the model's scale and offset."""
    scores = random_scores(seed, scale=scale)
    found = zscore(scores + scale * shift, everything(scores))
    assert torch.allclose(found.mean(-1), torch.zeros(20), atol=1e-3)
    assert torch.allclose(found.std(-1, unbiased=False), torch.ones(20), atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1234.567])
def test_zscore_of_constant_scores_is_uniform_and_finite(constant: float) -> None:
    """A deviation of 0 must give neither NaN nor a preference made of rounding."""
    scores = torch.full((2, GROUP), constant)
    found = log_distribution(zscore(scores, everything(scores)), everything(scores))
    assert torch.allclose(found.exp(), torch.full((2, GROUP), 1 / GROUP), atol=1e-6)


def test_a_target_probability_of_zero_gives_a_zero_term() -> None:
    """0 * ln 0 is 0: KL((1, 0) || (1/2, 1/2)) = ln 2."""
    target = torch.tensor([[0.0, -math.inf]])
    assert divergence(target, torch.tensor([[-math.log(2), -math.log(2)]])).item() == pytest.approx(math.log(2))


def test_mean_distribution_by_hand_with_weights_of_zero() -> None:
    """The mean of probabilities, not of logarithms; a weight of 0 takes a teacher out, and a dropped passage stays at 0."""
    log_ps = torch.tensor([[[0.5, 0.5, 0.0]], [[0.1, 0.9, 0.0]]]).log()
    torch.testing.assert_close(mean_distribution(log_ps).exp(), torch.tensor([[0.3, 0.7, 0.0]]))
    weights = torch.tensor([[0.25], [0.75]])
    torch.testing.assert_close(mean_distribution(log_ps, weights).exp(), torch.tensor([[0.2, 0.8, 0.0]]))
    torch.testing.assert_close(mean_distribution(log_ps, torch.tensor([[0.0], [1.0]])).exp(), log_ps[1].exp())


def test_softened_divides_the_logits() -> None:
    """A log distribution's own logits: softening twice by 2 is softening once by 4."""
    log_p = random_scores(3).log_softmax(-1)
    torch.testing.assert_close(softened(log_p, 4.0), (random_scores(3) / 4).log_softmax(-1))
    torch.testing.assert_close(softened(softened(log_p, 2.0), 2.0), softened(log_p, 4.0))


def test_ranks_break_ties_by_position() -> None:
    """Ties must come out the same on every machine."""
    assert ranks(torch.tensor([[1.0, 2.0, 1.0, 2.0]])).tolist() == [[2, 0, 3, 1]]
