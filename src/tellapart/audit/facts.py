"""Facts: what one pass over the files saw of each picture, as columns; kept in one file that can run no code."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.findings import Finding, some
from tellapart.data import identity
from tellapart.data import kept as cached
from tellapart.data.index import NO_PART, ArrayStore, Index, Strings
from tellapart.names import PARTS

SIDE = 32
"""Side of the small copy of each picture, in pixels."""

KEPT = 8
"""Checks whose facts are kept; each picture takes 3 kB."""

FACT = np.dtype(
    [
        ("fault", "S8"),  # '' for a whole picture, else one of files.FAULTS
        ("format", "S8"),
        ("mode", "S8"),  # as stored, in Pillow's words
        ("height", "i4"),  # upright
        ("width", "i4"),
        ("channels", "u1"),
        ("bits", "u1"),
        ("orientation", "u1"),  # EXIF, 1 to 8
        ("alpha", "?"),
        ("frames", "i4"),
        ("bytes", "i8"),  # 0 for arrays
        ("digest", "u1", 16),
        ("mean", "f8", 3),  # of the picture's own pixels, in [0, 1]; grey has three equal ones
        ("square", "f8", 3),  # the mean of the squares
        ("thumb", "u1", (SIDE, SIDE, 3)),
    ]
)
"""One row of the table. It has no padding, so that it can be sent and kept as bytes."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An index of N rows with what was seen of each: `table` (N) of FACT, and `reasons` (N), '' for whole pictures."""

    index: Index
    table: NDArray[np.void]
    reasons: Strings

    def __len__(self) -> int:
        return len(self.index)

    def whole(self) -> NDArray[np.int64]:
        """The rows that are whole pictures."""
        return np.flatnonzero(self.table["fault"] == b"")

    def place(self, row: int) -> str:
        """Where a picture stands, for a person: 'train, class ant'."""
        part, name = int(self.index.parts[row]), self.index.called(row)
        return f"class {name}" if part == NO_PART else f"{PARTS[part]}, class {name}"

    def named(self, rows: NDArray[np.int64], note: Callable[[int], str]) -> list[tuple[str, str]]:
        """The key of each row with a note about it."""
        return [(self.index.keys[row], note(row)) for row in rows.tolist()]

    def training(self) -> NDArray[np.int64]:
        """The whole pictures that are not known to be of the validation or the test part."""
        parts = self.index.parts[self.whole()]
        return self.whole()[(parts == NO_PART) | (parts == PARTS.index("train"))]


def about(
    facts: Facts,
    files: Sequence[tuple[str, str]],
    what: str,
    *,
    kind: str,
    severity: str = "info",
    noun: str = "picture",
    detail: str = "",
    fix: str = "",
    beside: bool = False,
) -> Iterator[Finding]:
    """The finding about some files (key and note) of all, or beside them; none without. `what` follows their count."""
    if files:
        count = f"{some(len(files), noun)} beside {some(len(facts), 'picture')}" * beside
        yield Finding(
            kind=kind,
            severity=severity,
            title=f"{count or some(len(files), noun, len(facts))}{what}",
            detail=detail,
            files=tuple(files),
            fix=fix,
            numbers={f"{noun}s": len(files), "of": len(facts)},
        )


def fingerprint(index: Index) -> str:
    """What tells whether a source is as it was: key, size and times of each file, or the pixels; '' when unknown."""
    if isinstance(index.store, ArrayStore):
        hashed = hashlib.blake2b(f"{FACT.descr} {index.store.pixels.shape}".encode(), digest_size=16)
        hashed.update(np.ascontiguousarray(index.store.pixels).data)
        return hashed.hexdigest()
    return identity.files(index, str(FACT.descr)) or ""


def keep(facts: Facts, name: str) -> None:
    """Keep the facts under a fingerprint; those of the last KEPT checks stay."""
    table = np.frombuffer(facts.table.tobytes(), np.uint8)
    cached.keep(cached.CHECKS, name, {"table": table, **cached.texts_as("reasons", facts.reasons)}, most=KEPT)


def kept(index: Index, name: str) -> Facts | None:
    """The facts that `keep` wrote for this index, or None when there are none that fit."""
    columns = cached.kept(cached.CHECKS, name)
    if columns is None or len(columns["reasons_ends"]) != len(index):
        return None
    return Facts(index=index, table=columns["table"].view(FACT), reasons=cached.texts_of(columns, "reasons"))
