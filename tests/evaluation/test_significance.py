"""Bootstrap intervals and paired tests, against hand calculation and scipy."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from mta4dpr.errors import UserError
from mta4dpr.evaluation import significance
from mta4dpr.evaluation.significance import compare, detectable_difference, intervals

A = np.array([0.9, 0.5, 0.7, 0.4, 1.0, 0.2])
B = np.array([0.5, 0.5, 0.2, 0.6, 0.3, 0.1])
C = np.array([0.8, 0.6, 0.6, 0.4, 0.9, 0.3])


def random_values(columns: int, queries: int) -> np.ndarray:
    return np.random.default_rng(7).random((columns, queries))


def test_interval_against_a_plain_bootstrap() -> None:
    """The same resamples, written as one would on paper: draw, average, take percentiles."""
    values = random_values(3, 50)
    drawn = np.random.default_rng(4).integers(0, 50, (2000, 50))
    expected = np.quantile(values[:, drawn].mean(axis=2), [0.025, 0.975], axis=1).T
    assert intervals(values, resamples=2000, seed=4) == pytest.approx(expected, abs=1e-10)


def test_interval_agrees_with_theory() -> None:
    """For many queries the percentile interval is the normal one: mean +- 1.96 standard errors."""
    values = random_values(1, 2000)
    low, high = intervals(values)[0]
    error = values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)


def test_a_columns_interval_depends_on_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: not on the other columns, their order, the memory at hand; a new system must not move an old one's row."""
    values = random_values(17, 301)
    together = intervals(values, resamples=500)
    assert (intervals(values[5:6], resamples=500) == together[5]).all()
    assert (intervals(values[::-1], resamples=500)[::-1] == together).all()
    monkeypatch.setattr(significance, "CHUNK", 1000)
    assert (intervals(values, resamples=500) == together).all()


def test_seed_decides_the_interval() -> None:
    values = random_values(1, 40)
    assert (intervals(values, seed=1) == intervals(values, seed=1)).all()
    assert (intervals(values, seed=1) != intervals(values, seed=2)).any()


def test_constant_columns_have_exact_intervals() -> None:
    assert intervals(np.array([[0.3, 0.3, 0.3], [0.0, 0.0, 0.0]])).tolist() == [[0.3, 0.3], [0.0, 0.0]]
    assert intervals(np.array([[0.7]])).tolist() == [[0.7, 0.7]]


def test_intervals_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        intervals(np.empty((2, 0)))
    with pytest.raises(ValueError, match="finite"):
        intervals(np.array([[np.nan, 1.0]]))


def test_memory_is_bounded() -> None:
    """10,000 resamples of 6,980 queries in one piece would be 560 MB."""
    tracemalloc.start()
    intervals(random_values(4, 6980), resamples=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


def test_comparison_by_hand() -> None:
    """a - b = 0.4, 0, 0.5, -0.2, 0.7, 0.1: mean 0.25, four wins, one tie, one loss."""
    (comparison,) = compare({"a": A, "b": B}, [("a", "b")], family="planned", randomisation=1000)
    difference = np.array([0.4, 0, 0.5, -0.2, 0.7, 0.1])
    assert comparison.difference == pytest.approx(0.25, abs=1e-15)
    assert (comparison.wins, comparison.ties, comparison.losses) == (4, 1, 1)
    assert comparison.effect_size == pytest.approx(0.25 / difference.std(ddof=1), abs=1e-12)
    assert comparison.p == pytest.approx(stats.ttest_rel(A, B).pvalue, abs=1e-15)
    assert comparison.p_holm == comparison.p
    assert comparison.ci95 == pytest.approx(tuple(intervals(A - B)[0]))
    assert comparison.family == "planned"


def test_holm_by_hand() -> None:
    """Sorted p times 3, 2, 1, never falling, at most 1; in the order of the contrasts."""
    contrasts = [("a", "b"), ("a", "c"), ("c", "b")]
    comparisons = compare({"a": A, "b": B, "c": C}, contrasts, family="planned", randomisation=100)
    assert [(c.a, c.b) for c in comparisons] == contrasts
    p = np.array([c.p for c in comparisons])
    expected, running = np.empty(3), 0.0
    for factor, i in zip((3, 2, 1), np.argsort(p), strict=True):
        running = max(running, min(1.0, factor * p[i]))
        expected[i] = running
    assert [c.p_holm for c in comparisons] == pytest.approx(expected)
    assert len(set(p)) == 3


def test_randomisation_against_all_sign_flips() -> None:
    """Six queries have 64 sign patterns: the exact p can be listed. 100,000 random ones come within 0.005 (three standard errors)."""
    difference = A - B
    sums = [abs(float(np.dot(signs, difference))) for signs in itertools.product([1, -1], repeat=6)]
    exact = np.mean([total >= abs(difference.sum()) - 1e-12 for total in sums])
    (comparison,) = compare({"a": A, "b": B}, [("a", "b")], family="x")
    assert comparison.p_randomisation == pytest.approx(exact, abs=0.005)
    assert comparison.p_randomisation != compare({"a": A, "b": B}, [("a", "b")], family="x", seed=1)[0].p_randomisation


def test_randomisation_is_never_zero() -> None:
    """(count + 1) / (n + 1): the observed order is one of the flips."""
    above = np.linspace(0.5, 1, 60)
    (comparison,) = compare({"a": above, "b": np.zeros(60)}, [("a", "b")], family="x", randomisation=999)
    assert comparison.p_randomisation == 1 / 1000


def test_a_comparison_depends_on_its_pair_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but Holm's correction: bit for bit, with other contrasts beside it or with less memory."""
    values = {name: column for name, column in zip("abc", random_values(3, 203), strict=True)}
    alone = compare(values, [("a", "b")], family="x", randomisation=3000)[0]
    monkeypatch.setattr(significance, "CHUNK", 5000)
    beside = compare(values, [("c", "a"), ("a", "b")], family="x", randomisation=3000)[1]
    assert (alone.p, alone.ci95, alone.p_randomisation) == (beside.p, beside.ci95, beside.p_randomisation)


def test_equal_systems() -> None:
    """All differences zero: scipy says NaN, which is no answer."""
    (comparison,) = compare({"a": A, "b": A.copy()}, [("a", "b")], family="x", randomisation=100)
    assert (comparison.p, comparison.p_holm, comparison.p_randomisation, comparison.effect_size) == (1.0, 1.0, 1.0, 0.0)
    assert (comparison.difference, comparison.ci95, comparison.ties) == (0.0, (0.0, 0.0), 6)


def test_one_query_decides_nothing() -> None:
    (comparison,) = compare({"a": A[:1], "b": B[:1]}, [("a", "b")], family="x", randomisation=100)
    assert (comparison.p, comparison.effect_size, comparison.detectable) == (1.0, 0.0, None)


def test_differences_that_do_not_vary() -> None:
    """0.3 - 0.2 and 0.5 - 0.4 differ in the last bit only: no effect size of 1e15."""
    (comparison,) = compare({"a": np.array([0.3, 0.5, 0.9]), "b": np.array([0.2, 0.4, 0.8])}, [("a", "b")], family="x", randomisation=100)
    assert (comparison.p, comparison.effect_size, comparison.detectable) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("queries", [2, 5, 43, 6980])
def test_detectable_difference_has_the_power_it_claims(queries: int) -> None:
    """Against statsmodels' power of the one-sample t-test, which solves nothing here: it only evaluates."""
    from statsmodels.stats.power import TTestPower

    detectable = detectable_difference(0.25, queries)
    assert detectable is not None
    assert TTestPower().power(detectable / 0.25, queries, 0.05) == pytest.approx(0.8, abs=1e-6)


def test_detectable_difference_by_simulation() -> None:
    """Normal differences around the detectable one: about 80 % of 4,000 experiments are significant (standard error 0.6 %)."""
    detectable = detectable_difference(1.0, 20)
    assert detectable is not None
    samples = np.random.default_rng(3).normal(detectable, 1.0, (4000, 20))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.025)


def test_contrasts_with_unknown_systems_and_none() -> None:
    with pytest.raises(UserError, match="did you mean 'kd'"):
        compare({"kd": A, "bm25": B}, [("kdd", "bm25")], family="x")
    assert compare({"kd": A}, [], family="x") == []
