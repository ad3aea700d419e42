"""Judging takes long too: pictures that stop being handed out when someone asked to stop."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.data.pictures import Pictures, PixelSource
from tellapart.training.fit import Asked


@dataclass(frozen=True)
class _StoppablePixels:
    """Pixels that raise the ending that was asked for."""

    inner: PixelSource
    asked: Asked

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        ending = self.asked()
        if ending is not None:
            raise ending
        return self.inner.gather(rows)


def to_judge(pictures: Pictures, asked: Asked) -> Pictures:
    """The same pictures; asking for the next batch raises the ending that `asked` returns."""
    return replace(pictures, pixels=_StoppablePixels(pictures.pixels, asked))


def heeding(asked: Asked) -> Callable[[int, int, str], None]:
    """Progress of work that ends where an ending is asked for, by raising it."""

    def tell(done: int, total: int, what: str) -> None:
        if (ending := asked()) is not None:
            raise ending

    return tell
