"""Two models on the same pictures, which may have several classes each: by how much the scores of one are better.
NumPy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.resample import Floats, of_pictures
from tellapart.evaluation.scores import ratio

Marks, Logits = NDArray[np.bool_], NDArray[np.floating]
SCORES = ("mean average precision", "micro F1")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A score of the second model less that of the first, with its 95 % interval by the paired bootstrap."""

    name: str
    difference: float
    low: float
    high: float


def gains(
    logits: tuple[Logits, Logits], said: tuple[Marks, Marks], marks: Marks, groups: NDArray[np.int64] | None = None
) -> list[Gain]:
    """What the second of two models has more of each of SCORES. Logits, what is said, and what is there are (N K), the
    classes in one order. Pictures, or whole groups, are drawn with replacement, for both models the same (B. Efron,
    JASA 82, 1987: BCa).
    """
    rankings = [[_Ranking(one[:, k], marks[:, k]) for k in range(marks.shape[1])] for one in logits]
    counts = [_counts(one, marks) for one in said]

    def statistic(weights: Floats) -> Floats:
        average = [_mean_average_precision(each, weights) for each in rankings]
        micro = [ratio(weights @ hits, weights @ size) for hits, size in counts]
        return np.stack([average[1] - average[0], micro[1] - micro[0]], axis=1)

    values = statistic(np.ones((1, len(marks))))[0]
    low, high = of_pictures(statistic, len(marks), groups)
    return [
        Gain(name=name, difference=float(value), low=max(-1.0, float(a)), high=min(1.0, float(b)))
        for name, value, a, b in zip(SCORES, values, low, high, strict=True)
    ]


def _counts(said: Marks, marks: Marks) -> tuple[Floats, Floats]:
    """Of each picture twice its right classes, and those said and there together: F1 is the ratio of their sums."""
    return 2.0 * (said & marks).sum(axis=1), (said.sum(axis=1) + marks.sum(axis=1)).astype(np.float64)


class _Ranking:
    """The pictures by the logit of one class, the highest first; those of equal logits share a threshold."""

    def __init__(self, scores: Logits, own: Marks) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.last = np.flatnonzero(np.append(np.diff(scores[self.order]) != 0, [True]))
        self.own = own[self.order]

    def average_precision(self, weights: Floats) -> Floats:
        """The average precision for each row of weights (R N); NaN where no picture, or each of them, has the class."""
        drawn = weights[:, self.order]
        count = np.cumsum(drawn, axis=1)[:, self.last]
        hits = np.cumsum(drawn * self.own, axis=1)[:, self.last]
        total, steps = hits[:, -1], np.diff(hits, axis=1, prepend=0.0)
        value = ratio((steps * ratio(hits, count)).sum(axis=1), total)
        return np.where((total > 0) & (total < count[:, -1]), value, np.nan)


def _mean_average_precision(each: Sequence[_Ranking], weights: Floats) -> Floats:
    """The mean over the classes that have a curve; 0 without any."""
    values = np.stack([one.average_precision(weights) for one in each])
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))
