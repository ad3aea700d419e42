"""The whole judgement of one model on one part: every score with its interval. Pure, from stored predictions."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.calibration import Reliability, reliability
from tellapart.evaluation.intervals import of_share, resolved, wilson
from tellapart.evaluation.metrics import (
    Figure,
    areas,
    class_curves,
    confusion,
    cross_entropies,
    f1_of,
    headline,
    judge_classes,
    mean,
    mean_of_classes,
    softmax,
)
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.ranks import Curve
from tellapart.evaluation.resample import Floats, of_counts, of_pictures, of_shares
from tellapart.evaluation.scores import TABLE, Cells, brier_of_each, table_scores

AREAS, CONFUSED, POINTS = ("ROC area", "average precision"), 12, 100
"""Under the curves of a class; pairs of classes named as confused; points of the curve of risk and coverage."""


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
        return {"format": 1, **finite({**asdict(self), **figures})}


def finite(value: Any) -> Any:
    """Plain data without a number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def judged(predictions: Predictions, answering: Answering) -> Judgement:
    """The judgement of one part; temperature, promises and what is unknown were found on validation."""
    logits, labels, at, groups = predictions.logits, predictions.labels, answering.temperature, predictions.groups
    found = class_curves(predictions)
    figures = overall(predictions, at, found)
    worth = worth_of(figures[0])
    return Judgement(
        part=predictions.part,
        classes=predictions.classes,
        n=len(predictions),
        groups=None if groups is None else len(np.unique(groups)),
        figures=figures,
        by_class=by_class(predictions, found),
        answering=answering,
        fitted_here=predictions.part == "validation" and answering.n == len(predictions),
        raw=reliability(logits, labels, groups=groups),
        calibrated=reliability(logits, labels, at=at, groups=groups),
        kept=_kept(predictions, answering),
        unknown=0 if answering.known is None else int((logits.max(1) < answering.known).sum()),
        risk=risk(softmax(np.asarray(logits, np.float64) / at), labels, groups),
        confused=_confused(predictions),
        resolves=resolved(figures[0].value, worth),
    )


def worth_of(accuracy: Figure) -> float:
    """Of how many independent pictures an accuracy with such an interval is: its n, where pictures are no groups."""
    low, high = wilson(accuracy.value * accuracy.n, accuracy.n)
    wide = accuracy.high - accuracy.low
    if 0 < accuracy.value < 1:
        return accuracy.n * min(1.0, ((high - low) / wide) ** 2)
    return accuracy.n * min(1.0, (high - low) / wide * (1 - wide) / (1 - high + low)) if wide < 1 else 1.0


def overall(predictions: Predictions, at: float, curves: Sequence[Curve | None]) -> list[Figure]:
    """Of all classes: the headline, the scores of the table, Brier, log loss and Brier calibrated, the mean areas."""
    logits, labels, part, groups = predictions.logits, predictions.labels, predictions.part, predictions.groups
    found = [*headline(logits, labels, part, groups=groups), *_of_table(predictions)]
    found.append(mean("Brier", brier_of_each(softmax(logits), labels), part, groups=groups))
    if at != 1.0:
        cooled = np.asarray(logits, np.float64) / at
        found.append(mean("loss, calibrated", cross_entropies(cooled, labels), part, groups=groups))
        found.append(mean("Brier, calibrated", brier_of_each(softmax(cooled), labels), part, groups=groups))
    return [*found, *(mean_of_classes(predictions, curves, what) for what in AREAS if any(curves))]


def _of_table(predictions: Predictions) -> list[Figure]:
    """The scores of the confusion table with their bootstrap intervals.

    A table without a mistake, or without a right answer, gives resamples of its own kind only: those of a table with
    two pictures more, one of them right, widen the interval (as A. Agresti and B. Coull do for shares, 1998).
    """
    said, labels, classes = predictions.logits.argmax(axis=1), predictions.labels, len(predictions.classes)
    n, groups = len(labels), predictions.groups
    pairs, counts = np.unique(labels * classes + said, return_counts=True)
    cells = Cells(pairs // classes, pairs % classes, classes)
    values = table_scores(cells, counts[None].astype(np.float64))[0]
    if groups is None:
        found = of_counts(lambda weights: table_scores(cells, weights), counts)
        own = np.bincount(labels, minlength=classes) / n
        k = np.arange(classes)
        wide = Cells(np.append(cells.rows, [k, k]), np.append(cells.columns, [k, (k + 1) % classes]), classes)
        more = of_shares(
            lambda weights: table_scores(wide, weights), np.concatenate([counts.astype(np.float64), own, own]), n
        )
        found = np.stack([np.minimum(found[0], more[0]), np.maximum(found[1], more[1])])
    elif (said == labels).all() or (said != labels).all():
        found = np.outer(of_share(said == labels, groups), np.ones(len(TABLE)))
    else:
        every = Cells(labels, said, classes)
        found = of_pictures(lambda weights: table_scores(every, weights), n, groups)
    return [_figure(name, row, n, predictions.part) for name, *row in zip(TABLE, values, *found, strict=True)]


def _figure(name: str, spans: Iterable[float], n: int, part: str, about: str = "") -> Figure:
    """A figure of (value, low, high)."""
    value, low, high = map(float, spans)
    return Figure(name=name, value=value, n=n, low=low, high=high, part=part, about=about)


def by_class(predictions: Predictions, found: Sequence[Curve | None]) -> list[Figure]:
    """Recall, precision, F1, ROC area and average precision of each class, with intervals; see `judge_classes`."""
    said, part, groups = predictions.logits.argmax(axis=1), predictions.part, predictions.groups
    figures = judge_classes(predictions)
    for k, name in enumerate(predictions.classes):
        figures.append(f1_of(said == k, predictions.labels == k, part, "F1", name, groups=groups))
    figures += [one for what in AREAS for one in areas(predictions, found, what)]
    return sorted(figures, key=lambda one: predictions.classes.index(one.about))


def _kept(predictions: Predictions, answering: Answering) -> list[tuple[float, float, int, int]]:
    """(precision, least probability, answers that are so sure, right ones among them) of each promise."""
    shares = softmax(np.asarray(predictions.logits, np.float64) / answering.temperature)
    sure, right, found = shares.max(1), shares.argmax(1) == predictions.labels, []
    for precision, least in answering.promises.items():
        found.append((precision, least, int((sure >= least).sum()), int(right[sure >= least].sum())))
    return found


def risk(
    shares: Floats, labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None
) -> list[tuple[float, float, float, float]]:
    """The share of right answers, with its interval, among the surest hundredth, two hundredths … of all."""
    order = np.argsort(-shares.max(1), kind="stable")
    right, n, found = (shares.argmax(1) == labels)[order], len(labels), []
    together = None if groups is None else groups[order]
    for count in np.unique(np.ceil(np.arange(1, POINTS + 1) / POINTS * n).astype(int)).tolist() if n else ():
        span = of_share(right[:count], None if together is None else together[:count])
        found.append((count / n, float(right[:count].mean()), *span))
    return found


def _confused(predictions: Predictions) -> list[tuple[str, str, int]]:
    names = predictions.classes
    table = confusion(predictions.logits.argmax(axis=1), predictions.labels, len(names))
    np.fill_diagonal(table, 0)
    most = np.argsort(-table, axis=None, kind="stable")[:CONFUSED]
    pairs = [(*divmod(int(one), len(names)), int(table.flat[one])) for one in most]
    return [(names[row], names[column], count) for row, column, count in pairs if count]
