"""Facts: what one pass over the files saw of each picture, as columns; kept in one file that can run no code."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tellapart.data.index import NO_PART, ArrayStore, Index, Strings
from tellapart.data.official import cache_root
from tellapart.errors import StorageError
from tellapart.files import write_atomically
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
        part, name = int(self.index.parts[row]), self.index.classes[int(self.index.labels[row])]
        return f"class {name}" if part == NO_PART else f"{PARTS[part]}, class {name}"

    def training(self) -> NDArray[np.int64]:
        """The whole pictures that are not known to be of the validation or the test part."""
        parts = self.index.parts[self.whole()]
        return self.whole()[(parts == NO_PART) | (parts == PARTS.index("train"))]


def fingerprint(index: Index) -> str:
    """What tells whether a source is as it was: key, size and times of each file, or the pixels; '' when unknown."""
    hashed = hashlib.blake2b(FACT.descr.__repr__().encode(), digest_size=16)
    stamps = index.store.stamps(np.arange(len(index)))
    if stamps is not None:
        for column in (index.keys.blob, index.keys.ends.tobytes(), stamps.tobytes()):
            hashed.update(column)
        return "" if (stamps < 0).any() else hashed.hexdigest()
    if isinstance(index.store, ArrayStore):
        hashed.update(repr(index.store.pixels.shape).encode())
        hashed.update(np.ascontiguousarray(index.store.pixels).data)
        return hashed.hexdigest()
    return ""


def kept_folder() -> Path:
    """Where facts are kept between checks."""
    return cache_root() / "checks"


def kept_files() -> list[Path]:
    """The files of facts, the newest first."""
    return sorted(kept_folder().glob("*.safetensors"), key=lambda file: -file.stat().st_mtime_ns)


def keep(facts: Facts, name: str) -> None:
    """Write the facts under a fingerprint; those of the last KEPT checks stay.

    A folder that cannot be written costs the next check time, nothing else.
    """
    columns = {
        "table": np.frombuffer(facts.table.tobytes(), np.uint8),
        "reasons": np.frombuffer(facts.reasons.blob, np.uint8),
        "ends": facts.reasons.ends,
    }
    try:
        kept_folder().mkdir(parents=True, exist_ok=True)
        write_atomically(kept_folder() / f"{name}.safetensors", save(columns))
        for old in kept_files()[KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, StorageError):
        return


def kept(index: Index, name: str) -> Facts | None:
    """The facts that `keep` wrote for this index, or None when there are none that fit."""
    try:
        columns = load((kept_folder() / f"{name}.safetensors").read_bytes())
        table = np.frombuffer(columns["table"].tobytes(), FACT)
        reasons = Strings(columns["reasons"].tobytes(), columns["ends"].astype(np.int64))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    fits = len(table) == len(reasons) == len(index)
    return Facts(index=index, table=table, reasons=reasons) if fits else None
