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
NONE = "none of the classes"
"""What a picture is called that has no class, where it may have several."""


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
    digests (N, 16) uint8, or None before the first pass: of the decoded pixels. marks (N K) int8, where a picture may
    have several classes or none: 1 for each that it has; `labels` is then the rarest of them, K for a picture without.
    """

    name: str
    classes: tuple[str, ...]
    keys: Strings
    labels: NDArray[np.int64]
    parts: NDArray[np.uint8]
    store: Store
    groups: NDArray[np.int64] | None = None
    digests: NDArray[np.uint8] | None = None
    marks: NDArray[np.int8] | None = None
    ignored: tuple[Ignored, ...] = field(default=())
    said: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, part: str) -> NDArray[np.int64]:
        """The rows of one part, in the order of the index."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def counts(self, part: str = "") -> NDArray[np.int64]:
        """Pictures per class (K), of one part or of all; those with several classes count for each."""
        rows = self.rows(part) if part else slice(None)
        if self.marks is not None:
            return (self.marks[rows] > 0).sum(axis=0)
        return np.bincount(self.labels[rows], minlength=len(self.classes))

    def called(self, row: int) -> str:
        """The class of a picture, or all of them: 'cat + dog'; NONE without any."""
        if self.marks is None:
            return self.classes[int(self.labels[row])]
        return " + ".join(self.classes[k] for k in np.flatnonzero(self.marks[row] > 0)) or NONE

    def targets(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.float32]:
        """What a network learns of some rows: class numbers (n), or 1 for each class and 0 for the others (n K)."""
        return self.labels[rows] if self.marks is None else self.marks[rows].astype(np.float32)

    def marked(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which classes some rows have (n K), where they may have several."""
        return None if self.marks is None else self.marks[rows] > 0

    def kinds(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number (n) that rows of the same class, or the same classes, share."""
        if self.marks is None:
            return self.labels[rows]
        return np.unique(self.marks[rows], axis=0, return_inverse=True)[1].ravel()

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
            marks=None if self.marks is None else self.marks[rows],
            store=_Taken(self.store, rows),
        )


def with_marks(index: Index, classes: tuple[str, ...], marks: NDArray[np.int8]) -> Index:
    """The index with these classes and marks (N K)."""
    return replace(index, classes=classes, marks=marks, labels=rarest(marks))


def rarest(marks: NDArray[np.int8]) -> NDArray[np.int64]:
    """(N): of the classes that each picture has (N K) the one with the fewest pictures, K where it has none."""
    there = marks > 0
    order = np.argsort(there.sum(axis=0), kind="stable")
    return np.where(there.any(axis=1), order[there[:, order].argmax(axis=1)], marks.shape[1]).astype(np.int64)


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
