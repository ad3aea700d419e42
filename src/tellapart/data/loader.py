"""Batches: the order of an epoch by arithmetic, pictures as uint8 until the device, every batch with its rows."""

import functools
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.data.chance import Purpose, order, uniform
from tellapart.data.pictures import Pictures


@dataclass(frozen=True)
class Share:
    """What one process of several has of a batch: `rows` of its `of` pictures; no process has fewer than `least`.

    Where pictures are too few for all, the others are `lent` some: they go through the same steps, and count nothing.
    """

    rows: slice
    of: int
    least: int
    lent: bool


@functools.cache
def share_of(n: int, rank: int, size: int) -> Share:
    """The share of process `rank` of `size`: nearly equal parts, in order, of two pictures or more, for a normalisation
    over one value has no variance.

    >>> [share_of(10, rank, 3).rows for rank in range(3)]
    [slice(0, 4, None), slice(4, 7, None), slice(7, 10, None)]
    """
    busy = min(size, max(1, n // 2))
    least, more = divmod(n, busy)
    start = rank * least + min(rank, more)
    rows = slice(start, start + least + (rank < more)) if rank < busy else slice(0, least)
    return Share(rows=rows, of=n, least=least, lent=rank >= busy)


@dataclass(frozen=True)
class Batch:
    """B pictures on the device. images (B H W C) uint8, labels (B) int64 or shares (B K), rows (B).

    For augmentation: chance (4, B), and the seed and epoch from which more of it can be drawn. `waited`: the seconds
    that whoever asked for it waited for its pixels. `share`: of what it is a part, when several processes train.
    """

    images: Tensor
    labels: Tensor
    rows: NDArray[np.int64]
    chance: NDArray[np.float32]
    seed: int
    epoch: int
    waited: float = 0.0
    share: Share | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counted(self) -> int:
        """How many pictures of all processes it stands for."""
        return len(self) if self.share is None else self.share.of

    def parts(self, number: int) -> list["Batch"]:
        """The batch cut into `number` parts of nearly equal size, as many in each process; itself when that is one."""
        number = min(number, len(self) if self.share is None else self.share.least)
        if number == 1:
            return [self]
        cuts = np.array_split(np.arange(len(self)), number)
        return [self._cut(slice(int(cut[0]), int(cut[-1]) + 1)) for cut in cuts]

    def shared(self, rank: int, size: int) -> "Batch":
        """What process `rank` of `size` has of it."""
        share = share_of(len(self), rank, size)
        return replace(self._cut(share.rows), share=share)

    def _cut(self, s: slice) -> "Batch":
        cut = {"images": self.images[s], "labels": self.labels[s], "rows": self.rows[s], "chance": self.chance[:, s]}
        return replace(self, **cut)


def sizes_of(n: int, batch_size: int, *, drop_last: bool = False) -> list[int]:
    """The batches of n pictures. A last batch of one picture joins the batch before it: a normalisation over one value
    has no variance.

    >>> sizes_of(10, 4), sizes_of(9, 4)
    ([4, 4, 2], [4, 5])
    """
    whole, rest = divmod(n, batch_size)
    sizes = [batch_size] * whole
    if rest == 1 and whole and not drop_last:
        return [*sizes[:-1], batch_size + 1]
    return [*sizes, rest] if rest and not drop_last else sizes


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Batches of some rows. What is in a batch depends on (seed, epoch, rows), never on workers or on history.

    `share` (rank, size): only the pictures of that process are fetched; `sizes` and the order are those of all.
    """

    pictures: Pictures
    rows: NDArray[np.int64]
    batch_size: int
    device: torch.device
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    workers: int = 0
    share: tuple[int, int] = (0, 1)

    def sizes(self) -> list[int]:
        """Pictures in each batch of an epoch."""
        return sizes_of(len(self.rows), self.batch_size, drop_last=self.drop_last)

    def __len__(self) -> int:
        return len(self.sizes())

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, in its order; `skip` starts after that many."""
        rows = order(self.seed, number, self.rows) if self.shuffle else self.rows
        chance = uniform(self.seed, Purpose.AUGMENT, number, rows)
        ends = np.cumsum(self.sizes())
        batches = list(zip(ends, self.sizes(), strict=True))[skip:]
        shares = [share_of(size, *self.share) for _, size in batches]
        starts = [int(end) - size for end, size in batches]
        spans = [slice(at + s.rows.start, at + s.rows.stop) for at, s in zip(starts, shares, strict=True)]
        fetched = self._fetched([rows[span] for span in spans])
        for span, share in zip(spans, shares, strict=True):
            began, step_before = time.perf_counter(), _mark(self.device)
            pixels = next(fetched)
            # A GPU that is still at work has not waited; on the way to it, the pixels would wait for it.
            idle = step_before is None or step_before.query()
            waited = (time.perf_counter() - began) * idle
            images, labels = (self._there(array) for array in (pixels, self.pictures.index.targets(rows[span])))
            yield Batch(images, labels, rows[span], chance[:, span], self.seed, number, waited, share)

    def _fetched(self, batches: list[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
        """The pixels of each batch in turn; with workers, the next batches are decoded beside the training."""
        gather = self.pictures.pixels.gather
        if not self.workers:
            yield from (gather(rows) for rows in batches)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[Future] = deque()
            for rows in batches:
                waiting.append(pool.submit(gather, rows))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            yield from (future.result() for future in waiting)

    def _there(self, array: NDArray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind all that a GPU was given to do, which can be asked without waiting; None elsewhere."""
    if device.type != "cuda":
        return None
    mark = torch.cuda.Event()
    mark.record(torch.cuda.current_stream(device))
    return mark
