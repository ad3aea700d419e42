"""Scores of (guesses, labels) and (probabilities, labels): from a table of counts, and Brier. NumPy only.

All take weights (R A), how often each thing counts in each of R resamples: the same code gives value and interval.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.resample import Floats


@dataclass(frozen=True)
class Cells:
    """Things with a true class `rows` (A) and a said class `columns` (A): pictures, or the filled cells of a table."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    num_classes: int

    def margins(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """(R K) each: how many of a class were said to be it, how many there are, how many were called so."""
        right = self.rows == self.columns
        return (
            _sums(weights[:, right], self.rows[right], self.num_classes),
            _sums(weights, self.rows, self.num_classes),
            _sums(weights, self.columns, self.num_classes),
        )


def _sums(weights: Floats, classes: NDArray[np.int64], num_classes: int) -> Floats:
    """(R K): the weights (R A) of each class (A) together."""
    found = np.zeros((len(weights), num_classes))
    if not len(classes):
        return found
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    found[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return found


TABLE = (
    "balanced accuracy",
    "macro precision",
    "macro recall",
    "macro F1",
    "weighted precision",
    "weighted F1",
    "Cohen's kappa",
    "MCC",
)
"""What `table_scores` gives, in this order."""


def table_scores(cells: Cells, weights: Floats) -> Floats:
    """(R 8): the scores named in TABLE, the macro ones over the classes that have a picture or were said.

    Balanced accuracy is the mean recall of the classes that have a picture; a precision or recall without a picture is
    0. Kappa: J. Cohen, 1960; MCC for many classes: J. Gorodkin, 2004. Both are 0 where they are 0 / 0.
    """
    hits, there, said = cells.margins(weights)
    n = there.sum(1)
    recall, precision, f1 = ratio(hits, there), ratio(hits, said), ratio(2 * hits, there + said)
    known, has = (there + said) > 0, there > 0
    agreed, chance = hits.sum(1) / n, (there * said).sum(1) / n**2
    covariance = hits.sum(1) * n - (there * said).sum(1)
    spread = np.sqrt((n**2 - (there**2).sum(1)) * (n**2 - (said**2).sum(1)))
    found = (
        ratio((recall * has).sum(1), has.sum(1)),
        *(ratio((one * known).sum(1), known.sum(1)) for one in (precision, recall, f1)),
        (precision * there).sum(1) / n,
        (f1 * there).sum(1) / n,
        ratio(agreed - chance, 1 - chance),
        ratio(covariance, spread),
    )
    return np.stack(found, axis=1)


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below, 0 where below is 0."""
    return np.divide(above, below, where=below > 0, out=np.zeros(np.broadcast(above, below).shape))


def brier_of_each(shares: Floats, labels: NDArray[np.int64]) -> Floats:
    """(N): sum_k (p_k - [k is the class])^2 of each picture, from 0 to 2 (G. W. Brier, 1950)."""
    own = shares[np.arange(len(labels)), labels]
    return (shares**2).sum(1) - 2 * own + 1
