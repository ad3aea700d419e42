"""The bootstrap: intervals of numbers that are no proportions, over pictures or over groups of them. NumPy only.

Resamples are drawn with a seed of their own: equal predictions give equal intervals. A statistic takes weights (R A),
how often each of A things is in each of R resamples, and gives (R S) numbers.
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

SEED, MOST, LEAST, DRAWS, AT_ONCE, BLOCKS = 20261122, 2000, 400, 20_000_000, 2_000_000, 200
"""Resamples: as many as DRAWS pictures allow, within these bounds; weights held at once; blocks that are left out."""


def of_pictures(statistic: Statistic, n: int, groups: NDArray[np.int64] | None = None) -> Floats:
    """The 95 % interval (2 S) of statistics of n pictures; of whole groups where `groups` (n) are given."""
    number = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(number.max(initial=-1)) + 1
    if units < 2:
        return _nothing(statistic, n)
    chance, resamples = np.random.Generator(np.random.Philox(SEED)), int(np.clip(DRAWS // n, LEAST, MOST))
    drawn = [statistic(_drawn(chance, rows, units)[:, number]) for rows in _pieces(resamples, n)]
    blocks = min(BLOCKS, units)
    left = [statistic((number % blocks != np.arange(blocks)[some, None]).astype(float)) for some in _slices(blocks, n)]
    return _bca(statistic(np.ones((1, n)))[0], np.concatenate(drawn), np.concatenate(left), np.ones(blocks))


def of_counts(statistic: Statistic, counts: NDArray[np.int64]) -> Floats:
    """The same of counts (A), all above 0, of independent pictures: drawing pictures anew is drawing the counts anew
    from a multinomial distribution.
    """
    n, size = int(counts.sum()), len(counts)
    if n < 2:
        return _nothing(statistic, size)
    chance, shares = np.random.Generator(np.random.Philox(SEED)), counts / n
    drawn = [statistic(chance.multinomial(n, shares, rows).astype(float)) for rows in _pieces(MOST, size)]
    left = [statistic(counts - (np.arange(size) == np.arange(size)[some, None])) for some in _slices(size, size)]
    return _bca(statistic(counts[None].astype(float))[0], np.concatenate(drawn), np.concatenate(left), counts)


def of_shares(statistic: Statistic, shares: Floats, n: int) -> Floats:
    """The percentiles (2 S) of statistics of n pictures that are drawn with these shares (A), up to a factor."""
    chance = np.random.Generator(np.random.Philox(SEED))
    drawn = [
        statistic(chance.multinomial(n, shares / shares.sum(), rows).astype(float))
        for rows in _pieces(MOST, len(shares))
    ]
    return np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)


def _nothing(statistic: Statistic, size: int) -> Floats:
    """One picture, or one group, says nothing of others."""
    return np.outer([-np.inf, np.inf], np.ones(statistic(np.ones((1, size))).shape[1]))


def _drawn(chance: np.random.Generator, rows: int, units: int) -> Floats:
    """How often each of the units (R U) is drawn in as many draws."""
    drawn = chance.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _pieces(resamples: int, size: int) -> Iterator[int]:
    once = max(1, AT_ONCE // size)
    return (min(once, resamples - done) for done in range(0, resamples, once))


def _slices(number: int, size: int) -> Iterator[slice]:
    once = max(1, AT_ONCE // size)
    return (slice(done, min(done + once, number)) for done in range(0, number, once))


def _bca(value: Floats, drawn: Floats, left: Floats, counts: NDArray[Any]) -> Floats:
    """B. Efron's interval with corrected bias and acceleration (JASA 82, 1987): percentiles (2 S) of `drawn` (R S),
    moved by how far their median is off `value` (S) and by the skewness of what leaving things out changes (L S).
    """
    normal, far = NormalDist(), (counts[:, None] * left).sum(0) / counts.sum() - left
    spread = (counts[:, None] * far**2).sum(0)
    skew = np.divide((counts[:, None] * far**3).sum(0), 6 * spread**1.5, where=spread > 0, out=np.zeros_like(value))
    below = ((drawn < value).sum(0) + 0.5 * (drawn == value).sum(0)) / len(drawn)
    bounds = np.empty((2, len(value)))
    for s, share in enumerate(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn))):
        bias = normal.inv_cdf(float(share))
        for end, z in enumerate((-1.959963984540054, 1.959963984540054)):
            moved = bias + (bias + z) / max(1e-3, 1 - float(skew[s]) * (bias + z))
            bounds[end, s] = np.quantile(drawn[:, s], normal.cdf(moved))
    return bounds
