"""TASelect and fusion by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mta4dpr.config.options import Distill
from mta4dpr.distill.distributions import log_distribution
from mta4dpr.distill.selection import (
    CRITERIA,
    Basis,
    Criterion,
    distances,
    footrule,
    fused_subsets,
    nearest,
    rank_biased_overlap,
    with_fused,
)

GROUP = 6
NEARNESS = [name for name, criterion in CRITERIA.items() if criterion.basis is Basis.NEARNESS]


def random_scores(seed: int, queries: int = 20, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(queries, GROUP)).astype(np.float32) * scale)


def everything(scores: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(scores, dtype=torch.bool)


# --- fusion ---


def test_fused_is_the_arithmetic_mean_of_probabilities() -> None:
    """Not of scores or logarithms (method, section 3 [B]); originals stay as they are; dropped passages stay at 0."""
    kept = torch.tensor([[True, True, False, True]])
    rows = {"a": [1.0, 2.0, 9.0, 0.0], "b": [0.0, -3.0, 9.0, 1.0]}
    log_p = {label: log_distribution(torch.tensor([row]), kept) for label, row in rows.items()}
    found = with_fused(log_p, [("a", "b")])
    assert list(found) == ["a", "b", "a+b"]
    assert torch.equal(found["a"], log_p["a"])
    torch.testing.assert_close(found["a+b"].exp(), (log_p["a"].exp() + log_p["b"].exp()) / 2)
    assert found["a+b"][0, 2] == -math.inf
    assert found["a+b"].exp().sum().item() == pytest.approx(1.0)


def test_a_fused_three_is_the_mean_of_three() -> None:
    """Each member counts once: not the mean of a pair's mean and the third."""
    log_p = {label: random_scores(n).log_softmax(-1) for n, label in enumerate("abc")}
    found = with_fused(log_p, fused_subsets("abc", "all"))
    torch.testing.assert_close(found["a+b+c"].exp(), sum(one.exp() for one in log_p.values()) / 3)


def test_which_subsets_are_fused() -> None:
    """All of two or more: 4 for 3 assistants; named lists lose a subset when a member was replaced; none is none."""
    assert fused_subsets(["a", "b", "c"], "all") == [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    assert fused_subsets(["a"], "all") == []
    assert fused_subsets(["a", "b", "c"], "none") == []
    assert fused_subsets(["a", "b", "c"], [["c", "a"], ["b", "c"]]) == [("c", "a"), ("b", "c")]
    assert fused_subsets(["a", "student-round-0", "c"], [["c", "a"], ["b", "c"]]) == [("c", "a")]


# --- TASelect ---

# T = (1/2, 1/4, 1/4) for both queries
TEACHER = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
ASSISTANTS = {
    # query 0: KL = 1/2 ln 2 + 1/4 ln(1/2) + 1/4 ln 1 = 1/4 ln 2; query 1: KL = 0
    "near": torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]).log(),
    # query 0: KL = 0; query 1: KL = 1/2 ln 4 + 1/4 ln(2/3) + 1/4 ln(1/2) = ln 2 - 1/4 ln 3
    "split": torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.375, 0.5]]).log(),
}


def test_kl_selects_by_the_teachers_divergence_from_each_assistant() -> None:
    """KL(P_T || P_A) by hand, and means 0.087 and 0.209: `near` for the batch, one each for the queries."""
    found = distances(CRITERIA["kl"], TEACHER, ASSISTANTS)
    expected = [[math.log(2) / 4, 0.0], [0.0, math.log(2) - math.log(3) / 4]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    assert nearest(found, "batch").tolist() == [0, 0]
    assert nearest(found, "query").tolist() == [1, 0]


def test_kl_direction_matters() -> None:
    """KL(T || A) prefers an assistant that covers the teacher, KL(A || T) one that sits on its mode; ours is the first."""
    teacher = torch.tensor([[0.5, 0.49, 0.01]]).log()
    offered = {"cover": torch.tensor([[0.34, 0.33, 0.33]]).log(), "mode": torch.tensor([[0.985, 0.01, 0.005]]).log()}
    # KL(T||cover) = 0.35, KL(T||mode) = 1.57; the other way round 0.89 and 0.62
    assert nearest(distances(CRITERIA["kl"], teacher, offered), "batch").tolist() == [0]


def test_footrule_by_hand() -> None:
    """Orders abc and cab: |0-1| + |1-2| + |2-0| = 4; abc and bac: 2; reversed: 4; equal: 0."""
    abc = torch.tensor([[3.0, 2.0, 1.0]])
    for other, expected in (([2.0, 1.0, 3.0], 4), ([2.0, 3.0, 1.0], 2), ([1.0, 2.0, 3.0], 4), ([9.0, 5.0, 0.0], 0)):
        assert footrule(abc, torch.tensor([other])).tolist() == [expected]
    found = distances(CRITERIA["footrule"], abc, {"cab": torch.tensor([[2.0, 1.0, 3.0]]), "bac": torch.tensor([[2.0, 3.0, 1.0]])})
    assert nearest(found, "batch").tolist() == [1]


def test_rank_biased_overlap_by_hand() -> None:
    """Orders abc and bac share 0 of 1, 2 of 2, 3 of 3 passages: (1-p)(0 + p + p^2) + p^3 = p at p = 0.9 (0.09 + 0.081 + 0.729)."""
    abc, bac, cba = (torch.tensor([row]) for row in ([3.0, 2.0, 1.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]))
    assert rank_biased_overlap(abc, bac, 0.9).item() == pytest.approx(0.1 * (0 / 1 + 0.9 * 2 / 2 + 0.81 * 3 / 3) + 0.729)
    # abc and cba: 0 of 1, b of 2, 3 of 3
    assert rank_biased_overlap(abc, cba, 0.9).item() == pytest.approx(0.1 * (0 / 1 + 0.9 * 1 / 2 + 0.81 * 3 / 3) + 0.729)
    assert rank_biased_overlap(abc, cba, 0.5).item() == pytest.approx(0.5 * (0 / 1 + 0.5 * 1 / 2 + 0.25 * 3 / 3) + 0.125)
    found = distances(CRITERIA["rbo"], abc, {"cba": cba, "bac": bac}, rbo_p=0.9)
    assert nearest(found, "batch").tolist() == [1]  # the larger overlap is the nearer


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.floats(0.1, 0.99), order=st.permutations(range(GROUP)))
def test_rank_criteria_see_ranks_only(seed: int, p: float, order: list[int]) -> None:
    """1.0 (rbo) and 0 (footrule) for one order whatever the scores; group order and monotone transforms never matter."""
    teacher, other = random_scores(seed), random_scores(seed + 1)
    assert torch.allclose(rank_biased_overlap(teacher, 3 * teacher - 7, p), torch.ones(20), atol=1e-5)
    assert (footrule(teacher, teacher.exp()) == 0).all()
    assert torch.equal(footrule(teacher[:, order], other[:, order]), footrule(teacher, other))
    assert torch.allclose(rank_biased_overlap(teacher[:, order], other[:, order], p), rank_biased_overlap(teacher, other, p), atol=1e-5)
    assert (rank_biased_overlap(teacher, other, p) <= 1 + 1e-5).all()


@pytest.mark.parametrize("criterion", NEARNESS)
def test_a_dropped_passage_has_no_part_in_selection(criterion: str) -> None:
    """Distances with one passage dropped are those of the group without it."""
    teacher, other = random_scores(3), random_scores(4)
    kept = everything(teacher)
    kept[:, 2] = False
    rest = [0, 1, 3, 4, 5]
    options = {"rbo_p": 0.9} if criterion == "rbo" else {}
    of = CRITERIA[criterion]
    dropped = distances(of, log_distribution(teacher, kept), {"a": log_distribution(other, kept)}, **options)
    without = distances(of, teacher[:, rest].log_softmax(-1), {"a": other[:, rest].log_softmax(-1)}, **options)
    torch.testing.assert_close(dropped, without)


# --- the registry ---


def test_the_options_of_each_criterion_exist_and_the_names_are_those_that_users_may_give() -> None:
    """A criterion that is registered but cannot be asked for, or asks for an option that is not there, would fail in the first batch."""
    assert {option for criterion in CRITERIA.values() for option in criterion.options} <= set(Distill.model_fields)
    for name in CRITERIA:
        assert Distill(select=name).select == name


def test_a_criterion_has_a_function_where_it_goes_by_nearness_alone() -> None:
    """A random choice with a function would ignore it, nearness without one would fail in the first batch."""
    for wrong in ({}, {"function": footrule, "basis": Basis.CHANCE}):
        with pytest.raises(ValueError, match="needs a function, and another takes none"):
            Criterion(**wrong)
