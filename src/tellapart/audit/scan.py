"""The scan: every file read whole, in child processes with bounds, so that no picture can take the program down."""

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellapart.audit import worker
from tellapart.audit.facts import FACT, Facts
from tellapart.child import command, ended, read_frame, started, write_frame
from tellapart.data.decode import pictured
from tellapart.data.index import Index, Strings
from tellapart.data.progress import Progress, quiet
from tellapart.data.sources.folder import FileStore
from tellapart.errors import DataError, StorageError, WorkerError

COMMAND = command("tellapart.audit.worker")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a picture may take: seconds, and bytes of its process. `processes`: how many read at once."""

    seconds: float = 60.0
    memory: int = 3 << 30
    processes: int = 1
    command: Sequence[str] = COMMAND


def scan(index: Index, *, bounds: Bounds = Bounds(), progress: Progress = quiet) -> Facts:
    """Read every picture of the index once. The result is the same for any number of processes.

    A picture that is broken, that kills its process, or that takes too long or too much memory costs itself alone: its
    reason says so. Raises WorkerError when no process can be started at all.
    """
    table, reasons = np.zeros(len(index), FACT), [""] * len(index)
    readers = [_Reader(bounds) for _ in range(max(1, min(bounds.processes, len(index))))]
    with ThreadPoolExecutor(len(readers)) as pool:
        try:
            rows = [range(first, len(index), len(readers)) for first in range(len(readers))]
            works = [pool.submit(_read, index, *one, table, reasons) for one in zip(readers, rows, strict=True)]
            while (state := wait(works, timeout=0.2, return_when=FIRST_EXCEPTION)).not_done:
                progress(sum(reader.done for reader in readers), len(index))
                if any(work.exception() for work in state.done):
                    break
                for reader in readers:
                    reader.end_when_late()
        finally:
            for reader in readers:
                reader.close()
    for work in works:
        work.result()
    progress(len(index), len(index))
    return Facts(index=index, table=table, reasons=Strings.of(reasons))


def left_pictures(index: Index) -> dict[str, str]:
    """What `pictured` says of the files that a listing leaves out for their names.

    512 bytes are read of each file, and none of what is in a tar or in a second source.
    """
    found = {}
    for one in index.ignored if isinstance(index.store, FileStore) else ():
        path = os.path.join(index.store.root, one.key)  # type: ignore[attr-defined]
        if one.reason.endswith("is not read") and os.path.isfile(path):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                found[one.key] = pictured(file.read(512))
    return found


def _read(index: Index, reader: "_Reader", rows: range, table: NDArray[np.void], reasons: list[str]) -> None:
    """Fill in some rows, one after the other."""
    for row in rows:
        try:
            picture = _picture(index, row)
        except (DataError, StorageError, OSError) as error:
            table[row]["fault"], reasons[row] = b"unread", getattr(error, "message", str(error))
        else:
            reply = reader.ask(picture)
            table[row] = np.frombuffer(reply[: FACT.itemsize], FACT)[0]
            reasons[row] = reply[FACT.itemsize :].decode()
        reader.done += 1


def _picture(index: Index, row: int) -> str | bytes | NDArray[np.uint8]:
    """What is sent to the child: a path where there are files, which spares the pipe, else the bytes or pixels."""
    if isinstance(index.store, FileStore):
        return os.path.join(index.store.root, index.keys[row])
    return index.store.read(row)


@dataclass
class _Reader:
    """One child process, started again when it died."""

    bounds: Bounds
    child: "subprocess.Popen[bytes] | None" = None
    began: float = field(default=0.0)
    late: bool = False
    closed: bool = False
    done: int = 0

    def ask(self, picture: str | bytes | NDArray[np.uint8]) -> bytes:
        """The answer to one request; when the child dies of it, an answer that says so."""
        self.late = False
        child = self._alive()
        self.began = time.monotonic()
        try:
            assert child.stdin  # noqa: S101 - it is a pipe
            assert child.stdout  # noqa: S101 - and so is this
            write_frame(child.stdin, *worker.request(picture))
            reply = read_frame(child.stdout)
        except OSError:
            reply = None
        self.began = 0.0
        return reply if reply is not None else self._obituary(child)

    def _obituary(self, child: "subprocess.Popen[bytes]") -> bytes:
        """The facts of a picture whose reader is gone."""
        ended(child)
        self.child = None
        row = np.zeros((), FACT)
        row["fault"] = b"late" if self.late else b"died"
        how = f"took longer than {self.bounds.seconds:g} s" if self.late else f"ended with {child.returncode}"
        return row.tobytes() + f"The process that read it {how}.".encode()

    def _alive(self) -> "subprocess.Popen[bytes]":
        if self.child is None and not self.closed:
            self.child = started([*self.bounds.command, str(self.bounds.memory)], worker.HELLO, does="reads pictures")
        if self.closed or self.child is None:  # perhaps just now, by another thread
            self.close()
            raise WorkerError("The check was stopped.")
        return self.child

    def end_when_late(self) -> None:
        """Kill the child when it has worked on one picture for too long."""
        began, child = self.began, self.child
        if began and child is not None and time.monotonic() - began > self.bounds.seconds:
            self.late = True
            child.kill()

    def close(self) -> None:
        """End the child for good."""
        self.closed = True
        if self.child is not None:
            ended(self.child)
