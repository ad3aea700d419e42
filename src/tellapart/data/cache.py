"""The pixel cache: the squares and digests of pictures that were decoded before, so that no one waits for it twice.

One folder an entry, named by a hash of which files (path, size, times) became which squares (Preprocess):

    KEY/squares.npy (N S S C) uint8   digests.npy (N 16) uint8   about.json   rows, bytes, source, what was broken
        sums.npy: a CRC-32 of each megabyte of the squares, of the digests, and of what was broken; compared when it is
        opened, so that bytes that changed on the disk are never trained on

An entry is made beside the others under a name of its own and appears when it is whole: two processes that make the
same one do not meet, and one that is killed leaves nothing that looks like an entry.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data import identity
from tellapart.data.index import Index
from tellapart.data.official import cache_root
from tellapart.errors import StorageError
from tellapart.files import cannot_write
from tellapart.preprocess import Preprocess
from tellapart.run import cores

CONTRACT = 2
"""Counted up whenever the same file would become other pixels or another digest; older entries are then not found."""

GIGABYTE = 10**9
DAY = 86_400
BLOCK = 1 << 20
"""Bytes of the squares to one checksum: so that threads, which zlib lets go, share the work."""


@dataclass(frozen=True)
class Room:
    """Where entries lie, and how many bytes all of them may take together."""

    folder: Path
    bytes: int


@dataclass(frozen=True)
class Entry:
    """What is kept of N pictures. bad: (row, reason) of those that are not whole; slow: JPEGs left to Pillow."""

    squares: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    bad: tuple[tuple[int, str], ...] = ()
    slow: int = 0


def default_room(gigabytes: float) -> Room | None:
    """So much room in the folder of all entries; None for 0 gigabytes."""
    return Room(pixel_folder(), int(gigabytes * GIGABYTE)) if gigabytes else None


def pixel_folder() -> Path:
    """The folder of all entries."""
    return cache_root() / "pixels"


def key_of(index: Index, to: Preprocess) -> str | None:
    """The name of the entry for these files and squares; None for pictures that do not lie in files of their own."""
    return identity.files(index, f"{CONTRACT} {to.side} {to.channels} {to.fit} {to.filter}")


def found(room: Room, key: str, shape: tuple[int, ...]) -> Entry | str:
    """The entry of this name, memory-mapped, and marked as used now; else why not, '' when there is none."""
    folder = room.folder / key
    if not folder.is_dir():
        return ""
    return _whole(folder, shape) or f"The pixel cache in {folder} is damaged: the pictures are decoded again."


def _whole(folder: Path, shape: tuple[int, ...]) -> Entry | None:
    """The entry in a folder; None when a checksum says that it is not what was written there."""
    entry = _opened(folder, shape)
    with contextlib.suppress(Exception):  # as in _opened
        if entry and np.array_equal(np.load(folder / "sums.npy"), _sums(entry)):
            return entry
    return None


def _opened(folder: Path, shape: tuple[int, ...]) -> Entry | None:
    """What lies in the folder of an entry; None when that is of another form than what was written there."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        squares = np.load(folder / "squares.npy", mmap_mode="r")
        digests = np.load(folder / "digests.npy")
        bad = tuple((int(row), str(reason)) for row, reason in about["bad"])
        slow = int(about["slow"])
        os.utime(folder / "about.json")
    except Exception:  # a header with one wrong byte raises nearly every built-in error
        return None
    if squares.shape != shape or digests.shape != (shape[0], 16) or {squares.dtype, digests.dtype} != {np.dtype("u1")}:
        return None
    return Entry(squares, digests, bad, slow)


def _sums(entry: Entry) -> NDArray[np.uint32]:
    """The checksums of an entry: of each block of the squares (n), then one of all else."""
    flat = entry.squares.reshape(-1)
    with ThreadPoolExecutor(cores()) as pool:
        blocks = list(pool.map(lambda start: zlib.crc32(flat[start : start + BLOCK].data), range(0, len(flat), BLOCK)))
    rest = zlib.crc32(json.dumps([entry.bad, entry.slow]).encode(), zlib.crc32(entry.digests.data))
    return np.array([*blocks, rest], np.uint32)


class Filling:
    """An entry being made. `put` takes the squares, from any thread; `finish` lets the entry appear."""

    def __init__(self, room: Room, key: str, shape: tuple[int, ...]) -> None:
        self.room, self.key, self.shape = room, key, shape
        self.staging = room.folder / f".{key}.{uuid.uuid4().hex[:8]}"
        self.staging.mkdir(parents=True)
        try:
            mapped = np.lib.format.open_memmap(self.staging / "squares.npy", "w+", np.uint8, shape)
            self.start, self.bytes = mapped.offset, mapped.nbytes
            del mapped  # written, not mapped: a page that is mapped is filled with zeros before it is filled
            _reserve(self.staging / "squares.npy")
            self.file, self.turn = (self.staging / "squares.npy").open("rb+"), Lock()
        except OSError:
            shutil.rmtree(self.staging, ignore_errors=True)
            raise

    def put(self, row: int, square: NDArray[np.uint8]) -> None:
        """Write one square. Raises StorageError."""
        try:
            with self.turn:
                self.file.seek(self.start + row * square.nbytes)
                self.file.write(np.ascontiguousarray(square).data)
        except OSError as error:
            raise _unwritten(self.staging, error) from error

    def finish(self, digests: NDArray[np.uint8], bad: list[tuple[int, str]], *, slow: int, source: str) -> Entry:
        """Write the rest, flush all of it, let the entry appear, and open it. Raises StorageError."""
        try:
            self.file.close()
            np.save(self.staging / "digests.npy", digests)
            squares = np.load(self.staging / "squares.npy", mmap_mode="r")
            np.save(self.staging / "sums.npy", _sums(Entry(squares, digests, tuple(bad), slow)))
            del squares  # Windows renames no folder with an open file in it
            about = {"format": 1, "source": source, "rows": len(digests), "bytes": self.bytes}
            about |= {"bad": bad, "slow": slow}
            (self.staging / "about.json").write_text(json.dumps(about), encoding="utf-8")
            for file in self.staging.iterdir():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        except OSError as error:
            raise _unwritten(self.staging, error) from error
        if _whole(self.room.folder / self.key, self.shape) is None:
            shutil.rmtree(self.room.folder / self.key, ignore_errors=True)  # if there is one, it is damaged
        with contextlib.suppress(OSError):  # another process was sooner: its entry is the same
            os.rename(self.staging, self.room.folder / self.key)
        entry = _opened(self.room.folder / self.key, self.shape)
        if entry is None:
            raise StorageError(
                f"The pixel cache in {self.room.folder} was removed while it was written.",
                "Run again; --set machine.cache=0 does without it.",
            )
        return entry


def _unwritten(folder: Path, error: OSError) -> StorageError:
    what = cannot_write(folder, error).message
    return StorageError(what, "Free some space; --set machine.cache=0 does without the cache.")


def _reserve(path: Path) -> None:
    """Take the blocks of a file now: a disk that is too full is found before the work, not amid it."""
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextlib.contextmanager
def filling(room: Room | None, key: str | None, shape: tuple[int, ...]) -> Iterator[Filling | None]:
    """An entry to fill; None when it does not fit, or the folder cannot be written. Old entries make room for it."""
    filled = None
    if room is not None and key is not None and _make_room(room, int(np.prod(shape)) + 16 * shape[0]):
        with contextlib.suppress(OSError):
            filled = Filling(room, key, shape)
    try:
        yield filled
    finally:
        if filled is not None:
            with contextlib.suppress(OSError):  # what could not be written is removed
                filled.file.close()
            shutil.rmtree(filled.staging, ignore_errors=True)


def _make_room(room: Room, needed: int) -> bool:
    """Whether `needed` bytes fit, after the entries that were not used for longest are removed where they must be.

    A disk is never filled by more than half of what is free on it.
    """
    if needed > room.bytes:
        return False
    with contextlib.suppress(OSError):
        room.folder.mkdir(parents=True, exist_ok=True)
        _sweep(room)
        kept = sorted(entries(room), key=lambda entry: entry["used"])
        while kept and sum(entry["bytes"] for entry in kept) + needed > room.bytes:
            shutil.rmtree(kept.pop(0)["folder"], ignore_errors=True)
        return needed < shutil.disk_usage(room.folder).free / 2
    return False


def _sweep(room: Room) -> None:
    """Remove what a killed process began more than a day ago."""
    for folder in room.folder.glob(".*"):
        if folder.stat().st_mtime < time.time() - DAY:
            shutil.rmtree(folder, ignore_errors=True)


def entries(room: Room) -> list[dict[str, Any]]:
    """What is kept: folder, source, rows, bytes, and when it was used last (seconds since 1970)."""
    listed = []
    for about in room.folder.glob("[!.]*/about.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(about.read_text(encoding="utf-8"))
            used = about.stat().st_mtime
            listed.append({**content, "folder": about.parent, "used": used, "bytes": int(content["bytes"])})
    return listed
