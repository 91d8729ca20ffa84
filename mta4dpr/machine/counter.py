"""A counter-based generator: every draw is a pure function of integers such as (seed, round, epoch, query)."""

from __future__ import annotations

from typing import Any

import numpy as np


def mix(*numbers: np.ndarray | int) -> np.ndarray:
    """A 64-bit hash of integers, uint64 in the shape to which the arguments broadcast.

    SplitMix64's finaliser after each argument (Steele, Lea and Flood 2014); equal on every machine.
    """
    state: Any = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for number in numbers:
            state = (state ^ np.asarray(number).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9) + np.uint64(0x9E3779B97F4A7C15)
            state ^= state >> np.uint64(30)
            state = state * np.uint64(0xBF58476D1CE4E5B9)
            state ^= state >> np.uint64(27)
            state = state * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return np.asarray(state)
