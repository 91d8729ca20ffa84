"""The counter-based generator: the same numbers on every machine, spread evenly, each integer of the counter felt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta4dpr.machine.counter import mix

WORD = 2**64 - 1


def slow_mix(*numbers: int) -> int:
    """In Python's own integers: SplitMix64's two multiplications and three shifts, after a step of its counter."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = ((state ^ (number & WORD)) * 0xBF58476D1CE4E5B9 + 0x9E3779B97F4A7C15) & WORD
        state ^= state >> 30
        state = state * 0xBF58476D1CE4E5B9 & WORD
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & WORD
        state ^= state >> 31
    return state


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
def test_mix_is_that_of_pythons_integers(numbers: list[int]) -> None:
    """Overflow is wanted, and must be the same everywhere."""
    assert int(mix(*numbers)) == slow_mix(*numbers)


def test_mix_never_changes() -> None:
    """Groups, random choices and dropout stand on these numbers: a run must be repeatable by a later version."""
    assert [int(mix(0)), int(mix(3, 1)), int(mix(3, 9, 4, 0, 2))] == [14467056895137714718, 9714246438637881353, 15972211941444783688]


def test_mix_takes_arrays_element_by_element() -> None:
    """Arrays broadcast as numpy's do; each element is that of its own integers, whatever stands beside it."""
    found = mix(7, np.arange(4)[:, None], np.arange(3, dtype=np.int32))
    assert found.shape == (4, 3)
    assert found.dtype == np.uint64
    assert all(int(found[i, j]) == slow_mix(7, i, j) for i in range(4) for j in range(3))


@pytest.mark.parametrize("place", range(3))
def test_each_bit_of_each_number_changes_half_of_the_result(place: int) -> None:
    """Neighbouring seeds, steps and queries give unrelated draws: one flipped bit turns about 32 of 64."""
    base = [5, 100, 2**20 + 7]
    for bit in range(0, 40, 3):
        other = list(base)
        other[place] ^= 1 << bit
        differing = (int(mix(*base)) ^ int(mix(*other))).bit_count()
        assert 14 <= differing <= 50  # four and a half standard deviations


def test_order_and_number_of_the_integers_count() -> None:
    """(seed, round) is not (round, seed), and a 0 more is another counter."""
    values = [int(mix(*numbers)) for numbers in ((1, 2), (2, 1), (1,), (1, 0), (0, 1), (1, 0, 0))]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("top", [True, False])
def test_top_and_low_bits_are_even(top: bool) -> None:
    """Fractions come of the top bits, choices by remainder of the low ones."""
    values = mix(11, np.arange(16384))
    parts = (values >> np.uint64(60) if top else values & np.uint64(15)).astype(int)
    counts = np.bincount(parts, minlength=16)
    assert abs(counts - 1024).max() < 4.5 * np.sqrt(1024 * 15 / 16)


def test_mix_has_no_bias_in_its_top_bits() -> None:
    """Consecutive counters must look independent: 53 top bits as numbers in [0, 1) have mean 1/2 and spread evenly over 16 bins."""
    numbers = (mix(1, 2, np.arange(16000), 3) >> np.uint64(11)) * 2.0**-53
    assert len(set(numbers.tolist())) == 16000
    counts = np.bincount((numbers * 16).astype(int), minlength=16)
    assert ((counts - 1000) ** 2 / 1000).sum() < 44.3  # 15 degrees, 0.9999
    assert int(mix(1, 2)) != int(mix(2, 1))
