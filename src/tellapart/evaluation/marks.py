"""Pictures that may have several classes each, judged: a threshold for each class, and every score with its interval.
NumPy only; pure, from stored predictions.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import of_share
from tellapart.evaluation.metrics import (
    Figure,
    areas,
    binary_entropies,
    class_curves,
    f1_of,
    mean,
    mean_of_classes,
    share,
    sigmoid,
)
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.ranks import FEWEST, bounds, curve
from tellapart.evaluation.resample import Floats, of_pictures
from tellapart.evaluation.scores import ratio

Marks = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From which probability on a picture is said to have a class; found on n pictures of it, or a half."""

    value: float
    n: int
    fitted: bool


def thresholds(validation: Predictions) -> tuple[Threshold, ...]:
    """The threshold of each class with the highest F1 on validation, a half where fewer than FEWEST have or lack it."""
    marks, shares = _marks(validation), sigmoid(validation.logits)
    return tuple(_threshold(shares[:, k], marks[:, k]) for k in range(marks.shape[1]))


def _threshold(shares: Floats, own: Marks) -> Threshold:
    """Half way between the probability with the highest F1 = 2 hits / (called + own) and the next below; of several the
    one nearest to a half.
    """
    n = int(own.sum())
    if min(n, len(own) - n) < FEWEST or not np.isfinite(shares).all():
        return Threshold(value=0.5, n=n, fitted=False)
    order = np.argsort(-shares, kind="stable")
    last = np.flatnonzero(np.append(np.diff(shares[order]) != 0, [True]))  # of the pictures of equal probability
    f1 = 2 * np.cumsum(own[order])[last] / (last + 1 + n)
    values = shares[order][last]
    between = (values + np.append(values[1:], [0.0])) / 2
    best = between[f1 >= f1.max() - 1e-12]
    return Threshold(value=float(best[np.abs(best - 0.5).argmin()]), n=n, fitted=True)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What may be said of N predictions where a picture may have several of K classes.

    figures: of all classes; by_class: of each; thresholds (K). `fitted_here`: they were fitted to these very pictures.
    none, several: pictures without a class, and with more than one.
    """

    part: str
    classes: tuple[str, ...]
    n: int
    groups: int | None
    none: int
    several: int
    figures: list[Figure]
    by_class: list[Figure]
    thresholds: tuple[Threshold, ...]
    fitted_here: bool

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        figures = {name: [one.to_json() for one in getattr(self, name)] for name in ("figures", "by_class")}
        return {"format": 1, **asdict(self), **figures}


def judged_marks(predictions: Predictions, by: Sequence[Threshold], *, fitted_here: bool) -> Marked:
    """The judgement of one part at thresholds that were found on validation."""
    marks, groups = _marks(predictions), predictions.groups
    said = called(predictions.logits, [one.value for one in by])
    every = _by_class(predictions, said)
    return Marked(
        part=predictions.part,
        classes=predictions.classes,
        n=len(predictions),
        groups=None if groups is None else len(np.unique(groups)),
        none=int((~marks.any(axis=1)).sum()),
        several=int((marks.sum(axis=1) > 1).sum()),
        figures=[
            *_ranked(predictions),
            *_macro(predictions, said, every),
            *_of_decisions(predictions, said),
            *_of_pictures(predictions, said),
        ],
        by_class=every,
        thresholds=tuple(by),
        fitted_here=fitted_here,
    )


def called(logits: NDArray[np.floating], least: Sequence[float]) -> Marks:
    """Which classes the pictures (N K), or one (K), are said to have: whose probability reaches the threshold (K)."""
    return sigmoid(logits) >= np.asarray(least)


def wrong_pictures(predictions: Predictions, said: Marks) -> list[int]:
    """The rows of the pictures that are said (N K) to have other classes than theirs, the largest loss first."""
    marks = _marks(predictions)
    wrong = np.flatnonzero((said != marks).any(axis=1))
    return wrong[np.argsort(-binary_entropies(predictions.logits[wrong], marks[wrong]), kind="stable")].tolist()


def wrong_classes(predictions: Predictions, said: Marks, row: int) -> list[int]:
    """The classes that a picture is said (K) to have and has not, or has and is not said to; the largest loss first."""
    own, logits = _marks(predictions)[row], predictions.logits[row]
    losses = np.where(own, -logits, logits)  # they grow with the loss of each decision
    return [k for k in np.argsort(-losses, kind="stable").tolist() if said[k] != own[k]]


def _marks(predictions: Predictions) -> Marks:
    if predictions.marks is None:
        raise ValueError("each of these pictures has one class")
    return predictions.marks


def _ranked(predictions: Predictions) -> list[Figure]:
    """What needs no threshold: the areas, each the mean over the classes, and one over all decisions; the loss."""
    marks, part, found = _marks(predictions), predictions.part, class_curves(predictions)
    figures = [mean_of_classes(predictions, found, "average precision")]
    units = _units(predictions)
    pooled = curve(predictions.logits.astype(np.float64).ravel(), marks.ravel(), units)
    if pooled is not None:
        value = pooled.average_precision
        low, high = bounds(value, pooled.to_average, units, worth=pooled.worth)
        figures.append(Figure(name="micro average precision", value=value, n=marks.size, low=low, high=high, part=part))
    losses = binary_entropies(predictions.logits, marks)
    area = mean_of_classes(predictions, found, "ROC area")
    return [*figures, area, mean("loss", losses, part, groups=predictions.groups)]


def _units(predictions: Predictions) -> NDArray[np.int64]:
    """(N K) as a row: of each decision the picture, or the group, that it belongs to."""
    own = np.arange(len(predictions)) if predictions.units is None else predictions.units
    return np.repeat(own, len(predictions.classes))


def _of_decisions(predictions: Predictions, said: Marks) -> list[Figure]:
    """Micro precision, recall and F1, and the Hamming loss: of all decisions alike, judged by whole pictures."""
    marks, part, units = _marks(predictions).ravel(), predictions.part, _units(predictions)
    said = said.ravel()
    return [
        f1_of(said, marks, part, "micro F1", groups=units),
        share("micro precision", marks[said], part, groups=units[said]),
        share("micro recall", said[marks], part, groups=units[marks]),
        share("Hamming loss", said != marks, part, groups=units),
    ]


def _of_pictures(predictions: Predictions, said: Marks) -> list[Figure]:
    """Exact match: all decisions of a picture are right. Sample F1: the mean over the pictures of the F1 of each, 1 for
    one without a class that is said to have none.
    """
    marks, part, groups = _marks(predictions), predictions.part, predictions.groups
    right = (said == marks).all(axis=1)
    size = said.sum(axis=1) + marks.sum(axis=1)
    own = np.where(size > 0, 2 * (said & marks).sum(axis=1) / np.maximum(size, 1), 1.0)
    found = mean("sample F1", own, part, groups=groups)
    low, high = of_share(own > 0.5, groups) if len(np.unique(own)) == 1 else (found.low, min(1.0, found.high))
    sample = Figure(name=found.name, value=found.value, n=found.n, low=low, high=high, part=part)
    return [share("exact match", right, part, groups=groups), sample]


def _macro(predictions: Predictions, said: Marks, every: Sequence[Figure]) -> list[Figure]:
    """The means of F1, precision and recall over the classes that have a picture or are said; 0 where it is 0 / 0. Of 0
    or 1 in all, every resample is like it: the interval is then the mean of those of `every` class.
    """
    marks, n, groups = _marks(predictions), len(predictions), predictions.groups
    each = [one.astype(np.float64) for one in (said & marks, said, marks)]

    def statistic(weights: Floats) -> Floats:
        hits, named, there = (weights @ one for one in each)
        known = named + there > 0
        ratios = (ratio(2 * hits, named + there), ratio(hits, named), ratio(hits, there))
        return np.stack([ratio((one * known).sum(1), known.sum(1)) for one in ratios], axis=1)

    values, part = statistic(np.ones((1, n)))[0], predictions.part
    figures = []
    for name, value, *ends in zip(
        ("F1", "precision", "recall"), values, *of_pictures(statistic, n, groups), strict=True
    ):
        if value in (0, 1):
            own = [one for one in every if one.name == name and one.n]
            ends = [float(np.mean([getattr(one, end) for one in own] or [at])) for end, at in (("low", 0), ("high", 1))]
        low, high = max(0.0, float(ends[0])), min(1.0, float(ends[1]))
        figures.append(Figure(name=f"macro {name}", value=float(value), n=n, low=low, high=high, part=part))
    return figures


def _by_class(predictions: Predictions, said: Marks) -> list[Figure]:
    """Recall, precision and F1 of each class at its threshold, and its areas where it has a curve."""
    marks, part, groups, figures = _marks(predictions), predictions.part, predictions.groups, []
    found = class_curves(predictions)
    for k, name in enumerate(predictions.classes):
        own, named = marks[:, k], said[:, k]
        for what, right, those in (("recall", named, own), ("precision", own, named)):
            figures.append(share(what, right[those], part, name, groups=None if groups is None else groups[those]))
        figures.append(f1_of(named, own, part, "F1", name, groups=groups))
    return [*figures, *(one for what in ("average precision", "ROC area") for one in areas(predictions, found, what))]
