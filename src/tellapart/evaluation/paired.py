"""Two models on the same pictures: by how much one is better, how sure that is, and what could be seen. NumPy only.

`won` and `lost` are how many pictures the second model alone, and the first alone, got right; gains (N) are what the
second got right of each picture less what the first did. Groups (N) are numbers: pictures of one are not independent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import Z95, of_mean, t_point

Floats = NDArray[np.float64]
Interval = tuple[float, float]

SEED, LEAST, DRAWS = 20261122, 400, 40_000_000
"""Chance here has a seed of its own, so that equal predictions give equal numbers; throws: as many as DRAWS pictures
allow, and so many at least."""
LEVEL, POWER = 0.05, 0.8
MID_P, FLIPS = "McNemar mid-p", "sign-flip mid-p"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The second model less the first on n pictures, with 95 % intervals.

    `difference` is of the accuracy, `loss` of the mean loss (None for one picture or group, or if it is not finite);
    `p` is two-sided, by `test`; `adjusted` is p after Holm's correction for all comparisons made; `resolves` is the
    smallest difference that this many pictures show with a power of 80 %.
    """

    n: int
    won: int
    lost: int
    difference: float
    low: float
    high: float
    test: str
    p: float
    adjusted: float
    resolves: float
    loss: tuple[float, float, float] | None

    @property
    def told_apart(self) -> bool:
        """Whether a difference is shown: by the test after Holm's correction, and by the interval."""
        return self.adjusted < LEVEL and not self.low <= 0 <= self.high


def paired(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], groups: NDArray[np.int64] | None = None
) -> Paired:
    """Compare what two models got right of each picture (N; a mean over trainings may lie between 0 and 1) and their
    losses (N). Single trainings of independent pictures are judged by McNemar's test and Tango's interval; means over
    trainings, and pictures in groups, by flipping signs and the spread over pictures or groups.
    """
    gains, losses = second[0] - first[0], second[1] - first[1]
    n, won, lost = len(gains), *majorities(first[0], second[0]).T.sum(axis=1).tolist()
    if groups is None and np.isin(gains, (-1, 0, 1)).all():
        (low, high), test, p = tango(won, lost, n), MID_P, mcnemar(won, lost)
        resolves = resolved(n, (won + lost) / n)
    else:
        (low, high), resolves = of_gains(gains, groups)
        test, p = FLIPS, sign_flips(gains, groups)
    loss = None
    if np.isfinite(losses).all() and len(_units(losses, groups)[0]) > 1:
        loss = (float(losses.mean()), *of_mean(losses, groups))
    value = float(gains.mean())
    found = {"n": n, "won": won, "lost": lost, "difference": value, "low": low, "high": high, "loss": loss}
    return Paired(**found, test=test, p=p, adjusted=p, resolves=resolves)


def majorities(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """(N 2): whether the second model won a picture, and whether it lost it: more than half of its trainings were right
    and more than half of the other's wrong.
    """
    return np.stack([(second > 0.5) & (first < 0.5), (first > 0.5) & (second < 0.5)], axis=1)


def mcnemar(won: int, lost: int) -> float:
    """The two-sided mid-p of McNemar's test: 2 P(X < k) + P(X = k), X binomial(won + lost, 1/2), k the smaller count.

    M. W. Fagerland, S. Lydersen, P. Laake, BMC Med. Res. Methodol. 13:91, 2013: nearer to its level than the exact test
    and the one with chi squared, also for few pairs.

    >>> round(mcnemar(1, 7), 4)
    0.0391
    """
    n, k = won + lost, np.arange(min(won, lost) + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(n, n - len(k) + 1, -1)) - np.log(k[1:]))])
    chances = np.exp(logs - n * math.log(2))
    return min(1.0, float(2 * chances.sum() - chances[-1]))


def tango(won: int, lost: int, n: int) -> Interval:
    """The score interval of (won - lost) / n: the differences that a score test does not refuse.

    T. Tango, Stat. Med. 17, 1998. In simulations nearer to 95 % than Newcombe's for pairs (docs/compare.md).

    >>> [round(bound, 3) for bound in tango(12, 4, 100)]
    [0.002, 0.166]
    """

    def refused(at: float) -> bool:
        a, b, c = 2 * n, (2 * n - won + lost) * at - won - lost, -lost * at * (1 - at)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        return (won - lost - n * at) ** 2 > Z95**2 * n * (2 * share + at * (1 - at))

    value = (won - lost) / n
    return _edge(refused, value, -1.0), _edge(refused, value, 1.0)


def _edge(refused: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where `refused` begins between the two, by halving."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if refused(middle) else (middle, outside)
    return inside


def power(difference: float, n: int, discordant: float) -> float:
    """How often n pictures show a true difference, where a share `discordant` of them is answered rightly by one model
    alone: Phi((d sqrt n - z sqrt s) / sqrt(s - d^2)) (R. J. Connor, Biometrics 43, 1987).
    """
    spread = math.sqrt(max(1e-12, discordant - difference**2))
    return NormalDist().cdf((difference * math.sqrt(n) - Z95 * math.sqrt(discordant)) / spread)


def resolved(n: int, discordant: float) -> float:
    """The smallest difference of accuracy that n pictures show with a power of 80 %; 1 where none is.

    >>> round(resolved(540, 0.08), 3)
    0.034
    """
    return _edge(lambda d: d < 1 and power(d, n, max(d, discordant)) < POWER, 1.0, 0.0)


def of_gains(gains: Floats, groups: NDArray[np.int64] | None) -> tuple[Interval, float]:
    """The interval of the mean gain from its spread over pictures or groups, and the difference that could be seen.

    One unit that is won and one that is lost are added, as far as those seen were, else as a whole (after D. G. Bonett,
    R. M. Price, J. Educ. Behav. Stat. 37, 2012), so that models without a difference on these pictures are not called
    equal on all; Student's t with the number of units less one.
    """
    sums, sizes = _units(gains, groups)
    seen, one = sums[np.abs(sums) > 1e-12], float(sizes.mean())
    far = math.sqrt(float((seen**2).mean())) if len(seen) else one
    sums, sizes = np.append(sums, [far, -far]), np.append(sizes, [one, one])
    units, n = len(sums), float(sizes.sum())
    mean = float(sums.sum()) / n
    error = math.sqrt(float(((sums - mean * sizes) ** 2).sum()) * units / (units - 1)) / n
    half = t_point(units - 3) * error if units > 3 else math.inf
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    value = float(gains.mean())
    return (min(low, value), max(high, value)), min(1.0, half + NormalDist().inv_cdf(POWER) * error)


def _units(values: Floats, groups: NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """The sum and the size of each unit: a picture, or a group."""
    if groups is None:
        return values, np.ones(len(values))
    number = np.unique(groups, return_inverse=True)[1]
    return np.bincount(number, values).astype(np.float64), np.bincount(number).astype(np.float64)


def sign_flips(gains: Floats, groups: NDArray[np.int64] | None = None) -> float:
    """How often a sum of gains farther from 0 comes about, and half of how often one as far, when the sign of each unit
    is thrown anew: the two models changed places there (R. A. Fisher, The Design of Experiments, 1935). Of single
    pictures it is McNemar's mid-p. All throws of up to 12 units, else a sample.
    """
    sums = _units(gains, groups)[0]
    sums = np.abs(sums[np.abs(sums) > 1e-12])
    far, units = abs(float(gains.sum())), len(sums)
    if far < 1e-9:
        return 1.0
    if units <= 12:
        signs = 1.0 - 2.0 * (np.arange(2**units)[:, None] >> np.arange(units) & 1)
        return _beyond(signs @ sums, far)
    chance, throws = np.random.Generator(np.random.Philox(SEED)), int(np.clip(DRAWS // units, LEAST, 9999))
    pieces = np.array_split(np.arange(throws), throws * units // 2_000_000 + 1)
    up = np.concatenate([chance.integers(0, 2, (len(piece), units), np.int8) @ sums for piece in pieces])
    thrown = 2 * up - sums.sum()
    return (throws * _beyond(thrown, far) + 1) / (throws + 1)


def _beyond(thrown: Floats, far: float) -> float:
    ends = np.abs(thrown) - far
    return float((ends > 1e-9).mean() + (np.abs(ends) <= 1e-9).mean() / 2)


def holm(ps: Sequence[float]) -> list[float]:
    """The p of several comparisons, adjusted so that one in twenty finds any false difference (S. Holm, Scand. J. Stat.
    6, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    found, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        largest = found[place] = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
    return found


def over_trainings(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """The mean of the second less that of the first, with its interval over trainings, two or more of each.

    B. L. Welch, Biometrika 34, 1947. Other seeds would lie in it; it knows nothing of other pictures.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    shares = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    total, value = float(sum(shares)), float(b.mean() - a.mean())
    if total == 0:
        return value, value, value
    freedom = total**2 / float(shares[0] ** 2 / (len(a) - 1) + shares[1] ** 2 / (len(b) - 1))
    half = t_point(freedom) * math.sqrt(total)
    return value, value - half, value + half
