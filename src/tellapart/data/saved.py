"""Listings of large folders kept as columns in one file, which is mapped into memory instead of walking again.

A listing is kept with the time at which each of its folders last changed. A file that is added, removed or renamed
changes that time; so a listing is current when no folder has another time than then, which a thousand calls can tell.
"""

import contextlib
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__
from tellapart.data.index import Ignored, Index, Store, Strings
from tellapart.data.official import cache_root
from tellapart.errors import StorageError
from tellapart.files import write_atomically

LEAST = 50_000
"""Folders with fewer pictures are listed in under a second."""

FRESH = 2_000_000_000
"""Nanoseconds: a folder changed as shortly before the walk could change once more without a new time showing it."""


def keep(index: Index, root: str, changed: Mapping[str, int], *, begun: int) -> None:
    """Keep the listing of `root` (a real path), when it is large. begun: when the walk began, in ns since 1970.

    changed: every folder that was walked, with its modification time in ns.
    """
    if len(index) < LEAST or max(changed.values()) > begun - FRESH:
        return
    from safetensors.numpy import save

    texts = [index.name, index.classes, index.said, [(one.key, one.reason) for one in index.ignored]]
    folders = Strings.of(changed)
    columns = {
        "words": np.frombuffer(json.dumps([__version__, root, *texts]).encode(), np.uint8),
        "keys": np.frombuffer(index.keys.blob, np.uint8),
        "key_ends": index.keys.ends,
        "labels": index.labels,
        "parts": index.parts,
        "folders": np.frombuffer(folders.blob, np.uint8),
        "folder_ends": folders.ends,
        "changed": np.array(list(changed.values()), np.int64),
    }
    path = _path(root)
    with contextlib.suppress(OSError, StorageError):  # where nothing can be kept, the next walk takes its seconds again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(columns, {"checksum": _checksum(columns)}))


def opened(root: str, store: Callable[[str, Strings], Store]) -> Index | None:
    """The kept listing of `root`, when there is one, it is whole and no folder has changed since; else None."""
    try:
        columns = _columns(_path(root))
        version, of, name, classes, said, ignored = json.loads(columns["words"].tobytes())
        folders = Strings(columns["folders"].data, columns["folder_ends"])
        times = zip(folders, columns["changed"].tolist(), strict=True)
        if (version, of) != (__version__, root) or any(os.stat(path).st_mtime_ns != when for path, when in times):
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # absent, damaged or of another version: the folder is walked
    keys = Strings(columns["keys"].data, columns["key_ends"])
    return Index(
        name=name,
        classes=tuple(classes),
        keys=keys,
        labels=columns["labels"],
        parts=columns["parts"],
        store=store(root, keys),
        ignored=tuple(Ignored(key=key, reason=reason) for key, reason in ignored),
        said=(*said, f"The list of {len(keys):,} pictures is from before: no folder has changed since."),
    )


def kept_files() -> list[Path]:
    """The files in which listings are kept."""
    return sorted(list_folder().glob("*.safetensors"))


def list_folder() -> Path:
    """The folder of all kept listings."""
    return cache_root() / "listings"


def _path(root: str) -> Path:
    return list_folder() / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.safetensors"


def _columns(path: Path) -> dict[str, NDArray]:
    """The columns of a safetensors file, mapped and not copied. Raises ValueError or KeyError when it is damaged."""
    with path.open("rb") as file:
        raw = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    checksum = header.pop("__metadata__")["checksum"]
    columns = {}
    for name, column in header.items():
        at, end = column["data_offsets"]
        dtype = np.dtype({"U8": np.uint8, "I64": np.int64}[column["dtype"]])
        columns[name] = np.frombuffer(raw, dtype, (end - at) // dtype.itemsize, start + at)
    if _checksum(columns) != checksum:
        raise ValueError("the checksum is another")
    return columns


def _checksum(columns: Mapping[str, NDArray]) -> str:
    value = 0
    for name in sorted(columns):
        value = zlib.crc32(columns[name].data, value)
    return f"{value:08x}"
