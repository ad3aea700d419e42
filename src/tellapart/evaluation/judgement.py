"""The whole judgement of one model on one part: every score with its interval. Pure, from stored predictions."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.calibration import Reliability, reliability
from tellapart.evaluation.intervals import resolved, wilson
from tellapart.evaluation.metrics import (
    Figure,
    confusion,
    cross_entropies,
    headline,
    judge_classes,
    mean,
    share,
    softmax,
)
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.ranks import Curve, bounds, curve
from tellapart.evaluation.resample import Floats, of_counts, of_pictures
from tellapart.evaluation.scores import TABLE, Cells, brier_of_each, table_scores

CONFUSED, POINTS = 12, 100
"""Pairs of classes that are named as confused; points of the curve of risk and coverage."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What may be said of N predictions with K classes.

    figures: of all classes; by_class: of each. `raw` is the reliability of the plain softmax, `calibrated` that at the
    temperature of `answering`. `fitted_here`: it was fitted to these very pictures. kept: (promised precision, least
    probability, answers here that are so sure, right ones among them). unknown: pictures called so. risk: (share
    answered, share of these that are right, low, high), the surest first. confused: (class, said, pictures), the most
    frequent first. resolves: in accuracy.
    """

    part: str
    classes: tuple[str, ...]
    n: int
    groups: int | None
    figures: list[Figure]
    by_class: list[Figure]
    answering: Answering
    fitted_here: bool
    raw: Reliability
    calibrated: Reliability
    kept: list[tuple[float, float, int, int]]
    unknown: int
    risk: list[tuple[float, float, float, float]]
    confused: list[tuple[str, str, int]]
    resolves: float

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        figures = {name: [one.to_json() for one in getattr(self, name)] for name in ("figures", "by_class")}
        return {"format": 1, **asdict(self), **figures}


def judged(predictions: Predictions, answering: Answering) -> Judgement:
    """The judgement of one part; temperature, promises and what is unknown were found on validation."""
    logits, labels, at = predictions.logits, predictions.labels, answering.temperature
    figures = overall(predictions, at)
    worth = _worth(figures[0])
    return Judgement(
        part=predictions.part,
        classes=predictions.classes,
        n=len(predictions),
        groups=None if predictions.groups is None else len(np.unique(predictions.groups)),
        figures=figures,
        by_class=by_class(predictions),
        answering=answering,
        fitted_here=predictions.part == "validation",
        raw=reliability(logits, labels),
        calibrated=reliability(logits, labels, at=at),
        kept=_kept(predictions, answering),
        unknown=0 if answering.known is None else int((logits.max(1) < answering.known).sum()),
        risk=risk(softmax(np.asarray(logits, np.float64) / at), labels),
        confused=_confused(predictions),
        resolves=resolved(figures[0].value, worth),
    )


def _worth(accuracy: Figure) -> float:
    """Of how many independent pictures an accuracy with such an interval is: its n, where pictures are no groups."""
    if not 0 < accuracy.value < 1:
        return accuracy.n
    alone = wilson(accuracy.value * accuracy.n, accuracy.n)
    return accuracy.n * ((alone[1] - alone[0]) / (accuracy.high - accuracy.low)) ** 2


def overall(predictions: Predictions, at: float) -> list[Figure]:
    """Of all classes: the headline, the scores of the table, Brier, log loss and Brier calibrated, the mean areas."""
    logits, labels, part, groups = predictions.logits, predictions.labels, predictions.part, predictions.groups
    found = [*headline(logits, labels, part, groups=groups), *_of_table(predictions)]
    found.append(mean("Brier", brier_of_each(softmax(logits), labels), part, groups=groups))
    if at != 1.0:
        cooled = np.asarray(logits, np.float64) / at
        found.append(mean("loss, calibrated", cross_entropies(cooled, labels), part, groups=groups))
        found.append(mean("Brier, calibrated", brier_of_each(softmax(cooled), labels), part, groups=groups))
    return [*found, *_areas(predictions)]


def _of_table(predictions: Predictions) -> list[Figure]:
    """The scores of the confusion table with their bootstrap intervals."""
    said, labels, classes = predictions.logits.argmax(axis=1), predictions.labels, len(predictions.classes)
    n, groups = len(labels), predictions.groups
    if groups is None:
        pairs, counts = np.unique(labels * classes + said, return_counts=True)
        cells = Cells(pairs // classes, pairs % classes, classes)
        found = of_counts(lambda weights: table_scores(cells, weights), counts)
    else:
        cells, counts = Cells(labels, said, classes), np.ones(n, np.int64)
        found = of_pictures(lambda weights: table_scores(cells, weights), n, groups)
    values = table_scores(cells, counts[None].astype(np.float64))[0]
    return [_figure(name, row, n, predictions.part) for name, *row in zip(TABLE, values, *found, strict=True)]


def _figure(name: str, spans: Iterable[float], n: int, part: str, about: str = "") -> Figure:
    """A figure of (value, low, high)."""
    value, low, high = map(float, spans)
    return Figure(name=name, value=value, n=n, low=low, high=high, part=part, about=about)


def curves(predictions: Predictions) -> list[Curve | None]:
    """The ROC and precision-recall curves of each class by its probability."""
    shares = softmax(predictions.logits)
    return [curve(shares[:, k], predictions.labels == k) for k in range(len(predictions.classes))]


def _areas(predictions: Predictions) -> list[Figure]:
    """The means over the classes of both areas."""
    found = [one for one in curves(predictions) if one is not None]
    n, part, groups, figures = len(predictions), predictions.part, predictions.groups, []
    for name, area, adds in (
        ("mean ROC area", "area", "to_area"),
        ("mean average precision", "average_precision", "to_average"),
    ):
        if found:
            value = float(np.mean([getattr(one, area) for one in found]))
            each = np.mean([getattr(one, adds) for one in found], axis=0)
            worth = min(one.worth for one in found)
            figures.append(_figure(name, (value, *bounds(value, each, groups, worth=worth)), n, part))
    return figures


def by_class(predictions: Predictions) -> list[Figure]:
    """Recall, precision, F1, ROC area and average precision of each class, with intervals; see `judge_classes`.

    F1 = 2 J / (1 + J) with J, the share of right answers among the pictures that are of the class or called so: its
    interval is that of J, and its n theirs.
    """
    shares, figures, part = judge_classes(predictions), [], predictions.part
    said, labels, groups = predictions.logits.argmax(axis=1), predictions.labels, predictions.groups
    for k, (name, found) in enumerate(zip(predictions.classes, curves(predictions), strict=True)):
        figures += shares[2 * k : 2 * k + 2]
        figures.append(_f1(said == k, labels == k, part, name, groups))
        if found is not None:
            for what, value, adds in (
                ("ROC area", found.area, found.to_area),
                ("average precision", found.average_precision, found.to_average),
            ):
                spans = (value, *bounds(value, adds, groups, worth=found.worth))
                figures.append(_figure(what, spans, int((labels == k).sum()), part, name))
    return figures


def _f1(
    said: NDArray[np.bool_], own: NDArray[np.bool_], part: str, name: str, groups: NDArray[np.int64] | None
) -> Figure:
    either = said | own
    one = share("F1", (said & own)[either], part, name, groups=None if groups is None else groups[either])
    turned = (2 * value / (1 + value) for value in (one.value, one.low, one.high))
    return _figure("F1", turned, one.n, part, name)


def _kept(predictions: Predictions, answering: Answering) -> list[tuple[float, float, int, int]]:
    """(precision, least probability, answers that are so sure, right ones among them) of each promise."""
    shares = softmax(np.asarray(predictions.logits, np.float64) / answering.temperature)
    sure, right, found = shares.max(1), shares.argmax(1) == predictions.labels, []
    for precision, least in answering.promises.items():
        found.append((precision, least, int((sure >= least).sum()), int(right[sure >= least].sum())))
    return found


def risk(shares: Floats, labels: NDArray[np.int64]) -> list[tuple[float, float, float, float]]:
    """The share of right answers, with its Wilson interval, among the surest hundredth, two hundredths … of all."""
    order = np.argsort(-shares.max(1), kind="stable")
    hits, n, found = np.cumsum((shares.argmax(1) == labels)[order]), len(labels), []
    for count in np.unique(np.ceil(np.arange(1, POINTS + 1) / POINTS * n).astype(int)) if n else ():
        right = int(hits[count - 1])
        found.append((float(count / n), float(right / count), *wilson(right, int(count))))
    return found


def _confused(predictions: Predictions) -> list[tuple[str, str, int]]:
    names = predictions.classes
    table = confusion(predictions.logits.argmax(axis=1), predictions.labels, len(names))
    np.fill_diagonal(table, 0)
    most = np.argsort(-table, axis=None, kind="stable")[:CONFUSED]
    pairs = [(*divmod(int(one), len(names)), int(table.flat[one])) for one in most]
    return [(names[row], names[column], count) for row, column, count in pairs if count]
