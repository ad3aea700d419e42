"""Columns kept below the cache folder, a safetensors file a name, and mapped into memory when they are taken again."""

import contextlib
import json
import mmap
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__
from tellapart.data.index import Strings
from tellapart.data.official import cache_root
from tellapart.errors import StorageError
from tellapart.files import write_atomically

Columns = dict[str, NDArray]
LISTINGS, CHECKS, FEATURES = "listings", "checks", "features"


def kept_files(kind: str) -> list[Path]:
    """The kept files of one kind, the newest first."""
    return sorted((cache_root() / kind).glob("*.safetensors"), key=lambda file: -file.stat().st_mtime_ns)


def keep(kind: str, name: str, columns: Columns, *, most: int | None = None) -> None:
    """Keep columns of uint8 and int64 under a name; of one kind the newest `most` stay.

    Where nothing can be kept, the work is done again next time: that costs seconds, and nothing else.
    """
    from safetensors.numpy import save

    with contextlib.suppress(OSError, StorageError):
        (cache_root() / kind).mkdir(parents=True, exist_ok=True)
        about = {"checksum": _checksum(columns), "version": __version__}
        write_atomically(_path(kind, name), save(columns, about))
        for old in kept_files(kind)[most:] if most else ():
            old.unlink(missing_ok=True)


def kept(kind: str, name: str) -> Columns | None:
    """The columns that `keep` wrote, mapped and not copied; None when absent, damaged or of another version."""
    try:
        with _path(kind, name).open("rb") as file:
            raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        about = header.pop("__metadata__")
        columns = {}
        for column, found in header.items():
            at, end = found["data_offsets"]
            dtype = np.dtype({"U8": np.uint8, "I64": np.int64}[found["dtype"]])
            columns[column] = np.frombuffer(raw, dtype, (end - at) // dtype.itemsize, start + at)
        whole = about == {"checksum": _checksum(columns), "version": __version__}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return columns if whole else None


def texts_as(name: str, texts: Strings) -> Columns:
    """A column of texts as the two columns that are kept of it."""
    return {name: np.frombuffer(texts.blob, np.uint8), f"{name}_ends": texts.ends}


def texts_of(columns: Columns, name: str) -> Strings:
    """The column of texts that `texts_as` made two columns of."""
    return Strings(columns[name].data, columns[f"{name}_ends"])


def _path(kind: str, name: str) -> Path:
    return cache_root() / kind / f"{name}.safetensors"


def _checksum(columns: Mapping[str, NDArray]) -> str:
    value = 0
    for name in sorted(columns):
        value = zlib.crc32(columns[name].data, value)
    return f"{value:08x}"
