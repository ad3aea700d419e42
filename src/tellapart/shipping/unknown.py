"""Parity of *unknown*: it is decided by the logits, which probabilities do not show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.models.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """How far two ways agree on which of n pictures are *unknown*: those whose score, the largest logit, is below
    `known`.

    `same`: that get the same answer, `share` of all; `clear`: whose score is not at `known`, and `agreed`, those of
    them that get the same answer; `largest`: the largest difference of a score.
    """

    known: float
    n: int
    same: int
    share: float
    clear: int
    agreed: int
    largest: float

    def words(self) -> str:
        """One sentence."""
        same = f"{self.agreed:,} of {self.clear:,} clear pictures get the same answer ({self.same:,} of all {self.n:,})"
        return f"unknown: {same}; largest difference of a score {self.largest:.2g}"


def unknown_of(bundle: Bundle, ours: NDArray[np.float64], theirs: NDArray[np.float64], apart: float) -> Unknown | None:
    """What becomes of *unknown* when logits (N K) are others; None where the model never says it, or N is 0.

    `apart`: how much a probability has to be above another to be clear. A logit moves one at one half by a quarter.
    """
    if bundle.known is None or not len(ours):
        return None
    first, second = ours.max(1), theirs.max(1)
    same = (first < bundle.known) == (second < bundle.known)
    clear = np.abs(first - bundle.known) > 4 * apart * bundle.temperature
    counts = {name: int(one.sum()) for name, one in (("same", same), ("clear", clear), ("agreed", same & clear))}
    largest = float(np.nan_to_num(np.abs(first - second), nan=np.inf).max())
    return Unknown(known=bundle.known, n=len(same), share=float(same.mean()), largest=largest, **counts)
