"""The first pass: every picture decoded once, named by its digest, kept as a uint8 square when memory allows."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tellapart.data.decode import decode, fitted, header
from tellapart.data.identity import digest
from tellapart.data.index import Ignored, Index
from tellapart.errors import DataError
from tellapart.names import PARTS
from tellapart.preprocess import Preprocess

Progress = Callable[[int, int], None]
CHUNK = 64


def quiet(done: int, total: int) -> None:
    """The progress of someone who does not look."""


class PixelSource(Protocol):
    """Where the network's pictures come from: rows (B) to uint8 (B, S, S, C)."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class MemoryPixels:
    """All pictures as one array (N, S, S, C) uint8."""

    array: NDArray[np.uint8]

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.array[rows]


@dataclass(frozen=True)
class StreamedPixels:
    """Pictures decoded each time they are asked for, when they do not fit in memory."""

    index: Index
    preprocess: Preprocess

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([fitted(decode(self.index.store.read(int(row))), self.preprocess) for row in rows])


@dataclass(frozen=True)
class Pictures:
    """An index with its pixels, ready to be batched."""

    index: Index
    preprocess: Preprocess
    pixels: PixelSource


@dataclass(frozen=True)
class _Bad:
    row: int
    reason: str


def first_pass(
    index: Index,
    preprocess: Preprocess,
    *,
    skip_bad: bool,
    memory: int,
    threads: int = 1,
    progress: Progress = quiet,
) -> Pictures:
    """Decode every picture once. Fills in the digests and keeps the squares when they need at most `memory` bytes.

    Files that are not whole pictures raise a DataError that names them; with `skip_bad` they leave the index and are
    listed in `ignored`. Rows that will be sealed are read here for their identity only.
    """
    keep = len(index) * preprocess.size**2 * preprocess.channels <= memory
    shape = (len(index) if keep else 0, preprocess.size, preprocess.size, preprocess.channels)
    squares, digests, bad = np.empty(shape, np.uint8), np.empty((len(index), 16), np.uint8), []
    done = 0
    for start, results in _decoded(index, preprocess, threads):
        for row, result in enumerate(results, start):
            if isinstance(result, _Bad):
                bad.append(result)
                continue
            digests[row] = np.frombuffer(result[0], np.uint8)
            if keep:
                squares[row] = result[1]
        done += len(results)
        progress(done, len(index))
    named = replace(index, digests=digests)
    source = MemoryPixels(squares) if keep else StreamedPixels(named, preprocess)
    made = Pictures(named, preprocess, source)
    return _without(made, bad, skip=skip_bad) if bad else made


def _decoded(index: Index, preprocess: Preprocess, threads: int) -> Iterator[tuple[int, list]]:
    """Chunks of rows in order, decoded by `threads` threads; at most a few chunks wait in memory."""
    starts = range(0, len(index), CHUNK)
    if threads <= 1:
        yield from ((start, _chunk(index, preprocess, start)) for start in starts)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: list = []
        for start in starts:
            waiting.append((start, pool.submit(_chunk, index, preprocess, start)))
            if len(waiting) > 2 * threads:
                first, future = waiting.pop(0)
                yield first, future.result()
        yield from ((start, future.result()) for start, future in waiting)


def _chunk(index: Index, preprocess: Preprocess, start: int) -> list:
    return [_one(index, preprocess, row) for row in range(start, min(start + CHUNK, len(index)))]


def _one(index: Index, preprocess: Preprocess, row: int) -> "tuple[bytes, NDArray[np.uint8]] | _Bad":
    try:
        pixels = decode(index.store.read(row))
    except (DataError, OSError) as error:
        return _Bad(row, getattr(error, "message", str(error)))
    return digest(pixels), fitted(pixels, preprocess)


def _without(pictures: Pictures, bad: list[_Bad], *, skip: bool) -> Pictures:
    """The pictures less the bad ones; an error that names them unless they may be skipped."""
    index = pictures.index
    named = [Ignored(key=index.keys[b.row], reason=b.reason) for b in bad]
    if not skip:
        shown = "\n".join(f"  {one.key}: {one.reason}" for one in named[:5])
        more = f"\n  … and {len(named) - 5} more" if len(named) > 5 else ""
        noun = "files is not a whole picture" if len(named) == 1 else "files are not whole pictures"
        raise DataError(
            f"{len(named)} of {len(index)} {noun}:\n{shown}{more}\n",
            "Repair or remove them, or train without them, named and counted, with --on-bad skip.",
        )
    rows = np.setdiff1d(np.arange(len(index)), [b.row for b in bad])
    return only(replace(pictures, index=replace(index, ignored=(*index.ignored, *named))), rows)


def only(pictures: Pictures, rows: NDArray[np.int64]) -> Pictures:
    """The pictures of some rows only."""
    kept = pictures.index.take(rows)
    if isinstance(pictures.pixels, MemoryPixels):
        return Pictures(kept, pictures.preprocess, MemoryPixels(pictures.pixels.array[rows]))
    return Pictures(kept, pictures.preprocess, StreamedPixels(kept, pictures.preprocess))


def sizes(index: Index, *, look_at: int = 256) -> NDArray[np.int64]:
    """Height, width, channels (n, 3) of up to `look_at` pictures, by their headers: no pixel is read.

    Rows that are already known to be test rows are left out, and so are broken files.
    """
    open_rows = np.flatnonzero(index.parts != PARTS.index("test"))
    chosen = open_rows[np.unique(np.linspace(0, len(open_rows) - 1, min(look_at, len(open_rows))).astype(np.int64))]
    found = []
    for row in chosen:
        try:
            found.append(_size(index, int(row)))
        except (DataError, OSError):
            continue
    if not found:
        raise DataError(f"None of the {len(chosen)} pictures looked at can be read; the first is {index.keys[0]}.")
    return np.array(found, np.int64)


def _size(index: Index, row: int) -> tuple[int, int, int]:
    raw = index.store.read(row)
    return header(raw) if isinstance(raw, bytes) else (raw.shape[0], raw.shape[1], raw.shape[2])


def mean_and_std(pixels: PixelSource, rows: NDArray[np.int64], channels: int) -> tuple[tuple, tuple]:
    """Mean and deviation of each channel over these rows, in [0, 1]; a constant channel gets the deviation 1."""
    count, total, squared = 0, np.zeros(channels), np.zeros(channels)
    levels = np.arange(256) / 255
    for start in range(0, len(rows), 4096):
        planes = np.moveaxis(pixels.gather(rows[start : start + 4096]), 3, 0)
        counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in planes])
        count, total, squared = count + counts[0].sum(), total + counts @ levels, squared + counts @ levels**2
    mean = total / count
    std = np.sqrt(np.maximum(squared / count - mean**2, 0))
    rounded = [(round(float(m), 6), round(float(s), 6) or 1.0) for m, s in zip(mean, std, strict=True)]
    return tuple(m for m, _ in rounded), tuple(s for _, s in rounded)


def memory_budget() -> int:
    """Bytes the decoded pictures may take: half of what the machine has free."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 2 * 1024**3
