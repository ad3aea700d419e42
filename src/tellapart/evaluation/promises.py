"""What an answer may promise: how sure it has to be to be right so often, and when it is *unknown*. NumPy only.

Both are chosen on validation and kept in the model file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.calibration import temperature
from tellapart.evaluation.intervals import design_effect
from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.predictions import Predictions

PROMISED, STEPS, DOUBT, STRANGE = (0.9, 0.95, 0.99), 20, 0.05, 0.02
"""Shares of right answers that are promised; shares of answered pictures that are tried; how often a promise may be
broken by chance; the share of known pictures that may be called unknown.
"""


@dataclass(frozen=True)
class Promise:
    """From which probability on answers are right in `precision` of cases; how many of n were so sure, how many right.

    `threshold` is None where these pictures cannot show it.
    """

    precision: float
    threshold: float | None
    answered: int
    right: int
    n: int


def promises(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    at: float = 1.0,
    groups: NDArray[np.int64] | None = None,
) -> tuple[Promise, ...]:
    """One for each of PROMISED, of the answers at a temperature; groups (N) count for the pictures they are worth."""
    shares = softmax(np.asarray(logits, np.float64) / at)
    sure, right = shares.max(1), shares.argmax(1) == labels
    order = np.argsort(-sure, kind="stable")
    worth = 1 / design_effect(right - sure, groups)
    return tuple(_promise(one, sure[order], right[order], worth) for one in PROMISED)


def _promise(precision: float, sure: NDArray[np.float64], right: NDArray[np.bool_], worth: float) -> Promise:
    """Twenty shares are tried from the surest on, until one fails: so the whole search errs in 5 of 100 cases, not each
    trial (fixed sequence testing, as in A. Angelopoulos and others, "Learn then test", 2021).
    """
    n, hits, kept = len(sure), np.cumsum(right), 0
    for step in range(1, STEPS + 1):
        count = int(np.searchsorted(-sure, -sure[n * step // STEPS - 1], side="right")) if n >= STEPS else 0
        few, wrong = int(count * worth), math.ceil((count - int(hits[count - 1])) * worth)
        if precision**few > DOUBT:
            continue  # so few could not show it if all were right
        if chance_of(min(wrong, few), few, 1 - precision) > DOUBT:
            break
        kept = count
    if not kept:
        return Promise(precision, None, 0, 0, n)
    return Promise(precision, float(sure[kept - 1]), kept, int(hits[kept - 1]), n)


def chance_of(errors: int, n: int, rate: float) -> float:
    """The chance of so few errors or fewer in n, at a rate: the binomial distribution, summed in logarithms."""
    ks = np.arange(1, errors + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - ks + 1) / ks))]) + np.arange(errors + 1) * np.log(rate)
    return float(np.exp(logs + (n - np.arange(errors + 1)) * np.log1p(-rate)).sum())


def known_from(logits: NDArray[np.floating]) -> float | None:
    """The largest logit below which a picture is called unknown, from those (N K) of validation; None for small N.

    A picture of the classes is then called unknown with a chance of at most STRANGE (split conformal prediction: V.
    Vovk and others, 2005). On digits, 70 to 83 of 100 pictures of a class that was left out of training were.
    """
    scores, rank = np.sort(logits.max(1)), int(np.floor(STRANGE * (len(logits) + 1)))
    return float(scores[rank - 1]) if rank else None


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What the answers of a model rest on, as it stands in its file: see `temperature`, `promises` and `known_from`.

    `span`, the interval of the temperature, and n, the pictures that all was found on, are None where not known.
    """

    temperature: float
    promises: Mapping[float, float]
    known: float | None
    span: tuple[float, float] | None = None
    n: int | None = None

    @classmethod
    def of(cls, validation: Predictions) -> "Answering":
        """What validation says of it; nothing where a logit is not finite."""
        logits, labels, groups = validation.logits, validation.labels, validation.groups
        if not len(labels) or not np.isfinite(logits).all():
            return cls(temperature=1.0, promises={}, known=None)
        at = temperature(logits, labels, groups)
        kept = {one.precision: one.threshold for one in promises(logits, labels, at=at.value, groups=groups)}
        return cls(
            temperature=at.value,
            promises={of: least for of, least in kept.items() if least is not None},
            known=known_from(logits),
            span=(at.low, at.high),
            n=at.n,
        )
