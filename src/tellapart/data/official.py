"""The official files of the named data sets: which they are, where they may lie, and whether they are whole."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tellapart.errors import DataError
from tellapart.files import readable


@dataclass(frozen=True)
class Official:
    """One file as its authors publish it: its name, its md5 in hex ('': none is published), its folders (URLs).

    sha256: the first digits of that, where they are published; most: the most bytes it may have (0: as any other).
    """

    name: str
    md5: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    most: int = 0


def default_root() -> Path:
    """Where the files of named data sets lie when nothing else is said: $TELLAPART_DATA, else `cache_root()`/data."""
    chosen = os.environ.get("TELLAPART_DATA")
    return expanded(chosen) if chosen else cache_root() / "data"


def cache_root() -> Path:
    """Where everything lies that can be fetched or made again.

    $TELLAPART_CACHE, else $XDG_CACHE_HOME/tellapart, else ~/.cache/tellapart.
    """
    if chosen := os.environ.get("TELLAPART_CACHE"):
        return expanded(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "tellapart"


def expanded(path: str) -> Path:
    """The path with a leading `~` as the home folder; left as it is when there is no such home."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises RuntimeError on an unknown user


def places(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    """The folders below `root` that exist, in order; '' is `root` itself."""
    return (place for place in (root / folder for folder in folders) if place.is_dir())


def md5_of(path: Path) -> str:
    """The md5 of a file, in hex. Raises StorageError when it cannot be read."""
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_bytes(path: Path) -> bytes:
    """All bytes of a file. Raises StorageError when it cannot be read."""
    with readable(path):
        return path.read_bytes()


def md5_of_bytes(raw: bytes) -> str:
    """The md5 of some bytes, in hex."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def refuse_other(path: Path, file: Official, *, title: str, where: object) -> None:
    """Raises DataError when the file at `path`, which is from `where`, is not the official one by its digest."""
    if file.md5:
        refuse_wrong_md5(where, found=md5_of(path), official=file.md5, title=title)
    with readable(path), path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest() if file.sha256 else ""
    if not found.startswith(file.sha256):
        raise DataError(
            f"{where} is not the official file of {title}: its sha256 begins with {found[: len(file.sha256)]}, "
            f"that of the official one with {file.sha256}.",
            "It is cut short, damaged or another file.",
        )


def refuse_wrong_md5(where: object, *, found: str, official: str, title: str) -> None:
    """Raises DataError when a file is not byte for byte the official one, where an md5 of that is published."""
    if found != official != "":
        raise DataError(
            f"{where} is not the official file of {title}: its md5 is {found}, the official one is {official}.",
            "It is cut short, damaged or of another data set. Move it away and fetch it with `tellapart data get`.",
        )
