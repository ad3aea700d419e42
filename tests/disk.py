"""A disk that fails, a machine that dies, a power cut: put between the program and the operating system by tests."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink", "rmdir")
"""What reaches the disk when a file is written whole or not at all."""


class Dead(BaseException):
    """The process is no more: nothing that it would still do reaches the disk."""


@dataclass
class Disk:
    """Counts the calls that reach the disk, notes them, and lets the one numbered `at` fail with `fault`.

    A write that fails has written half. After Dead nothing gets through any more.
    """

    at: int = -1
    fault: BaseException = field(default_factory=Dead)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    dead: bool = False
    failed: str = ""

    def between(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The call of that name, with this disk in between."""

        def call(*words: Any, **named: Any) -> Any:
            if self.dead:
                if name == "close":
                    return real(*words)
                raise Dead
            number = len(self.calls)
            self.calls.append((name, *self._plain(name, words)))
            if number == self.at:
                self.dead, self.failed = isinstance(self.fault, Dead), name
                if name == "write":
                    real(words[0], bytes(words[1])[: len(words[1]) // 2])
                if name == "close" and not self.dead:
                    real(*words)
                raise self.fault
            result = real(*words, **named)
            if name == "open":
                self.paths[result] = os.fspath(words[0])
            return result

        return call

    def _plain(self, name: str, words: tuple[Any, ...]) -> list[Any]:
        """The words of a call with paths in the place of handles, and a copy of what is written."""
        first = self.paths.get(words[0], "?") if name in ("write", "fsync", "close") else os.fspath(words[0])
        return [first, *(bytes(word) if isinstance(word, memoryview) else word for word in words[1:])]

    @contextmanager
    def in_place(self) -> Iterator["Disk"]:
        """While open, the calls of `os` go through this disk."""
        real = {name: getattr(os, name) for name in CALLS}
        try:
            for name in CALLS:
                setattr(os, name, self.between(name, real[name]))
            yield self
        finally:
            for name in CALLS:
                setattr(os, name, real[name])


def refused(number: int) -> OSError:
    """The error of that number, as the system would raise it."""
    return OSError(number, os.strerror(number))


FAULTS = tuple(
    getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "EFBIG", "EMFILE", "ESTALE")
)


# --- a power cut ------------------------------------------------------------------------------------------------------


@dataclass
class File:
    """Bytes as programs see them, and as they are on the platter."""

    live: bytes = b""
    durable: bytes = b""


@dataclass
class Folder:
    """Entries as programs see them, those on the platter, and the changes that are not there yet."""

    live: dict[str, Any] = field(default_factory=dict)
    durable: dict[str, Any] = field(default_factory=dict)
    pending: list[tuple[str, ...]] = field(default_factory=list)


def platter(folder: Path) -> Folder:
    """What stands in a folder, all of it durable."""
    found = Folder()
    for one in folder.iterdir():
        found.live[one.name] = platter(one) if one.is_dir() else File(one.read_bytes(), one.read_bytes())
    found.durable = dict(found.live)
    return found


def after(root: Folder, where: Path, call: tuple[Any, ...]) -> None:
    """Let one call happen below `where`; what is elsewhere is left out."""
    name, first, *more = call
    if not Path(str(first)).is_relative_to(where):
        return
    *way, last = Path(first).relative_to(where).parts or ("",)
    home = root
    for part in way:
        home = home.live[part]
    if name == "mkdir" or (name == "open" and more[0] & os.O_CREAT and last not in home.live):
        node = Folder() if name == "mkdir" else File()
        home.live[last] = node
        home.pending.append(("link", last, node))  # type: ignore[arg-type]
    elif name == "write":
        home.live[last].live += more[0]
    elif name == "fsync":
        node = home.live[last] if last else root
        if isinstance(node, File):
            node.durable = node.live
        else:
            node.durable, node.pending = dict(node.live), []
    elif name in ("rename", "replace"):
        new = Path(more[0]).name
        home.live[new] = home.live.pop(last)
        home.pending.append(("rename", last, new))


def survived(root: Folder, to: Path, chance: random.Random, share: float) -> None:
    """Write what a power cut may have left: of what was not flushed each change survives with this chance, and bytes
    may be there, half there, or not.
    """
    entries = dict(root.durable)
    for kind, name, other in root.pending:
        if chance.random() < share:
            if kind == "link":
                entries[name] = other
            elif name in entries:
                entries[other] = entries.pop(name)
    to.mkdir()
    for name, node in entries.items():
        if isinstance(node, Folder):
            survived(node, to / name, chance, share)
        elif node.live == node.durable or chance.random() >= share:
            (to / name).write_bytes(node.durable)
        else:
            (to / name).write_bytes(node.live[: chance.choice((len(node.live) // 2, len(node.live)))])


def copied(folder: Path, to: Path) -> Path:
    """A fresh copy."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))
