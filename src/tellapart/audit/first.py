"""The first look: the cheap part of the check, which every training makes from what it has read anyway."""

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.balance import balance
from tellapart.audit.shapes import LOST, crop_loss
from tellapart.data.index import Index
from tellapart.data.split import twins

MOST = 3


def first_look(index: Index, sizes: NDArray[np.int64], *, fit: str, source: str) -> list[str]:
    """At most three notes about a divided index and some heights and widths (n, 2 or more), and where to see more."""
    lost = float(crop_loss(sizes[:, :2]).mean())
    uneven = [one.title for one in balance(index.classes, index.counts("train").tolist()) if one.severity != "info"]
    cropped = (
        [f"the centre crop throws away {100 * lost:.0f} % of the pictures; --set input.fit=pad keeps all"]
        if fit == "crop" and lost >= LOST
        else []
    )
    notes = [*twins(index), *uneven, *cropped]
    return [*notes[:MOST], f"`tellapart check {source}` says more"] if notes else []
