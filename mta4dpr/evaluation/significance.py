"""Intervals and paired tests over per-query values. Knows arrays of numbers only: no runs, no measures, no files.

Everything is a function of the numbers and the seed, to the last bit: sums of resampled values are made exact (see `_on_exact_grid`), so
neither BLAS, nor threads, nor the other columns of a table change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mta4dpr.errors import UserError, nearest

ALPHA = 0.05
POWER = 0.8
CHUNK = 4_000_000
"""Random numbers held at a time: about 100 MB with what is made of them."""


@dataclass(frozen=True)
class Comparison:
    """System `a` against system `b` over the same queries.

    difference        mean of a - mean of b
    ci95              percentile bootstrap of the paired difference
    p                 paired two-sided t-test
    p_holm            p, corrected by Holm (1979) over the contrasts of `family`
    p_randomisation   two-sided sign flips (Fisher's randomisation test; Smucker et al., CIKM 2007)
    effect_size       Cohen's d of the paired differences (mean / standard deviation); 0 when they do not vary
    detectable        smallest |difference| that the t-test at 0.05 finds with power 0.8, given how these vary; None for one query
    wins ties losses  queries where a is above, equal to, below b
    """

    a: str
    b: str
    difference: float
    ci95: tuple[float, float]
    p: float
    p_holm: float
    p_randomisation: float
    effect_size: float
    detectable: float | None
    wins: int
    ties: int
    losses: int
    family: str


def intervals(values: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """(columns, queries) -> (columns, 2): 95 % percentile bootstrap of each column's mean over queries.

    All columns share the resampled queries, which depend on the seed and the number of queries alone.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    _, queries = values.shape
    if not queries or not np.isfinite(values).all():
        raise ValueError(f"expected finite values of at least one query, found shape {values.shape}")
    grid, step = _on_exact_grid(values)
    sums = np.concatenate([counts @ grid.T for counts in _resampled_counts(queries, resamples, seed)])  # (resamples, columns)
    limits = np.quantile(sums, [ALPHA / 2, 1 - ALPHA / 2], axis=0).T * (step / queries)[:, None]
    constant = np.ptp(values, axis=1) == 0
    limits[constant] = values[constant, :1]
    return limits


def compare(
    values: Mapping[str, np.ndarray],
    contrasts: Sequence[tuple[str, str]],
    *,
    family: str,
    seed: int = 0,
    resamples: int = 10_000,
    randomisation: int = 100_000,
) -> list[Comparison]:
    """Paired tests for `contrasts` (pairs of systems), in their order; Holm's correction is over exactly these.

    values: per-query values of each system, (queries,), the same queries in the same order. `family` says what the contrasts are
    ('planned', 'exploratory') and goes onto each comparison.
    """
    from statsmodels.stats.multitest import multipletests

    if not contrasts:
        return []
    for name in {name for contrast in contrasts for name in contrast}:
        if name not in values:
            at_hand = list(values)
            raise UserError(
                f"expected a contrast between systems at hand, found {name!r}{nearest(name, at_hand)}; at hand: {', '.join(at_hand)}"
            )
    first, second = (np.array([values[contrast[side]] for contrast in contrasts], np.float64) for side in (0, 1))  # (contrasts, queries)
    differences = first - second
    ci95 = intervals(differences, resamples=resamples, seed=seed)
    p = [_paired_t_test(a, b) for a, b in zip(first, second, strict=True)]
    p_holm = multipletests(p, alpha=ALPHA, method="holm")[1]
    p_randomisation = _sign_flip_p(differences, randomisation, seed)
    comparisons = []
    for i, (a, b) in enumerate(contrasts):
        deviation = _deviation(first[i], second[i])
        difference = float(first[i].mean() - second[i].mean())
        comparisons.append(
            Comparison(
                a=a,
                b=b,
                difference=difference,
                ci95=(float(ci95[i, 0]), float(ci95[i, 1])),
                p=p[i],
                p_holm=float(p_holm[i]),
                p_randomisation=float(p_randomisation[i]),
                effect_size=float(differences[i].mean() / deviation) if deviation else 0.0,
                detectable=detectable_difference(deviation, differences.shape[1]),
                wins=int((differences[i] > 0).sum()),
                ties=int((differences[i] == 0).sum()),
                losses=int((differences[i] < 0).sum()),
                family=family,
            )
        )
    return comparisons


def most_different(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Positions of the queries on which two systems differ, most first, those that differ as much in their order."""
    size = np.abs(a - b)
    order = np.argsort(-size, kind="stable")
    return order[: int(np.count_nonzero(size))]


def detectable_difference(deviation: float, queries: int) -> float | None:
    """Smallest |mean difference| that a paired two-sided t-test at 0.05 finds with power 0.8; None below two queries.

    Exact: under the alternative the statistic is noncentral t with queries - 1 degrees of freedom, its square (both tails at once)
    noncentral F; the noncentrality, (difference / deviation * sqrt(queries))**2, is solved for.
    """
    if queries < 2:
        return None
    if not deviation:
        return 0.0
    from scipy.optimize import brentq
    from scipy.stats import ncf, t

    freedom = queries - 1
    critical = t.isf(ALPHA / 2, freedom)

    def lacking(noncentrality: float) -> float:
        return float(ncf.sf(critical**2, 1, freedom, noncentrality) - POWER)

    noncentrality = brentq(lacking, 1e-3, (2 * critical + 4) ** 2, xtol=1e-10)
    return float(np.sqrt(noncentrality / queries) * deviation)


def _paired_t_test(a: np.ndarray, b: np.ndarray) -> float:
    """p; 1.0 when all differences are zero or there are fewer than two queries, 0.0 when all are the same and not zero."""
    from scipy.stats import ttest_rel

    if len(a) < 2 or (a == b).all():
        return 1.0
    if not _deviation(a, b):
        return 0.0
    return float(ttest_rel(a, b).pvalue)


def _deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Standard deviation (n - 1) of a - b; 0 when it is only the rounding of the subtraction."""
    if len(a) < 2:
        return 0.0
    deviation = float((a - b).std(ddof=1))
    return deviation if deviation > 1e-12 * max(np.abs(a).max(), np.abs(b).max()) else 0.0


def _sign_flip_p(differences: np.ndarray, flips: int, seed: int) -> np.ndarray:
    """(contrasts, queries) -> (contrasts,): (1 + flips whose |sum| reaches the observed) / (1 + flips). All contrasts share the signs."""
    contrasts, queries = differences.shape
    grid, _ = _on_exact_grid(differences)
    observed = grid.sum(axis=1)
    reached = np.zeros(contrasts, np.int64)
    generator = np.random.default_rng([seed, 1])  # not the stream of the bootstrap
    for rows in _chunks(flips, queries):
        bits = np.unpackbits(generator.integers(0, 256, (rows, -(-queries // 8)), np.uint8), axis=1, count=queries)  # (rows, queries)
        kept = bits.astype(np.float64) @ grid.T  # (rows, contrasts): the sum of the differences that keep their sign
        reached += (np.abs(2 * kept - observed) >= np.abs(observed)).sum(axis=0)
    return (reached + 1) / (flips + 1)


def _resampled_counts(queries: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(rows, queries) float64 blocks, `resamples` rows in all: how often each query was drawn."""
    generator = np.random.default_rng(seed)
    for rows in _chunks(resamples, queries):
        drawn = generator.integers(0, queries, (rows, queries))
        drawn += np.arange(rows)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries).astype(np.float64)


def _chunks(rows: int, width: int) -> Iterator[int]:
    """Sizes of blocks of rows, at most CHUNK numbers each, that add up to `rows`."""
    size = max(1, CHUNK // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _on_exact_grid(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (as float64) and a step for each column (row) such that integers * step is `values`, nearly.

    The step is a power of two so coarse that every sum of at most 2 * queries of the integers stays below 2**53: such sums are exact in any
    order, hence the same for every BLAS and thread count. The rounding is below 1e-11 of the largest value up to 100,000 queries.
    """
    _, queries = values.shape
    largest = np.abs(values).max(axis=1)
    exponent = np.ceil(np.log2(np.where(largest > 0, largest, 1.0))) + np.ceil(np.log2(2 * queries)) - 52
    step = np.exp2(exponent)
    return np.rint(values / step[:, None]), step
