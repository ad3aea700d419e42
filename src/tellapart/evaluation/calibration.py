"""Calibration: whether 90 % means 90 in 100, and the one number that mends it. NumPy only.

C. Guo and others, "On calibration of modern neural networks", ICML 2017.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import design_effect, wilson
from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.resample import SEED

Floats = NDArray[np.float64]
BINS, CHI, DRAWN = 15, 3.841458820694124, 1000
"""Bins of equal size; the 95 % point of chi-squared with one degree of freedom; simulated sets of outcomes."""


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by before softmax, its 95 % interval by the likelihood ratio, and its n."""

    value: float
    low: float
    high: float
    n: int


def temperature(
    logits: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> Temperature:
    """The temperature with the least mean log loss on (N K) and (N), from 1/20 to 20. With groups (N), the likelihood
    counts for as many pictures as they are worth: by the design effect on what each picture pulls the temperature by.

    One picture of no known class is thought beside the N (the rule of succession): where all N are right, the
    likeliest temperature would be 0, and every answer sure.
    """
    values, n = np.asarray(logits, np.float64), len(labels)
    values = values - values.max(1, keepdims=True)
    wanted = values[np.arange(n), labels] * n / (n + 1) + values.mean(1) / (n + 1)

    def loss(log_t: float) -> float:
        cooled = np.exp(-log_t)
        return float((np.log(np.exp(values * cooled).sum(1)) - wanted * cooled).sum())

    ends = (-np.log(20.0), np.log(20.0))
    best = _lowest(loss, *ends)
    heat = np.exp(values * np.exp(-best))
    pulls = wanted - (heat / heat.sum(1, keepdims=True) * values).sum(1)
    allowed = CHI / 2 * design_effect(pulls - pulls.mean(), groups)
    rises = lambda log_t: loss(log_t) - loss(best) - allowed  # noqa: E731
    low = _root(rises, best, ends[0])
    best_t, low_t, high_t = (float(np.exp(x)) for x in (best, low, _root(rises, best, ends[1])))
    return Temperature(best_t, low_t, high_t, n)


def _lowest(of, low: float, high: float) -> float:
    """Where a function with one valley is lowest, by thirds, to a thousandth of the temperature."""
    while high - low > 1e-4:
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if of(a) < of(b) else (a, high)
    return (low + high) / 2


def _root(of, inside: float, outside: float) -> float:
    """Where a function that is below 0 inside comes to 0; the outer end where it never does."""
    if of(outside) < 0:
        return outside
    for _ in range(30):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if of(middle) < 0 else (inside, middle)
    return (inside + outside) / 2


@dataclass(frozen=True)
class Bin:
    """Pictures that were answered about as surely: how many, how surely on average, how often rightly (Wilson)."""

    n: int
    sure: float
    right: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """Bins of equal size by the probability of the answer; the expected calibration error over them, the error that 95
    of 100 perfectly calibrated models stay below on so many pictures, and what chance moves this one's by as often.
    """

    bins: tuple[Bin, ...]
    error: float
    by_chance: float
    wobble: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the error of all pictures: what chance adds to it or hides is seldom more than `wobble`. The bootstrap
        does not know that chance only ever adds: of 100 of its intervals, 27 held at n = 300.
        """
        return max(0.0, self.error - self.wobble), min(1.0, self.error + self.wobble)

    @property
    def calibrated(self) -> bool:
        """Whether the error is one that a calibrated model may have."""
        return self.error <= self.by_chance


def reliability(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    at: float = 1.0,
    groups: NDArray[np.int64] | None = None,
) -> Reliability:
    """How sure and how right the answers of (N K) are, at a temperature; with groups (N), chance is as much larger as
    the design effect says.

    The bound of chance comes from outcomes drawn with the stated probabilities (J. Broecker and L. Smith, Weather and
    Forecasting 22, 2007).
    """
    shares = softmax(np.asarray(logits, np.float64) / at)
    said, sure = shares.argmax(1), shares.max(1)
    order = np.argsort(sure, kind="stable")
    sure, right = sure[order], (said == labels)[order]
    edges = np.unique(np.linspace(0, len(sure), min(BINS, max(1, len(sure))) + 1).astype(int))[:-1]
    sizes = np.diff(np.append(edges, len(sure)))
    often = (np.add.reduceat(right.astype(float), edges) + 0.5) / (sizes + 1)
    wider = design_effect(right - sure, None if groups is None else groups[order]) ** 0.5
    chance, wobble = (wider * _drawn(shares, edges) for shares in (sure, np.repeat(often, sizes)))
    hits, means = np.add.reduceat(right.astype(int), edges), np.add.reduceat(sure, edges) / sizes
    bins = tuple(
        Bin(int(n), float(mean), int(hit) / int(n), *wilson(int(hit), int(n)))
        for n, mean, hit in zip(sizes, means, hits, strict=True)
    )
    return Reliability(bins, _error(right, sure, edges), chance, wobble, len(sure))


def _drawn(shares: Floats, edges: NDArray[np.int64]) -> float:
    """The error that outcomes drawn with these chances (N) stay below in 95 of 100 cases, against the same chances."""
    chance = np.random.Generator(np.random.Philox(SEED))
    drawn = [_error(chance.random(len(shares)) < shares, shares, edges) for _ in range(DRAWN)]
    return float(np.quantile(drawn, 0.95))


def _error(right: NDArray[np.bool_], sure: Floats, edges: NDArray[np.int64]) -> float:
    """sum_b n_b / N |mean sure - share right| over the bins that begin at `edges`."""
    return float(np.abs(np.add.reduceat(sure - right, edges)).sum()) / len(sure)
