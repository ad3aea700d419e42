"""Numbers from (logits, labels), each with its n and its 95 % interval. NumPy only; pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import of_mean, of_share, wilson
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.ranks import FEWEST, Curve, bounds, curve, excess


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that may be reported: its value, on how many pictures, and the interval it comes with."""

    name: str
    value: float
    n: int
    low: float
    high: float
    part: str
    about: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figure as plain data; a bound that is not finite becomes null."""
        return {k: (None if isinstance(v, float) and not np.isfinite(v) else v) for k, v in asdict(self).items()}


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N K) logits to probabilities: exp(x - max) / sum exp(x - max).

    >>> softmax(np.array([[3.0, 1.0, -3.0]])).round(4).tolist()
    [[0.8789, 0.1189, 0.0022]]
    """
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropies(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N) losses: -x[class] + ln sum_j exp(x[j])."""
    values = np.asarray(logits, np.float64)
    top = values.max(axis=1)
    return np.log(np.exp(values - top[:, None]).sum(axis=1)) + top - values[np.arange(len(labels)), labels]


def log_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N K): the logit of each class less that of all others together, ln(p / (1 - p)). It still tells pictures apart
    whose probabilities are all rounded to 1.

    >>> log_odds(np.array([[0.0, 0.0, 0.0], [60.0, 0.0, -1e9]])).round(4).tolist()
    [[-0.6931, -0.6931, -0.6931], [60.0, -60.0, -1000000060.0]]
    """
    values = np.asarray(logits, np.float64)
    row, first = np.arange(len(values)), values.argmax(axis=1)
    top = values[row, first]
    powers = np.exp(values - top[:, None])
    found = values - top[:, None] - np.log(np.maximum(powers.sum(axis=1, keepdims=True) - powers, 1e-300))
    others = values.copy()  # of the first, without the difference of two nearly equal sums
    others[row, first] = -np.inf
    second = others.max(axis=1)
    found[row, first] = top - second - np.log(np.exp(others - second[:, None]).sum(axis=1))
    return found


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)) of each logit (N K): where a picture may have several classes, the probability of each.

    >>> sigmoid(np.array([[0.0, 2.0]])).round(4).tolist()
    [[0.5, 0.8808]]
    """
    return 0.5 * (1 + np.tanh(np.asarray(logits, np.float64) / 2))


def binary_entropies(logits: NDArray[np.floating], marks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N) losses: the mean over the classes of -ln p where the picture has the class, of -ln(1 - p) where it has not,
    p the sigmoid of the logit (N K): ln(1 + exp(x)) - [it has the class] x.
    """
    values = np.asarray(logits, np.float64)
    return (np.logaddexp(0, values) - values * marks).mean(axis=1)


def confusion(guesses: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(K K) counts: the row is the true class, the column the predicted one."""
    flat = np.bincount(labels * num_classes + guesses, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def top_k_hits(logits: NDArray[np.floating], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """(N): whether the true class is among the k highest logits; of equal logits the lower class number goes first.

    A row with a logit that is not finite is a miss, whatever the others say.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1])[None, :] < labels[:, None]))
    return (before.sum(axis=1) < k) & np.isfinite(logits).all(axis=1)


def proportion(name: str, hits: int, n: int, part: str, about: str = "") -> Figure:
    """A share of n pictures with its Wilson interval."""
    low, high = wilson(hits, n)
    return Figure(name=name, value=hits / n if n else float("nan"), n=n, low=low, high=high, part=part, about=about)


def share(
    name: str, hits: NDArray[np.bool_], part: str, about: str = "", *, groups: NDArray[np.int64] | None = None
) -> Figure:
    """The share of hits (N) with its interval, by whole groups where given; see `intervals.of_share`."""
    low, high = of_share(hits, groups)
    value = float(np.mean(hits)) if len(hits) else math.nan
    return Figure(name=name, value=value, n=len(hits), low=low, high=high, part=part, about=about)


def f1_of(
    said: NDArray[np.bool_],
    own: NDArray[np.bool_],
    part: str,
    name: str,
    about: str = "",
    *,
    groups: NDArray[np.int64] | None = None,
) -> Figure:
    """2 J / (1 + J) with J, the share of right ones among those that are of the class or called so; as its interval."""
    either = said | own
    one = share(name, (said & own)[either], part, about, groups=None if groups is None else groups[either])
    value, low, high = (2 * end / (1 + end) for end in (one.value, one.low, one.high))
    return Figure(name=name, value=value, n=one.n, low=low, high=high, part=part, about=about)


def difference(a: Figure, b: Figure) -> tuple[float, float]:
    """The interval of a - b, proportions of different pictures (R. G. Newcombe, Stat. Med. 17, 1998, method 10)."""
    gap = a.value - b.value
    return gap - math.hypot(a.value - a.low, b.high - b.value), gap + math.hypot(a.high - a.value, b.value - b.low)


def judge(predictions: Predictions) -> list[Figure]:
    """The headline figures of stored predictions; see `headline`. Where a picture may have several classes these are
    the mean average precision and the mean loss.
    """
    if predictions.marks is not None:
        part, losses = predictions.part, binary_entropies(predictions.logits, predictions.marks)
        return [
            mean_of_classes(predictions, class_curves(predictions), "average precision"),
            mean("loss", losses, part, groups=predictions.groups),
        ]
    return headline(predictions.logits, predictions.labels, predictions.part, groups=predictions.groups)


def headline(
    logits: NDArray[np.floating], labels: NDArray[np.int64], part: str, *, groups: NDArray[np.int64] | None = None
) -> list[Figure]:
    """The headline figures of one part: accuracy, top-5 accuracy when there are more than five classes, mean loss."""
    figures = [share("accuracy", top_k_hits(logits, labels, 1), part, groups=groups)]
    if logits.shape[1] > 5:
        figures.append(share("top-5 accuracy", top_k_hits(logits, labels, 5), part, groups=groups))
    return [*figures, mean("loss", cross_entropies(logits, labels), part, groups=groups)]


def mean(name: str, values: NDArray[np.float64], part: str, *, groups: NDArray[np.int64] | None = None) -> Figure:
    """The mean of values (N) that are not negative, with its interval; see `intervals.of_mean`."""
    low, high = of_mean(values, groups)
    value = float(np.mean(values)) if len(values) else math.nan
    return Figure(name=name, value=value, n=len(values), low=max(0.0, low), high=high, part=part)


def judge_classes(predictions: Predictions) -> list[Figure]:
    """Recall and precision of each class, with their own n: of its pictures, and of the pictures called so.

    Where a picture may have several classes, the average precision of each, with the n of its pictures.
    """
    if predictions.marks is not None:
        return areas(predictions, class_curves(predictions), "average precision")
    said, labels, groups = predictions.logits.argmax(axis=1), predictions.labels, predictions.groups
    figures = []
    for k, name in enumerate(predictions.classes):
        for what, those in (("recall", labels == k), ("precision", said == k)):
            own = None if groups is None else groups[those]
            figures.append(share(what, (said == labels)[those], predictions.part, name, groups=own))
    return figures


def class_curves(predictions: Predictions) -> list[Curve | None]:
    """The curves of each class by its log-odds, by its logit where a picture may have several; None where all pictures
    have it, or none.
    """
    scores, own = _ranking(predictions), _owned(predictions)
    return [curve(scores[:, k], own[:, k], predictions.units) for k in range(len(predictions.classes))]


def _ranking(predictions: Predictions) -> NDArray[np.float64]:
    """(N K): what the pictures are ranked by."""
    return log_odds(predictions.logits) if predictions.marks is None else predictions.logits.astype(np.float64)


def _owned(predictions: Predictions) -> NDArray[np.bool_]:
    """(N K): which classes the pictures have."""
    if predictions.marks is not None:
        return predictions.marks
    return predictions.labels[:, None] == np.arange(len(predictions.classes))


def _area(found: Curve, what: str) -> tuple[float, NDArray[np.float64]]:
    """An area of a curve, and what each picture (N) adds to it."""
    return (found.area, found.to_area) if what == "ROC area" else (found.average_precision, found.to_average)


def areas(predictions: Predictions, found: Sequence[Curve | None], what: str) -> list[Figure]:
    """ROC area, or average precision, of each class that has a curve, with the n of its pictures."""
    figures, counts = [], _owned(predictions).sum(axis=0).tolist()
    for name, one, n in zip(predictions.classes, found, counts, strict=True):
        if one is not None:
            value, adds = _area(one, what)
            low, high = bounds(value, adds, predictions.units, worth=one.worth)
            figures.append(Figure(name=what, value=value, n=n, low=low, high=high, part=predictions.part, about=name))
    return figures


def mean_of_classes(predictions: Predictions, found: Sequence[Curve | None], what: str) -> Figure:
    """The mean of such an area over the classes that have a curve, 0 without any.

    Its interval is that of the mean over the classes with FEWEST pictures or more, by what each picture adds to all of
    them; each other class may have any area from 0 to 1.
    """
    there = {k: one for k, one in enumerate(found) if one is not None}
    sure = [k for k, one in there.items() if one.worth >= FEWEST]
    value = float(np.mean([_area(one, what)[0] for one in there.values()])) if there else 0.0
    low, high = _bounds_of_mean(predictions, {k: there[k] for k in sure}, what) if sure else (0.0, 1.0)
    share = len(sure) / max(1, len(there))
    low, high, n = share * low, share * high + 1 - share, len(predictions)
    return Figure(name=f"mean {what}", value=value, n=n, low=low, high=high, part=predictions.part)


def _bounds_of_mean(predictions: Predictions, found: Mapping[int, Curve], what: str) -> tuple[float, float]:
    """The interval of the mean of an area over some classes. An average precision is too high on average, the more so
    the fewer the pictures; the mean of a hundred classes errs less than by that, so its interval must know it. Its
    variance is known from the pictures of all of them together.
    """
    own, more = [_area(one, what) for one in found.values()], [0.0]
    if what != "ROC area":
        scores, are = _ranking(predictions), _owned(predictions)
        more = [excess(one, scores[:, k], are[:, k], predictions.units) for k, one in found.items()]
    return bounds(
        float(np.mean([area for area, _ in own])),
        np.mean([adds for _, adds in own], axis=0),
        predictions.units,
        worth=sum(one.worth for one in found.values()),
        excess=float(np.mean(more)),
    )


def document(figures: list[Figure], **more: Any) -> Mapping[str, Any]:
    """What `--json` prints: every figure with name, value, n, low, high and part."""
    return {"format": 1, **more, "figures": [figure.to_json() for figure in figures]}
