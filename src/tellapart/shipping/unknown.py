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
    them that get the same answer; `largest`, `typical`: the largest difference of a score, and the median; a typical
    one above `bound` is no rounding. Scores that are no numbers agree with nothing.
    """

    known: float
    n: int
    same: int
    share: float
    clear: int
    agreed: int
    largest: float
    typical: float
    bound: float

    def sound(self, least: float) -> bool:
        """Whether the scores are those of the model, and this share of the clear pictures gets the same answer."""
        return self.typical <= self.bound and self.agreed >= least * self.clear

    def words(self) -> str:
        """One sentence."""
        same = f"{self.agreed:,} of {self.clear:,} clear pictures get the same answer ({self.same:,} of all {self.n:,})"
        off = f"{self.largest:.2g}, typically {self.typical:.2g}, bound {self.bound:.2g}"
        return f"unknown: {same}; largest difference of a score {off}"


def unknown_of(
    bundle: Bundle, ours: NDArray[np.float64], theirs: NDArray[np.float64], *, apart: float, bound: float
) -> Unknown | None:
    """What becomes of *unknown* when logits (N K) are others; None where the model never says it, or N is 0.

    `apart`: how much a probability has to be above another to be clear; `bound`: how far one may be off. A logit moves
    one at one half by a quarter.
    """
    if bundle.known is None or not len(ours):
        return None
    first, second = ours.max(1), theirs.max(1)
    same = np.isfinite(second) & ((first < bundle.known) == (second < bundle.known))
    clear = np.abs(first - bundle.known) > 4 * apart * bundle.temperature
    counts = {name: int(one.sum()) for name, one in (("same", same), ("clear", clear), ("agreed", same & clear))}
    off = np.nan_to_num(np.abs(first - second), nan=np.inf, posinf=np.inf)
    return Unknown(
        known=bundle.known,
        n=len(same),
        share=float(same.mean()),
        largest=float(off.max()),
        typical=float(np.median(off)),
        bound=max(4 * bound * bundle.temperature, 1e-3 * float(np.median(np.abs(first)))),
        **counts,
    )
