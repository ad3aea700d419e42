"""Parquet files: their columns as the rows of a table, and the pictures that are stored in them as bytes."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.sources.listing import shown, stamp
from tellapart.data.sources.rows import Format, Row, cell, place
from tellapart.errors import DataError, StorageError, UsageError

KEPT = 2
"""Decoded row groups that each thread keeps: reading in order decodes each group once."""


@dataclass(frozen=True)
class ParquetStore:
    """The bytes of pictures in one column. starts (G + 1): the first row of each row group, and the number of rows."""

    path: Path
    column: str
    starts: NDArray[np.int64]
    _own: threading.local = field(default_factory=threading.local, compare=False, repr=False)

    def read(self, row: int, most: int = -1) -> bytes:
        """The bytes of one picture. Raises DataError when the row holds none, or is damaged."""
        group = int(np.searchsorted(self.starts, row, "right")) - 1
        value = self._group(group)[row - int(self.starts[group])].as_py()
        raw = value.get("bytes") if isinstance(value, dict) else value
        if raw is None:
            raise DataError(f"{place(self.path, row + 1, 'row')} holds no bytes of a picture.")
        return raw

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the file, for each row (n, 3)."""
        return np.tile(np.array(stamp(str(self.path)), np.int64), (len(rows), 1))

    def _group(self, number: int) -> Any:
        """The decoded column of one row group. Every thread has its own reader: one reader cannot serve two."""
        own = self._own.__dict__
        kept: dict[int, Any] = own.setdefault("kept", {})
        if number not in kept:
            with _readable(self.path):
                reader = own.get("reader") or own.setdefault("reader", _open(self.path))
                column = reader.read_row_group(number, columns=[self.column], use_threads=False).column(0)
            if len(column) != self.starts[number + 1] - self.starts[number]:
                raise DataError(f"{shown(self.path)} is damaged: row group {number} is not as long as it says.")
            while len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[number] = column
        return kept[number]


def pictures(path: Path, chosen: str) -> ParquetStore | None:
    """The store of the column that holds the bytes of pictures, or None when the file holds none.

    chosen: the column asked for, or ''. Raises DataError when there are several and none was asked for.
    """
    schema = _schema(path)
    found = [one.name for one in schema if _holds_bytes(one.type)]
    if chosen:
        found = [name for name in found if name == chosen]
    if len(found) > 1:
        raise DataError(
            f"{shown(path.name)} holds bytes in the columns {', '.join(map(repr, found))}.",
            f'Say which are the pictures with --columns "path={found[0]}".',
        )
    if not found:
        return None
    with _readable(path):
        metadata = _open(path).metadata
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    return ParquetStore(path, found[0], np.cumsum([0, *sizes], dtype=np.int64))


def class_names(path: Path, column: str) -> list[str]:
    """The names that the numbers of a column stand for, as Hugging Face notes them in the schema; [] without a note."""
    try:
        note = json.loads((_schema(path).metadata or {}).get(b"huggingface", b"{}"))
        kind = note["info"]["features"][column]
        names = kind.get("feature", kind)["names"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(one.name == "bytes" and _holds_bytes(one.type) for one in kind)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    number = 0
    with _readable(path):
        for batch in _open(path).iter_batches(columns=list(names)):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                number += 1
                yield number, [cell(value, place(path, number, "row")) for value in values]


def _schema(path: Path) -> Any:
    with _readable(path):
        return _open(path).schema_arrow


def _open(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(
            f"{shown(path.name)} is a Parquet file, and pyarrow is not installed.",
            "python3 -m pip install 'tellapart[parquet]'",
        ) from error
    return ParquetFile(path, memory_map=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What pyarrow raises inside becomes an error of ours that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise StorageError(f"{shown(path)} cannot be read: {os.strerror(error.errno)}.") from error
        raise DataError(f"{shown(path)} is damaged: {_first_line(error)}.", "Fetch it again.") from error
    except (ValueError, LookupError, NotImplementedError, MemoryError) as error:  # pyarrow's own are among them
        raise DataError(f"{shown(path)} is no whole Parquet file: {_first_line(error)}.", "Fetch it again.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:200]


FORMAT = Format(lambda path: list(_schema(path).names), _rows, "row")
