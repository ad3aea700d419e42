"""Fetch the official files of a named data set, or copy them from where you have them, and prove each by its md5."""

import contextlib
import http.client
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tellapart.data.archive import unpack
from tellapart.data.official import Official, default_root, expanded, md5_of, refuse_other
from tellapart.data.sources.cifar import CIFARS
from tellapart.data.sources.hymenoptera import ARCHIVE, FOLDERS, hymenoptera, proved, where
from tellapart.data.sources.idx import IDX_SETS
from tellapart.errors import DataError, StorageError, UsageError, unknown

__all__ = ["FILES", "MOST", "Progress", "default_root", "fetch", "get"]

Progress = Callable[[int, int | None, str], None]
"""Called with the bytes done, the bytes in all (None when the server does not say) and the file's name."""

MOST = 1 << 28
"""No official file has more bytes than this (256 MiB); a longer answer is cut off and refused."""

TIMEOUT, CHUNK = 30.0, 1 << 20
THERE = ": already downloaded and verified."

FILES: dict[str, tuple[Official, ...]] = {
    "digits": (),
    **{what.name: what.files for what in IDX_SETS},
    **{what.name: (what.archive,) for what in CIFARS},
    "hymenoptera": (ARCHIVE,),
}
"""The files of each named data set."""

_FOLDERS: dict[str, tuple[str, ...]] = {what.name: what.folders for what in IDX_SETS}


def get(name: str, root: Path, *, origin: str = "", progress: Progress | None = None) -> list[str]:
    """Bring the files of a named data set to `root`/name and say of each what was done; what is there stays untouched.

    Args:
        name: a data set of `FILES`.
        root: the folder under which each set has a folder of its own; see `default_root`.
        origin: take the files from here: a folder, the file itself, a file:// URL, or the http(s) URL of a mirror's
            folder. '' is the official address.

    Raises UsageError for an unknown name or kind of origin; DataError when a file cannot be had or is not the official
    one, with what to put where by hand; StorageError when it cannot be written.
    """
    if name not in FILES:
        raise unknown("data set", name, FILES)
    if not FILES[name]:
        return [f"{name}: comes with tellapart; there is nothing to download."]
    if FILES[name] == (ARCHIVE,):
        return [_unpacked(root, origin, progress or _quiet)]
    for folder in _FOLDERS.get(name, (name, "")):
        paths = [(root / folder / file.name, file.md5) for file in FILES[name]]
        if all(path.is_file() and md5_of(path) == md5 for path, md5 in paths):
            return [f"{path.name}{THERE}" for path, _ in paths]
    return fetch(FILES[name], root / name, title=name, origin=origin, progress=progress)


def _unpacked(root: Path, origin: str, progress: Progress) -> str:
    """Bring Hymenoptera below `root` as class folders, proved by what they hold; the sentence that says so."""
    if where(root):
        hymenoptera(root)
        return f"hymenoptera{THERE}"
    here = root / ARCHIVE.name
    archive = Path(_from_origin(origin, ARCHIVE.name, (ARCHIVE,))) if origin else here
    mine = not archive.is_file()
    if mine:
        if here.exists():
            raise UsageError(f"{here} is there already.", "Leave --from out to use it, or move it away.")
        fetch((ARCHIVE,), root, title="Hymenoptera", origin=origin, progress=progress)
        archive = here
    try:
        count = unpack(archive, root / "hymenoptera", check=lambda at: proved(at / FOLDERS[1]), progress=progress)
    finally:
        if mine:
            here.unlink()
    return f"{archive.name}: {count} files unpacked and verified: ants and bees, 244 to train on, 153 to validate with."


def fetched(root: Path) -> list[Path]:
    """The official files of the named data sets that lie where `get` puts them, unpacked ones too."""
    found = [path for name, files in FILES.items() for file in files if (path := root / name / file.name).is_file()]
    return found + [path for path in (root / FOLDERS[0]).glob("*/*/*") if path.is_file()]


def clear(files: Sequence[Path], root: Path) -> None:
    """Remove these files, and the folders below `root` that are empty then."""
    for file in files:
        file.unlink()
    folders = {folder for file in files for folder in file.parents if root in folder.parents}
    for folder in sorted(folders, reverse=True):  # the deepest first
        with contextlib.suppress(OSError):  # something else lies there
            folder.rmdir()


def fetch(
    files: Sequence[Official], folder: Path, *, title: str, origin: str = "", progress: Progress | None = None
) -> list[str]:
    """Bring `files` into `folder`, which is made when needed. One sentence for each; errors as in `get`."""
    said = []
    for file in files:
        target = folder / file.name
        if target.exists():
            refuse_other(target, file, title=title, where=target)
            said.append(f"{file.name}{THERE}")
            continue
        addresses = [_from_origin(origin, file.name, files)] if origin else [url + file.name for url in file.urls]
        try:
            size = _first_that_works(addresses, target, file, title, progress or _quiet)
        except DataError as error:
            names = ", ".join(file.name for file in files)
            by_hand = f"Or put {names} into {folder} by hand; they are checked and used from there."
            raise DataError(error.message, f"{error.hint} {by_hand}".strip()) from error
        counted = f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
        said.append(f"{file.name}: {'copied' if origin else 'downloaded'} and verified ({counted}).")
    return said


def _quiet(done: int, total: int | None, name: str) -> None:
    """The progress of someone who does not look."""


def _from_origin(origin: str, name: str, files: Sequence[Official]) -> str:
    """Where one file is below the origin: a URL or a path. Raises UsageError for any scheme but http(s) and file."""
    scheme, colon, _ = origin.partition("://")
    if colon and scheme.lower() in ("http", "https"):
        return origin if origin.endswith(f"/{name}") else f"{origin.rstrip('/')}/{name}"
    if colon and scheme.lower() != "file":
        raise UsageError(
            f"The origin '{origin}' is of the kind '{scheme}'.",
            "Give a folder, a file, or a URL that begins with file://, http:// or https://.",
        )
    path = expanded(urllib.request.url2pathname(urllib.parse.urlsplit(origin).path) if colon else origin)
    if path.is_file() and len(files) > 1 and path.name != name:
        raise UsageError(
            f"The origin {path} is one file, and {name} is needed as well.",
            f"Name the folder that holds all of {', '.join(file.name for file in files)}.",
        )
    return str(path / name if path.is_dir() else path)


def _first_that_works(addresses: Sequence[str], target: Path, file: Official, title: str, progress: Progress) -> int:
    """The size of the file from the first address that gives it whole. Raises DataError with every address's reason."""
    reasons = []
    for address in addresses:
        try:
            return _bring(address, target, file, title, progress)
        except DataError as error:
            reasons.append(error.message)
    raise DataError(
        f"{file.name} could not be fetched. {' '.join(reasons)}",
        "Check the network, or name a place that has the files with --from.",
    )


def _bring(address: str, target: Path, file: Official, title: str, progress: Progress) -> int:
    """Stream one address into a file beside the target, prove it, and only then give it its name."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as writer:
            size = _stream(address, writer, file, progress)
            writer.flush()
            os.fsync(writer.fileno())
        refuse_other(part, file, title=title, where=address)
        os.replace(part, target)
        return size
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written: {error.strerror or error}.",
            "Check the free space and the permissions, or choose another folder with --root.",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is not there after a success, nor when its folder could not be made
            part.unlink()


def _stream(address: str, writer: BinaryIO, file: Official, progress: Progress) -> int:
    """Copy what the address gives, within its bound. Raises DataError when it cannot be reached or stops early."""
    name, most = file.name, file.most or MOST
    with _open(address) as (reader, total):
        done = 0
        progress(done, total, name)
        while chunk := _read(reader, address):
            done += len(chunk)
            if done > most:
                raise DataError(f"{address} gives more than {most:,} bytes, which no official file has.")
            writer.write(chunk)
            progress(done, total, name)
    if total is not None and done < total:
        raise DataError(f"{address} stopped after {done:,} of {total:,} bytes.")
    return done


def _read(reader: BinaryIO, address: str) -> bytes:
    try:
        return reader.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{address} stopped: {error or type(error).__name__}.") from error


@contextlib.contextmanager
def _open(address: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """An address as (bytes to read, how many or None), closed at the end. Raises DataError when it cannot be opened."""
    try:
        if not address.startswith(("http://", "https://")):
            reader = open(address, "rb")  # noqa: SIM115 - closed below
            total = os.fstat(reader.fileno()).st_size
        else:
            request = urllib.request.Request(address, headers={"User-Agent": "tellapart"})
            reader = _opener().open(request, timeout=TIMEOUT)
            length = reader.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{address} answers {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DataError(f"{address} cannot be reached: {reason}.") from error
    with reader:
        yield reader, total


def _opener() -> urllib.request.OpenerDirector:
    """An opener that follows http and https only: the usual one would also be led to ftp and to local files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener
