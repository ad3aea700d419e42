"""The seal on the test part (law 5): while it holds, a test pixel or a test label raises instead of being read."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import Index
from tellapart.data.pictures import Pictures, PixelSource
from tellapart.names import PARTS

SEALED_LABEL = -1
"""What stands in the place of a sealed label."""


class SealBroken(RuntimeError):
    """Sealed pictures were asked for: a mistake of the program, never of the person at the keyboard."""


@dataclass(frozen=True)
class SealedPixels:
    """Pixels that refuse the sealed rows."""

    inner: PixelSource
    sealed: NDArray[np.bool_]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self.sealed[rows].any():
            raise SealBroken(f"{int(self.sealed[rows].sum())} sealed test pictures were asked for before the opening")
        return self.inner.gather(rows)


@dataclass(frozen=True)
class SealedStore:
    """A store whose sealed rows cannot be read, not even as bytes."""

    sealed: NDArray[np.bool_]
    inner: Index

    def read(self, row: int, most: int = -1) -> bytes | NDArray[np.uint8]:
        if self.sealed[row]:
            raise SealBroken(f"sealed test picture {self.inner.keys[row]} was asked for before the opening")
        return self.inner.store.read(row, most)

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        return self.inner.store.stamps(rows)


def sealed(pictures: Pictures) -> Pictures:
    """The same pictures with the test part closed: its pixels raise and its labels are blank."""
    index = pictures.index
    mask = index.parts == PARTS.index("test")
    blank = replace(index, labels=np.where(mask, SEALED_LABEL, index.labels), store=SealedStore(mask, index))
    if index.marks is not None:
        blank = replace(blank, marks=np.where(mask[:, None], np.int8(SEALED_LABEL), index.marks))
    return replace(pictures, index=blank, pixels=SealedPixels(pictures.pixels, mask))


def open_test(pictures: Pictures) -> Pictures:
    """Open the seal. Called once a run, after every choice is made, by the final judgement and by nothing else."""
    store, pixels = pictures.index.store, pictures.pixels
    if not isinstance(store, SealedStore) or not isinstance(pixels, SealedPixels):
        raise SealBroken("these pictures are not sealed")
    return replace(pictures, index=store.inner, pixels=pixels.inner)
