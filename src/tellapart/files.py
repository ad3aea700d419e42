"""Writing files so that they exist whole or not at all, and by one process at a time."""

import contextlib
import csv
import errno
import io
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tellapart.errors import BusyError, StorageError, UsageError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside `path`, flush to the disk, rename over it. Raises StorageError; the old file then still stands."""
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    if not path.name:
        raise StorageError(f"'{path}' is no file that could be written.", "Give the file a name.")
    staged = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write_flushed(staged, raw)
        os.replace(staged, path)
        flush(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        raise cannot_write(path, error, needed=len(raw)) from error


def write_result(path: Path, content: bytes | str) -> None:
    """Write what a person gave this name, as `write_atomically` does. Raises UsageError as `refuse_foreign` does."""
    refuse_foreign(path, content)
    write_atomically(path, content)


def refuse_foreign(path: Path, content: bytes | str) -> None:
    """Raises UsageError when a file is there that does not begin like this content, a table with the same columns: it
    is none that would be made anew, but someone's pictures or labels.
    """
    with contextlib.suppress(OSError):
        with path.open("rb") if path.is_file() else contextlib.nullcontext() as file:
            there = file.read(200) if file else b""
        if there and _beginning(there) != _beginning(content):
            raise UsageError(f"{path} exists, and holds something else.", "Name another file to write to.")


def _beginning(content: bytes | str) -> bytes:
    raw = content[:200].encode("utf-8", "surrogateescape") if isinstance(content, str) else content[:200]
    line = raw.partition(b"\n")[0].strip()
    return line if b"," in line and line.isascii() else line[:5]


def replace_together(made: Mapping[Path, Path], *, gone: Sequence[Path] = (), kept: Path) -> None:
    """Rename files to where they belong, on one disk, and remove others: all of it, or nothing.

    `kept` is an empty folder on that disk, for what stands there now until all is done. Raises OSError; then all that
    stood there stands there again.
    """
    changed = [*made.values(), *gone]
    old = {path: Path(shutil.copy2(path, kept / str(n))) for n, path in enumerate(changed) if path.is_file()}
    for source in made:
        flush(source)
    try:
        for source, path in made.items():
            os.replace(source, path)
        for path in gone:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in changed}:
            flush(folder)
    except BaseException:
        for source, path in made.items():
            if not source.exists() and path not in old:
                path.unlink()
        for path, twin in old.items():
            os.replace(twin, path)
        raise


@contextlib.contextmanager
def readable(path: object, hint: str = "") -> Iterator[None]:
    """What the system refuses inside becomes a StorageError that names the path, as it can be printed."""
    try:
        yield
    except OSError as error:
        named = str(path).encode("utf-8", "backslashreplace").decode()
        raise StorageError(f"{named} cannot be read: {error.strerror or error}.", hint) from error


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """What the system refuses inside becomes the StorageError of `cannot_write`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def write_flushed(path: Path, raw: bytes) -> None:
    """Write a new file and flush it to the disk. Raises OSError, also when the file exists."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        left = memoryview(raw)
        while left:  # a system may write less than it is given
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def flush(path: Path) -> None:
    """Flush a file, or a folder's own entries, so that a rename outlives a power cut. Windows cannot do it."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: OSError, *, needed: int = 0) -> StorageError:
    """The StorageError for a failed write: which file, why, and what would help."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f" ({needed:,} bytes needed)" if needed else ""
        return StorageError(
            f"The disk is full: {path} could not be written{need}.",
            "Free some space, or choose another place with --runs or --out.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(
            f"{path} cannot be written: {error.strerror}.", "Choose a place you may write to with --runs or --out."
        )
    return StorageError(f"{path} cannot be written: {error.strerror or error}.", "What was saved before is untouched.")


@contextlib.contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file at `path`; it is removed at the end, and the lock dies with us. Windows has no such locks.

    Raises BusyError when another process holds it: `what` is being written by that one.
    """
    if os.name == "nt":
        yield
        return
    with writable(path):
        lock = _locked(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _locked(path: Path, what: str) -> int:
    """A handle of the lock file, locked, with our name in it."""
    import fcntl

    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.read(lock, 200).decode("ascii", "replace")
                who = owner if owner and owner.isprintable() else "another process"
                raise BusyError(f"{what} is being written by {who}.", "Wait for it, or stop it.") from error
            with contextlib.suppress(FileNotFoundError):  # its last owner removed it: another is made
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    os.truncate(lock, 0)
                    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
                    closing.pop_all()
                    return lock


def csv_text(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Rows below the names of their columns, as the text of a CSV file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def read_text(path: Path, *, errors: str = "strict") -> str:
    """The text of a small file, to the letter. errors: `surrogateescape` where names of files may stand in it.

    Raises StorageError with the reason.
    """
    try:
        return path.read_bytes().decode("utf-8", errors)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"{path} cannot be read: {reason}.") from error
