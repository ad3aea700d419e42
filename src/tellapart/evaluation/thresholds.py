"""One class against the others at every threshold of its probability: what a precision-recall curve is made of."""

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.predictions import Predictions

STEPS = 100
"""Thresholds 0, 1/100 … 1: a picture is said to be of the class when its probability is at least the threshold."""


def at_thresholds(probabilities: NDArray[np.float64], own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N) probabilities of a class and whether each picture is of it, to (6 T): true and false positives, true and
    false negatives, precision TP / (TP + FP) and recall TP / (TP + FN) at T thresholds; 0 where it is 0 / 0.

    >>> at_thresholds(np.array([0.9, 0.6, 0.3]), np.array([True, False, True]))[:, 50].tolist()
    [1.0, 1.0, 0.0, 1.0, 0.5, 0.5]
    """
    bins = np.searchsorted(np.linspace(0, 1, STEPS + 1), probabilities, side="right") - 1
    hits, calls = (np.bincount(bins[chosen], minlength=STEPS + 1)[::-1].cumsum()[::-1] for chosen in (own, bins >= 0))
    wrong, missed = calls - hits, hits[0] - hits
    precision, recall = hits / np.maximum(calls, 1), hits / max(hits[0], 1)
    return np.stack([hits, wrong, len(own) - hits[0] - wrong, missed, precision, recall]).astype(np.float64)


def worst_classes(predictions: Predictions, most: int) -> list[int]:
    """The numbers of up to `most` classes that have pictures, those with the lowest F1 = 2 TP / (pictures + calls)
    first, so that what is left out is what the model knows best.
    """
    said, labels = predictions.logits.argmax(axis=1), predictions.labels
    counted = (np.bincount(of, minlength=len(predictions.classes)) for of in (labels[said == labels], labels, said))
    hits, pictures, calls = counted
    f1 = 2 * hits / np.maximum(pictures + calls, 1)
    return [k for k in np.argsort(f1, kind="stable").tolist() if pictures[k]][:most]


def curves(predictions: Predictions, *, most: int) -> dict[int, NDArray[np.float64]]:
    """`at_thresholds` of each of the `worst_classes`, by the number of the class."""
    chances = softmax(predictions.logits)
    return {k: at_thresholds(chances[:, k], predictions.labels == k) for k in worst_classes(predictions, most)}
