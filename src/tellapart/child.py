"""A child process of our own with bounds: what a file does to the child that reads it costs that file alone."""

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tellapart.errors import WorkerError


def command(module: str) -> tuple[str, ...]:
    """The words that run a module of ours as a process."""
    return (sys.executable, "-P", "-m", module)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with which the child finds the same modules; `more` is added."""
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def bounded(memory: int, *, written: int | None = None) -> None:
    """Give this process at most so many bytes of address space, and of each file it writes, where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if written is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    except (ImportError, ValueError, OSError):
        return


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame: its length in eight bytes, little end first, and then so many bytes; None when the other side has
    closed.
    """
    length = stream.read(8)
    if len(length) < 8:
        return None
    body = stream.read(struct.unpack("<q", length)[0])
    return body if len(body) == struct.unpack("<q", length)[0] else None


def write_frame(stream: IO[bytes], *pieces: bytes | memoryview) -> None:
    """Write one frame made of some pieces."""
    for piece in (struct.pack("<q", sum(map(len, pieces))), *pieces):  # one by one: joined, pixels would be there twice
        stream.write(piece)
    stream.flush()


def started(words: Sequence[str], hello: bytes, *, does: str, at: str | None = None) -> "subprocess.Popen[bytes]":
    """A child in the folder `at` that talks in frames, and has said `hello`. Raises WorkerError when it does not: the
    process that `does` something.
    """
    alone, pipe = environment(OPENBLAS_NUM_THREADS="1"), subprocess.PIPE
    try:
        child = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=alone, cwd=at)
    except OSError as error:
        raise WorkerError(f"The process that {does} cannot be started: {error}.") from error
    assert child.stdout  # noqa: S101 - it is a pipe
    if read_frame(child.stdout) != hello:
        ended(child)
        raise WorkerError(
            f"The process that {does} ended with {child.returncode} before it read one.",
            f"Try it by hand: {' '.join(words)}",
        )
    return child


def ended(child: "subprocess.Popen[bytes]") -> None:
    """Kill a child, wait for it, and close its pipes."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what was still buffered has nowhere to go
            if pipe is not None:
                pipe.close()
