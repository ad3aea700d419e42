"""Index: which pictures there are, as columns: keys, labels, classes, parts, groups. No pixels."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from tellapart.names import PARTS

NO_PART = 255
"""The part of a row that no one has placed yet."""


class Strings(Sequence[str]):
    """A column of texts as one UTF-8 blob with offsets: a million paths cost their bytes and 8 more each.

    >>> Strings.of(["a/1.png", "b/2.png"])[1]
    'b/2.png'
    """

    def __init__(self, blob: bytes | memoryview, ends: NDArray[np.int64]) -> None:
        self.blob, self.ends = blob, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """A column of these texts."""
        parts = [text.encode("utf-8", "surrogateescape") for text in texts]
        return cls(b"".join(parts), np.cumsum([len(part) for part in parts], dtype=np.int64))

    @classmethod
    def joined(cls, columns: Sequence["Strings"]) -> "Strings":
        """One column of these columns, one after the other."""
        starts = np.cumsum([0, *(len(column.blob) for column in columns)])
        ends = [column.ends + start for column, start in zip(columns, starts, strict=False)]
        return cls(b"".join(column.blob for column in columns), np.concatenate([np.zeros(0, np.int64), *ends]))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[n] for n in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        start = int(self.ends[row - 1]) if row else 0
        return str(self.blob[start : int(self.ends[row])], "utf-8", "surrogateescape")

    def take(self, rows: NDArray[np.int64]) -> "Strings":
        """The column of some rows only, in their order."""
        starts = np.concatenate([np.zeros(1, np.int64), self.ends])[:-1][rows]
        pieces = [self.blob[a:b] for a, b in zip(starts.tolist(), self.ends[rows].tolist(), strict=True)]
        return Strings(b"".join(pieces), np.cumsum(self.ends[rows] - starts, dtype=np.int64))


class Store(Protocol):
    """Where the pictures lie. `read` gives a file's bytes, or the pixels (H, W, C) uint8 of an array.

    With `most` it may give so many bytes from the front, and no more.

    `stamps` gives numbers (n, k) int64 for some rows that are others when a picture may be another (size and times of
    its file); None when pictures cost nothing to read and need no cache.
    """

    def read(self, row: int, most: int = -1, /) -> bytes | NDArray[np.uint8]: ...

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None: ...


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A file that was found among the pictures and is not one; it is named, never silently skipped."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Index:
    """Which pictures there are. N rows.

    keys (N): a path below the root, or a name such as `train/17`. labels (N) int64: position in `classes`.
    parts (N) uint8: 0 train, 1 validation, 2 test, 255 not placed. groups (N) int64 or None: rows that stay together.
    digests (N, 16) uint8, or None before the first pass: of the decoded pixels.
    """

    name: str
    classes: tuple[str, ...]
    keys: Strings
    labels: NDArray[np.int64]
    parts: NDArray[np.uint8]
    store: Store
    groups: NDArray[np.int64] | None = None
    digests: NDArray[np.uint8] | None = None
    ignored: tuple[Ignored, ...] = field(default=())
    said: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, part: str) -> NDArray[np.int64]:
        """The rows of one part, in the order of the index."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def counts(self, part: str = "") -> NDArray[np.int64]:
        """Pictures per class (K), of one part or of all."""
        labels = self.labels[self.rows(part)] if part else self.labels
        return np.bincount(labels, minlength=len(self.classes))

    def hexes(self) -> list[str]:
        """The digest of each row in hex (N); '' before the first pass."""
        return [""] * len(self) if self.digests is None else [row.tobytes().hex() for row in self.digests]

    def take(self, rows: NDArray[np.int64]) -> "Index":
        """The index of some rows only; the store is looked up through the old row numbers."""
        return replace(
            self,
            keys=self.keys.take(rows),
            labels=self.labels[rows],
            parts=self.parts[rows],
            groups=None if self.groups is None else self.groups[rows],
            digests=None if self.digests is None else self.digests[rows],
            store=_Taken(self.store, rows),
        )


@dataclass(frozen=True)
class _Taken:
    """A store seen through a choice of rows."""

    store: Store
    chosen: NDArray[np.int64]

    def read(self, row: int, most: int = -1) -> bytes | NDArray[np.uint8]:
        return self.store.read(int(self.chosen[row]), most)

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        return self.store.stamps(self.chosen[rows])


@dataclass(frozen=True)
class ArrayStore:
    """Pictures that are already pixels: (N, H, W, C) uint8."""

    pixels: NDArray[np.uint8]

    def read(self, row: int, most: int = -1) -> NDArray[np.uint8]:
        return self.pixels[row]

    def stamps(self, rows: NDArray[np.int64]) -> None:
        """Pixels in memory need no cache."""


def naturally(names: Iterable[str]) -> list[str]:
    """Sorted as a person would: 2 before 10.

    >>> naturally(["img10", "img2", "Img1"])
    ['Img1', 'img2', 'img10']
    """
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> tuple[list[str | int], str]:
    """Text and numbers in turn; every second chunk is a number, so that like is compared with like."""
    chunks: list[str | int] = [*re.split(r"([0-9]+)", name.casefold())]
    chunks[1::2] = [int(chunk) for chunk in chunks[1::2]]
    return chunks, name
