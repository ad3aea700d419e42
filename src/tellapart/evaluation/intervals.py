"""Intervals: what a number from n pictures says about all pictures. NumPy only."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""


def wilson(hits: float, n: float, *, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (E. B. Wilson, JASA 22, 1927).

    >>> [round(bound, 4) for bound in wilson(98, 100)]
    [0.93, 0.9945]
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def of_mean(values: NDArray[np.float64], groups: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """The interval of a mean, of independent values or of whole groups (N); the whole line for fewer than two.

    By Student's t, with Hall's transformation (P. Hall, J. R. Stat. Soc. B 54, 1992): losses are skewed, and at n = 100
    their normal interval holds in 90 of 100 cases instead of 95. Groups count as one value each, by linearisation.
    """
    mean = float(np.mean(values)) if len(values) else math.nan
    parts = values if groups is None else mean + _by_group(values - mean, groups)
    n = len(parts)
    if n < 2:
        return -math.inf, math.inf
    off = parts - parts.mean()
    error, spread = float(parts.std(ddof=1)) / math.sqrt(n), float((off**2).mean()) ** 1.5
    skew = float((off**3).mean()) / spread / math.sqrt(n) if spread > 0 else 0.0
    far = t_point(n - 1)
    return mean - error * _hall(far, skew), mean - error * _hall(-far, skew)


def _hall(z: float, skew: float) -> float:
    """The point beyond which, with so much skewness over sqrt(n), as much lies as beyond z without."""
    if abs(skew) < 1e-6:
        return z
    return 3 / skew * (float(np.cbrt(1 + skew * (z - skew / 6))) - 1)


def _by_group(far: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """(G): what each group adds to the mean of all (N), times the number of groups."""
    number = np.unique(groups, return_inverse=True)[1]
    return np.bincount(number, far) * (int(number.max()) + 1) / len(far)


def of_share(hits: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """The Wilson interval of the share of hits (N); with groups, of as many independent pictures as they are worth.

    n is divided by the design effect, the variance of the share by groups over that of independent pictures (J. N. K.
    Rao and A. J. Scott, Biometrics 48, 1992), and as that is known from the groups alone, Student's t of as many takes
    the place of the normal point; where all are hits or none is, each group counts as one picture.
    """
    n, total = len(hits), int(np.count_nonzero(hits))
    if groups is None or not n:
        return wilson(total, n)
    share, units = total / n, len(np.unique(groups))
    if not 0 < total < n or units < 2:
        return wilson(share * units, units)
    worth = n / design_effect(hits.astype(np.float64) - share, groups)
    return wilson(share * worth, worth, z=t_point(units - 1))


def design_effect(far: NDArray[np.float64], groups: NDArray[np.int64] | None) -> float:
    """By how much the variance of a mean of deviations (N) by whole groups is that of independent ones; 1 at least."""
    if groups is None:
        return 1.0
    number = np.unique(groups, return_inverse=True)[1]
    of_each, alone = np.bincount(number, far), float((far**2).sum())
    units = len(of_each)
    if units < 2 or alone <= 0:
        return len(far) / max(1, units)
    return max(1.0, float(((of_each - of_each.mean()) ** 2).sum()) * units / (units - 1) / alone)


def resolved(share: float, n: float) -> float:
    """The difference of two accuracies, the better one `share`, that n pictures tell apart in 80 of 100 cases at the
    5 % level, when the mistakes of the two have nothing to do with each other: 2.80 sqrt((p (1 - p) + q (1 - q)) / n).

    >>> round(resolved(0.9, 1000), 4)
    0.0407
    """
    gap = 1.0
    for _ in range(50):
        other = max(0.0, share - gap)
        spread = share * (1 - share) + other * (1 - other)
        gap = (gap + (Z95 + 0.8416212335729143) * math.sqrt(spread / max(n, 1e-9))) / 2
    return min(1.0, gap)


@functools.cache
def t_point(freedom: float) -> float:
    """The 97.5 % point of Student's t. With t = sqrt(f) tan(a) the density of the angle a is as cos(a)^(f - 1).

    >>> round(t_point(4), 3)
    2.776
    """
    if freedom > 1e5:
        return Z95
    # the angles that matter grow narrow as 1 / sqrt(f)
    angles = np.linspace(0.0, min(math.pi / 2, 12 / math.sqrt(freedom)), 40_001)
    heights = np.maximum(0.0, np.cos(angles)) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((heights[1:] + heights[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(0.95 * below[-1], below, angles)))
