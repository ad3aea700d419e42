"""The handwritten digits that come with tellapart: 1,797 pictures of 8 x 8, so that everything can be tried offline.

The test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI, CC BY 4.0), as scikit-learn
(BSD-3-Clause) hands it on. `scripts/make_digits.py` makes `digits.bin`.
"""

import zlib
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, ArrayStore, Index, Strings

COUNT, SIDE, BRIGHTEST = 1797, 8, 16
CLASSES = tuple("0123456789")


def digits(root: Path) -> Index:
    """The 1,797 digits, (8, 8, 1) uint8, without parts. `root` is not looked at: the pictures come with the package."""
    values, labels = stored()
    # half to even never matters here: v * 255 / 16 is a half only for v = 8, and 127.5 becomes 128
    pixels = np.rint(values.astype(np.float64) * 255 / BRIGHTEST).astype(np.uint8)
    return Index(
        name="digits",
        classes=CLASSES,
        keys=Strings.of(f"digits/{row:04d}" for row in range(COUNT)),
        labels=labels.astype(np.int64),
        parts=np.full(COUNT, NO_PART, np.uint8),
        store=ArrayStore(pixels.reshape(COUNT, SIDE, SIDE, 1)),
        said=(f"digits: {COUNT:,} pictures of {SIDE} x {SIDE} that come with tellapart.",),
    )


def stored() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The values (1797, 64) from 0 to 16 and the labels (1797) from 0 to 9, as they stand in `digits.bin`."""
    packed = resources.files("tellapart.data.sources").joinpath("digits.bin").read_bytes()
    columns = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(SIDE * SIDE + 1, COUNT)
    return np.ascontiguousarray(columns[:-1].T), columns[-1].copy()
