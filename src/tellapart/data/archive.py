"""Unpack a zip or tar archive: whole or not at all, nothing outside its folder, and no bomb goes off.

`members` reads the archive; where a file goes, and whether it goes there, is decided here.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tellapart.data.members import BROKEN, CHUNK, READERS, Limits, Member, Progress, kind_of
from tellapart.data.sources.listing import shown
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.files import flush
from tellapart.recipe import printable

RESERVE = 1 << 26
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | getattr(os, "O_BINARY", 0)


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits | None = None,
    check: Callable[[Path], object] = bool,
    progress: Progress = lambda done, total, name: None,
) -> int:
    """Unpack into `folder`, which is new or empty, and give the number of files.

    Everything is written into a folder beside it that is renamed at the end, after `check` has looked at it, so that
    an archive that is refused, broken or interrupted leaves nothing. Only files and folders come out of it.
    Raises DataError naming the member that is refused, or when the archive is not whole; UsageError when the folder
    holds something; StorageError when it cannot be written.
    """
    members, folder = READERS[kind_of(archive)], folder.absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{shown(folder)} is there and not empty.", "Name a folder that does not exist yet.")
    staging = folder.with_name(f".{folder.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        staging.mkdir(parents=True)
        writer = _Writer(archive, staging, limits or Limits())
        with contextlib.closing(writer):
            for member in members(archive, limits or Limits(), progress):
                writer.take(member)
        check(staging)
        _commit(staging, folder)
    except BROKEN as error:
        raise DataError(
            f"{shown(archive)} is not a whole archive: {printable(str(error)) or type(error).__name__}.",
            "Fetch or copy it again.",
        ) from error
    except OSError as error:
        raise StorageError(
            f"{shown(folder)} cannot be written: {error.strerror or error}.",
            "Check the free space and the permissions, or name another folder.",
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return writer.files


def _commit(staging: Path, folder: Path) -> None:
    """Give the whole folder its name, once its content is on the disk."""
    if hasattr(os, "sync"):
        os.sync()  # one call for all files: a name must not outlive a power cut that the content did not
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    os.rename(staging, folder)
    flush(folder.parent)


class _Writer:
    """Writes members below `staging`, each step opened relative to the one before and never through a link."""

    def __init__(self, archive: Path, staging: Path, limits: Limits) -> None:
        self.files = 0
        self._archive, self._limits = archive, limits
        self._seen: dict[str, str] = {}
        self._bytes, self._room = 0, shutil.disk_usage(staging).free - RESERVE
        # Windows cannot open files relative to a folder; there the path stands for it, whose name nobody can guess
        self._root = os.open(staging, _FOLDER) if os.open in os.supports_dir_fd else str(staging)

    def close(self) -> None:
        """Let go of the staging folder."""
        if isinstance(self._root, int):
            os.close(self._root)

    def take(self, member: Member) -> None:
        """Write one member. Raises DataError when it is refused, OSError when there is no room for it."""
        name = member.name.removeprefix("./")
        path = name.removesuffix("/")
        if member.is_folder and path in ("", "."):
            return
        self._bytes += member.size
        if reason := member.refusal or _unsafe(name) or self._collision(path, member) or self._too_much():
            raise DataError(
                f"{shown(self._archive)} is refused at its member '{printable(shown(member.name[:300]))}': {reason}.",
                "Nothing of it was kept. Make the archive anew, or take it from a place you trust.",
            )
        if self._bytes > self._room:
            raise OSError(errno.ENOSPC, f"there is room for {self._room:,} bytes, and the archive needs more")
        steps = path.split("/")
        if member.is_folder:
            self._create(steps, "")
            return
        with os.fdopen(self._create(steps[:-1], steps[-1]), "wb") as file:
            _copy(member, file)
        self.files += 1

    def _too_much(self) -> str:
        if len(self._seen) > self._limits.members:
            return f"it is beyond the {self._limits.members:,} members that an archive may have"
        most = self._limits.total
        return f"with it the archive would hold more than {most:,} bytes" if self._bytes > most else ""

    def _collision(self, name: str, member: Member) -> str:
        """Why this path and one seen before cannot both exist on every file system, or ''. Folders may come again."""
        steps = name.split("/")
        for depth in range(1, len(steps) + 1):
            path = "/".join(steps[:depth])
            path += "/" if depth < len(steps) or member.is_folder else ""
            folded = unicodedata.normalize("NFC", path.rstrip("/")).casefold()
            first = self._seen.get(folded)
            if first is None:
                self._seen[folded] = path
            elif first != path:
                return f"'{printable(shown(first))}' is there too, and on many systems the two are one"
            elif not path.endswith("/"):
                return "it is there twice"
        return ""

    def _create(self, folders: Sequence[str], name: str) -> int:
        """A descriptor of the new file `name` in these folders, which are made when needed; '' makes folders only."""
        if isinstance(self._root, str):
            path = os.path.join(self._root, *folders)
            os.makedirs(path, exist_ok=True)
            return os.open(os.path.join(path, name), _FILE) if name else -1
        at = os.dup(self._root)
        try:
            for folder in folders:
                try:
                    below = os.open(folder, _FOLDER, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(folder, dir_fd=at)
                    below = os.open(folder, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            return os.open(name, _FILE, 0o666, dir_fd=at) if name else -1
        finally:
            os.close(at)


def _unsafe(name: str) -> str:
    """Why a member of this name could lie outside the folder, or cannot exist everywhere; '' when it can be used."""
    steps = name.removesuffix("/").split("/")
    rules = {
        "it has no name": not name,
        "its name holds a NUL": "\0" in name,
        "its name holds a backslash": "\\" in name,
        "its path is absolute": name.startswith("/"),
        "its path begins with a drive letter": re.match("[A-Za-z]:", name),
        "its path leads upwards": ".." in steps,
        "its path has an empty step": "" in steps or "." in steps,
        "its name is longer than 255 bytes": any(len(os.fsencode(step)) > 255 for step in steps),
        "its path has more than 64 steps": len(steps) > 64,
        "its name cannot exist on Windows": os.name == "nt" and re.search('[<>:"|?*]|[. ](/|$)', name),
    }
    return next((reason for reason, applies in rules.items() if applies), "")


def _copy(member: Member, file: IO[bytes]) -> None:
    """Copy a member's bytes. Raises ValueError when they are fewer or more than its header says."""
    left, reader = member.size, member.open()
    with reader or contextlib.nullcontext():
        while left >= 0 and reader and (chunk := reader.read(CHUNK)):
            left -= len(chunk)
            file.write(chunk)
    if left:
        raise ValueError(f"'{shown(member.name)}' does not hold the {member.size:,} bytes that its header says")
