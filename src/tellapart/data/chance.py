"""Chance as arithmetic: a counter-based hash, so that what a row meets depends on (seed, epoch, row) and nothing else.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_WORD = 0xFFFFFFFFFFFFFFFF


class Purpose(IntEnum):
    """What a draw is for; each purpose has numbers of its own. The values must never change."""

    ORDER = 0
    AUGMENT = 1
    LIMIT = 2
    TRANSFORM = 3


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Ten rounds of Philox4x32: counters (4, N) of 32-bit words held in uint64 give (4, N) random 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c2 = (second >> _HALF) ^ c1 ^ np.uint64(k0), (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & _LOW, first & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def words(seed: int, purpose: Purpose, epoch: int, rows: NDArray[np.int64], *, more: int = 0) -> NDArray[np.uint64]:
    """Four random 32-bit words (4, N) for each row; `more` counts further calls for the same rows."""
    rows64 = rows.astype(np.uint64)
    counter = np.stack(
        [
            rows64 & _LOW,
            rows64 >> _HALF,
            np.full_like(rows64, epoch & 0xFFFFFFFF),
            np.full_like(rows64, (int(purpose) << 16) | more),
        ]
    )
    return philox(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))


def uniform(seed: int, purpose: Purpose, epoch: int, rows: NDArray[np.int64], *, more: int = 0) -> NDArray[np.float32]:
    """Four uniform numbers in [0, 1) for each row, (4, N)."""
    return ((words(seed, purpose, epoch, rows, more=more) >> np.uint64(8)).astype(np.float32)) * np.float32(2.0**-24)


def order(seed: int, epoch: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in the order of this epoch: sorted by a 64-bit hash of (seed, epoch, row)."""
    drawn = words(seed, Purpose.ORDER, epoch, rows)
    return rows[np.argsort((drawn[0] << _HALF) | drawn[1], kind="stable")]


def step_seed(seed: int, step: int) -> int:
    """The 63-bit seed of what a network draws itself in one step (dropout): SplitMix64 of seed and step.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). Plain integers: it is called
    in every step.
    """
    mixed = (seed * 0xD1342543DE82EF95 + (step + 1) * 0x9E3779B97F4A7C15) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return (mixed ^ (mixed >> 31)) >> 1
