"""The first pass: every picture decoded once, named by its digest, and kept as a uint8 square for all later ones."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tellapart.data.cache import Entry, Room, filling, found, key_of
from tellapart.data.decode import decode, decoded, header
from tellapart.data.identity import digest
from tellapart.data.index import Ignored, Index
from tellapart.data.progress import Progress, quiet
from tellapart.data.square import stored
from tellapart.errors import DataError
from tellapart.names import PARTS
from tellapart.preprocess import Preprocess
from tellapart.recipe import printable

_Read = tuple[bytes, str]
"""The digest of a picture, and what decoded it."""
_Keep = Callable[[int, NDArray[np.uint8]], None]
"""Where the square of a row goes: at once, while it is still in the processor's cache."""
CHUNK, FEW, HEAD = 64, 8, 1 << 16
"""Pictures that a thread does before it is asked for them: many quick ones, few slow ones, so that all end at once."""
QUICK = 2.5e-4
"""Seconds for one picture below which a second thread costs more than it gives (measured, docs/log.md)."""


class PixelSource(Protocol):
    """Where the network's pictures come from: rows (B) to uint8 (B, S, S, C)."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class MemoryPixels:
    """All pictures as one array (N, S, S, C) uint8, in memory or mapped from the cache."""

    array: NDArray[np.uint8]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.array[rows]


@dataclass(frozen=True)
class StreamedPixels:
    """Pictures decoded each time they are asked for, when there is no place for them.

    One that is no longer what the first pass saw is a DataError that names it.
    """

    index: Index
    preprocess: Preprocess
    threads: int = 1

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        with _pool(min(self.threads, len(rows))) as pool:
            return np.stack(list(pool.map(self._square, rows.tolist())))

    def _square(self, row: int) -> NDArray[np.uint8]:
        try:
            pixels = decode(self.index.store.read(row))
        except DataError as error:
            raise self._changed(row, error.message) from error
        if self.index.digests is not None and digest(pixels) != self.index.digests[row].tobytes():
            raise self._changed(row, "its pixels are others.")
        return stored(pixels, self.preprocess)

    def _changed(self, row: int, how: str) -> DataError:
        return DataError(
            f"{self.index.keys[row]} has changed since it was first read: {how}", "Bring the old file back."
        )


@dataclass(frozen=True)
class ChosenPixels:
    """Some rows of other pixels, under new numbers."""

    inner: PixelSource
    chosen: NDArray[np.int64]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.inner.gather(self.chosen[rows])


@dataclass(frozen=True)
class Pictures:
    """An index with its pixels, ready to be batched."""

    index: Index
    preprocess: Preprocess
    pixels: PixelSource


def first_pass(
    index: Index,
    preprocess: Preprocess,
    *,
    skip_bad: bool,
    memory: int,
    room: Room | None = None,
    threads: int = 1,
    progress: Progress = quiet,
) -> Pictures:
    """Decode every picture once. Fills in the digests, and keeps the squares: in the cache when there is `room` there,
    else in memory when they need at most `memory` bytes, else not at all.

    Pictures that the cache has are not decoded. Files that are not whole pictures raise a DataError that names them;
    with `skip_bad` they leave the index and are listed in `ignored`. Rows that will be sealed are read here for their
    identity only.
    """
    shape = (len(index), preprocess.side, preprocess.side, preprocess.channels)
    key = key_of(index, preprocess) if room is not None else None
    entry = found(room, key, shape) if room is not None and key is not None else ""
    if isinstance(entry, str):
        index = replace(index, said=(*index.said, entry)) if entry else index
        entry = _made(index, preprocess, shape, memory=memory, room=room, key=key, threads=threads, progress=progress)
    slow = f"{entry.slow:,} JPEGs were left to Pillow, which takes longer: odd ones, or simplejpeg is not installed."
    named = replace(index, digests=entry.digests, said=(*index.said, slow) if entry.slow else index.said)
    whole = len(entry.squares) == len(index)
    source = MemoryPixels(entry.squares) if whole else StreamedPixels(named, preprocess, threads)
    made = Pictures(named, preprocess, source)
    return _without(made, entry.bad, skip=skip_bad) if entry.bad else made


def _made(
    index: Index,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    *,
    memory: int,
    room: Room | None,
    key: str | None,
    threads: int,
    progress: Progress,
) -> Entry:
    """The squares and digests of all pictures, as the cache keeps them; no squares when there is no place for them."""
    digests, bad, slow = np.zeros((len(index), 16), np.uint8), [], 0
    with filling(room, key, shape) as filled:
        here = shape if np.prod(shape) <= memory else (0, *shape[1:])
        squares = np.zeros(here if filled is None else 0, np.uint8)
        keep = filled.put if filled is not None else squares.__setitem__ if len(squares) else None
        for row, result in enumerate(_decoded(index, preprocess, threads, keep)):
            if isinstance(result, str):
                bad.append((row, result))
            else:
                digests[row] = np.frombuffer(result[0], np.uint8)
                slow += result[1] == "pillow, a JPEG"
            if row % CHUNK == CHUNK - 1 or row == len(index) - 1:
                progress(row + 1, len(index))
        if filled is None:
            return Entry(squares, digests, tuple(bad), slow)
        return filled.finish(digests, bad, slow=slow, source=index.name)


def _decoded(index: Index, preprocess: Preprocess, threads: int, keep: _Keep | None) -> "Iterator[_Read | str]":
    """What is read of every row in order, or why nothing, by `threads` threads, a few chunks ahead.

    One thread is left when a picture takes next to no time: several would only wait for each other in the interpreter,
    and two took twice as long as one for 28-px PNGs.
    """
    rows, began = range(len(index)), 0.0
    with _pool(1) as pool:
        for start in (0, FEW):  # the first ones load what decodes them, the second ones are timed
            began = time.perf_counter()
            yield from pool.submit(_chunk, index, preprocess, rows[start : start + FEW], keep).result()
    quick = time.perf_counter() - began < QUICK * FEW
    with _pool(1 if quick else threads) as pool:
        waiting: deque[Future[list]] = deque()
        for start in rows[2 * FEW :: CHUNK if quick else FEW]:
            chunk = rows[start : start + (CHUNK if quick else FEW)]
            waiting.append(pool.submit(_chunk, index, preprocess, chunk, keep))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _chunk(index: Index, preprocess: Preprocess, rows: range, keep: _Keep | None) -> "list[_Read | str]":
    return [_one(index, preprocess, row, keep) for row in rows]


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that decode; each does its resizing alone, for together they fill the cores."""
    return ThreadPoolExecutor(max(1, threads), initializer=torch.set_num_threads, initargs=(1,))


def _one(index: Index, preprocess: Preprocess, row: int, keep: _Keep | None) -> "_Read | str":
    try:
        pixels, by = decoded(index.store.read(row))
    except (DataError, OSError) as error:
        return getattr(error, "message", str(error))
    if keep is not None:
        keep(row, stored(pixels, preprocess))
    return digest(pixels), by


def _without(pictures: Pictures, bad: Sequence[tuple[int, str]], *, skip: bool) -> Pictures:
    """The pictures less the bad ones; an error that names them unless they may be skipped."""
    index = pictures.index
    named = [Ignored(key=index.keys[row], reason=reason) for row, reason in bad]
    if not skip:
        shown = "\n".join(f"  {printable(one.key)}: {one.reason}" for one in named[:5])
        more = f"\n  … and {len(named) - 5} more" if len(named) > 5 else ""
        noun = "files is not a whole picture" if len(named) == 1 else "files are not whole pictures"
        raise DataError(
            f"{len(named)} of {len(index)} {noun}:\n{shown}{more}\n",
            "Repair or remove them, or train without them, named and counted, with --on-bad skip.",
        )
    left = np.setdiff1d(np.arange(len(index)), [row for row, _ in bad])
    return only(replace(pictures, index=replace(index, ignored=(*index.ignored, *named))), left)


def only(pictures: Pictures, rows: NDArray[np.int64]) -> Pictures:
    """The pictures of some rows only."""
    kept = pictures.index.take(rows)
    return Pictures(kept, pictures.preprocess, ChosenPixels(pictures.pixels, rows))


def sizes(index: Index, *, look_at: int = 256) -> NDArray[np.int64]:
    """Height, width, channels (n, 3) of up to `look_at` pictures, by their headers: no pixel is read.

    Rows that are already known to be test rows are left out, and so are broken files.
    """
    open_rows = np.flatnonzero(index.parts != PARTS.index("test"))
    chosen = open_rows[np.unique(np.linspace(0, len(open_rows) - 1, min(look_at, len(open_rows))).astype(np.int64))]
    found = []
    for row in chosen:
        try:
            found.append(size_of(index, int(row)))
        except (DataError, OSError):
            continue
    if not found:
        raise DataError(f"None of the {len(chosen)} pictures looked at can be read; the first is {index.keys[0]}.")
    return np.array(found, np.int64)


def size_of(index: Index, row: int) -> tuple[int, int, int]:
    """Height, width, channels of one picture, by its header. Raises DataError."""
    raw = index.store.read(row, HEAD)
    try:
        return header(raw) if isinstance(raw, bytes) else (raw.shape[0], raw.shape[1], raw.shape[2])
    except DataError:  # some formats have it at the end
        return header(index.store.read(row))  # type: ignore[arg-type]


def mean_and_std(pixels: PixelSource, rows: NDArray[np.int64], channels: int) -> tuple[tuple, tuple]:
    """Mean and deviation of each channel over these rows, in [0, 1]; a constant channel gets the deviation 1."""
    counts, levels = np.zeros((channels, 256), np.int64), np.arange(256) / 255
    each = max(1, 2**21 // pixels.gather(rows[:1]).nbytes)  # two megabytes at a time
    for start in range(0, len(rows), each):
        squares = pixels.gather(rows[start : start + each])
        counts += [_counted(np.ascontiguousarray(squares[..., channel]).ravel()) for channel in range(channels)]
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    rounded = [(round(float(m), 6), round(float(s), 6) or 1.0) for m, s in zip(mean, std, strict=True)]
    return tuple(m for m, _ in rounded), tuple(s for _, s in rounded)


def _counted(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 256 levels comes (256): two values at once are one of 65,536, which is 5 times as fast."""
    even = len(values) // 2 * 2
    pairs = np.bincount(values[:even].view(np.uint16), minlength=65536).reshape(256, 256)
    return pairs.sum(axis=0) + pairs.sum(axis=1) + np.bincount(values[even:], minlength=256)


def memory_budget() -> int:
    """Bytes the decoded pictures may take: half of what the machine has free."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 2 * 1024**3
