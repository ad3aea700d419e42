"""Slices: the accuracy of some of the pictures against that of the rest. Pure, from stored predictions. NumPy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.metrics import Figure, difference, share

FEWEST, MOST, QUARTERS = 5, 20, 4
"""Pictures of a slice that is worth a line; different values up to which numbers are taken for names; else quarters."""


@dataclass(frozen=True)
class Slice:
    """Pictures with one value: their accuracy, how far it is off that of the rest with its interval, and whether that
    is sure, given how many slices were looked at (Holm's method, Scand. J. Stat. 6, 1979).
    """

    figure: Figure
    off: float
    low: float
    high: float
    sure: bool


def slices(
    hits: NDArray[np.bool_], values: Sequence[str], part: str, *, groups: NDArray[np.int64] | None = None
) -> list[Slice]:
    """The slices of pictures that are right or not (N), by a value of each (N): the worst first, numbers in order.

    Numbers of more than MOST values become quarters. '' stands for no value, and is a slice too.
    """
    names, numbers = np.array(binned(values)), np.array([_number(value) for value in values])
    found = [
        _slice(hits, names == name, name, part, groups)
        for name in dict.fromkeys(names[np.argsort(numbers, kind="stable")].tolist())
    ]
    found = [one for one in found if FEWEST <= one.figure.n <= len(hits) - FEWEST]
    doubts = np.array([_doubt(one) for one in found])
    sure, worst = np.zeros(len(found), bool), 0.0
    for rank, at in enumerate(np.argsort(doubts, kind="stable")):
        worst = max(worst, doubts[at] * (len(found) - rank))
        sure[at] = worst < 0.05
    marked = [replace(one, sure=bool(is_sure)) for one, is_sure in zip(found, sure, strict=True)]
    if np.isnan(numbers[names != ""]).any():
        marked.sort(key=lambda one: one.figure.value)
    return marked


def _slice(
    hits: NDArray[np.bool_], chosen: NDArray[np.bool_], name: str, part: str, groups: NDArray[np.int64] | None
) -> Slice:
    own, rest = (
        share("accuracy", hits[some], part, name or "(none)", groups=None if groups is None else groups[some])
        for some in (chosen, ~chosen)
    )
    low, high = difference(own, rest) if rest.n and own.n else (-math.inf, math.inf)
    return Slice(own, own.value - rest.value, low, high, sure=False)


def _doubt(one: Slice) -> float:
    """The two-sided p-value that belongs to the interval: of so many standard errors as zero is away."""
    error = (one.high - one.low) / 2 / 1.959963984540054
    return 2 * NormalDist().cdf(-abs((one.low + one.high) / 2) / error) if error > 0 else 1.0


def binned(values: Sequence[str]) -> list[str]:
    """Numbers of many values as the quarter they lie in: '0.31 to 0.58'; everything else as it is.

    >>> binned(["a", "b"])
    ['a', 'b']
    """
    numbers = np.array([_number(value) for value in values])
    there = np.isfinite(numbers)
    filled = np.array([bool(value) for value in values], bool)
    if not there.any() or (filled & ~there).any() or len(np.unique(numbers[there])) <= MOST:
        return list(values)
    edges = np.unique(np.quantile(numbers[there], np.linspace(0, 1, QUARTERS + 1)))
    which = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    named = [f"{_rounded(low)} to {_rounded(high)}" for low, high in pairwise(edges)]
    return [named[k] if ok else "" for k, ok in zip(which.tolist(), there.tolist(), strict=True)]


def _rounded(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
