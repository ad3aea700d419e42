"""Batches: the order of an epoch by arithmetic, pictures as uint8 until the device, every batch with its rows."""

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
class Batch:
    """B pictures on the device. images (B H W C) uint8, labels (B) int64 or shares (B K), rows (B).

    For augmentation: chance (4, B), and the seed and epoch from which more of it can be drawn. `waited`: the seconds
    that whoever asked for it waited for its pixels.
    """

    images: Tensor
    labels: Tensor
    rows: NDArray[np.int64]
    chance: NDArray[np.float32]
    seed: int
    epoch: int
    waited: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self, number: int) -> list["Batch"]:
        """The batch cut into `number` parts of nearly equal size; itself when that is one."""
        if number == 1:
            return [self]
        cuts = [part for part in np.array_split(np.arange(len(self)), number) if len(part)]
        spans = [slice(int(cut[0]), int(cut[-1]) + 1) for cut in cuts]
        return [
            replace(self, images=self.images[s], labels=self.labels[s], rows=self.rows[s], chance=self.chance[:, s])
            for s in spans
        ]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """Batches of some rows. What is in a batch depends on (seed, epoch, rows), never on workers or on history."""

    pictures: Pictures
    rows: NDArray[np.int64]
    batch_size: int
    device: torch.device
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    workers: int = 0

    def sizes(self) -> list[int]:
        """Pictures in each batch of an epoch. A last batch of one picture joins the batch before it: a normalisation
        over one value has no variance.

        >>> Loader(pictures=None, rows=np.arange(10), batch_size=4, device=torch.device("cpu")).sizes()
        [4, 4, 2]
        """
        whole, rest = divmod(len(self.rows), self.batch_size)
        sizes = [self.batch_size] * whole
        if rest == 1 and whole and not self.drop_last:
            return [*sizes[:-1], self.batch_size + 1]
        return [*sizes, rest] if rest and not self.drop_last else sizes

    def __len__(self) -> int:
        return len(self.sizes())

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, in its order; `skip` starts after that many."""
        rows = order(self.seed, number, self.rows) if self.shuffle else self.rows
        chance = uniform(self.seed, Purpose.AUGMENT, number, rows)
        ends = np.cumsum(self.sizes())
        spans = [slice(int(end - size), int(end)) for end, size in zip(ends, self.sizes(), strict=True)][skip:]
        fetched = self._fetched([rows[span] for span in spans])
        for span in spans:
            began, step_before = time.perf_counter(), _mark(self.device)
            pixels = next(fetched)
            # A GPU that is still at work has not waited; on the way to it, the pixels would wait for it.
            idle = step_before is None or step_before.query()
            waited = (time.perf_counter() - began) * idle
            yield replace(self._batch(rows[span], pixels, chance[:, span], number), waited=waited)

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

    def _batch(
        self, rows: NDArray[np.int64], pixels: NDArray[np.uint8], chance: NDArray[np.float32], epoch: int
    ) -> Batch:
        images = torch.from_numpy(pixels).to(self.device, non_blocking=True)
        labels = torch.from_numpy(self.pictures.index.labels[rows]).to(self.device, non_blocking=True)
        return Batch(images, labels, rows, chance, self.seed, epoch)


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind all that a GPU was given to do, which can be asked without waiting; None elsewhere."""
    if device.type != "cuda":
        return None
    mark = torch.cuda.Event()
    mark.record(torch.cuda.current_stream(device))
    return mark
