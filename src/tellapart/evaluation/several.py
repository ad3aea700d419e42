"""Several trainings of one recipe: the spread of their figures, their out-of-fold predictions as one. NumPy only."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tellapart.errors import MismatchError
from tellapart.evaluation.metrics import Figure
from tellapart.evaluation.predictions import Predictions
from tellapart.recipe import printable

OUT_OF_FOLD = "out-of-fold"
"""The part that pooled predictions are of."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The mean of one figure over n trainings, and their standard deviation (with n - 1).

    `over` says what differs between them. Folds share training pictures, so their deviation is no error of the mean
    (Bengio and Grandvalet, JMLR 5, 2004).
    """

    name: str
    over: str
    n: int
    mean: float
    sd: float


def spreads(trainings: Sequence[Sequence[Figure]], over: str) -> list[Spread]:
    """Mean and deviation of each headline figure over two trainings or more."""
    return [_spread(figures, over) for figures in zip(*trainings, strict=True)]


def _spread(figures: Sequence[Figure], over: str) -> Spread:
    values = np.array([figure.value for figure in figures], np.float64)
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    return Spread(name=figures[0].name, over=over, n=len(values), mean=mean, sd=sd)


def pooled(folds: Sequence[Predictions], keys: Collection[str]) -> Predictions:
    """What the model of each fold said of its own validation part, together.

    Raises MismatchError unless every one of `keys` was judged exactly once, and no other.
    """
    counts = Counter(key for fold in folds for key in fold.keys)
    if wrong := sorted(key for key in counts.keys() | set(keys) if counts[key] != (key in keys)):
        raise MismatchError(
            f"{len(wrong):,} of {len(keys):,} pictures are not judged exactly once out of fold; "
            f"{printable(wrong[0])} is judged {counts[wrong[0]]} times.",
            "The runs of the folds are not as they were written: train anew.",
        )
    groups = [fold.groups for fold in folds if fold.groups is not None]
    small = [fold.thumbnails for fold in folds if fold.thumbnails is not None]
    return Predictions(
        part=OUT_OF_FOLD,
        classes=folds[0].classes,
        keys=tuple(key for fold in folds for key in fold.keys),
        logits=np.concatenate([fold.logits for fold in folds]),
        labels=np.concatenate([fold.labels for fold in folds]),
        thumbnails=np.concatenate(small) if len(small) == len(folds) else None,
        groups=np.concatenate(groups) if len(groups) == len(folds) else None,
    )
