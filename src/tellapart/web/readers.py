"""The children that decode, seen from the process that answers: one for each thread, started again when it is gone."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellapart.child import command, ended, started, write_frame
from tellapart.memory import trim_memory
from tellapart.web.reader import HELLO, MOST, SIZE
from tellapart.web.refusal import Refusal, busy

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height of the file, which a large JPEG is decoded smaller than."""
T = TypeVar("T")
NOTHING = np.zeros((0, 0, 3), np.uint8)
LOOK, HEAD = 1 << 20, 1 << 16
"""Bytes of a file whose first bytes are looked at before all of them are sent, and how many these are."""
POLITE, POLITE_IF_LARGE, PATIENCE, WAITING = 5, 10, 3, 8
"""By how much a child gives way to the process that answers (nice), and the one for large pictures to the others; how
many times as long it may take for that; how many large pictures may wait.
"""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What decoding may take: seconds for a picture, bytes of a process, and how many processes. Pictures of more than
    `small` pixels are decoded one at a time, by one more process that gives way to all others.
    """

    seconds: float = 8.0
    memory: int = 640 << 20
    processes: int = 3
    small: int = 4_000_000
    command: Sequence[str] = command("tellapart.web.reader")


class Readers:
    """Bytes to pixels in children with bounds. Close it in the end. `turn` is held while a large picture is decoded."""

    def __init__(self, bounds: Bounds, *, died: Callable[[], None]) -> None:
        self.bounds, self.died, self.under_way = bounds, died, 0
        self._local, self._every, self.turn, self._waiting = threading.local(), [], asyncio.Lock(), 0
        self._until: dict[subprocess.Popen[bytes], float] = {}
        self._late: set[subprocess.Popen[bytes]] = set()
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(bounds.processes, "reader", self._prepare, (POLITE, 1))
        self._alone = ThreadPoolExecutor(1, "large", self._prepare, (POLITE_IF_LARGE, PATIENCE))

    def start(self) -> None:
        """Start all children. Raises WorkerError when one cannot be started."""
        together = threading.Barrier(self.bounds.processes + 1)  # else one thread starts them all
        pools = [self._alone] + [self._threads] * self.bounds.processes
        for work in [pool.submit(self._first, together) for pool in pools]:
            work.result()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _prepare(self, polite: int, patience: int) -> None:
        self._local.polite, self._local.patience = polite, patience

    def _first(self, together: threading.Barrier) -> None:
        self._child()
        together.wait(60)

    def _watch(self) -> None:
        """End each child that works on one picture for too long."""
        while not self._closed.wait(0.1):
            for child, until in list(self._until.items()):
                if time.monotonic() > until:
                    self._late.add(child)
                    child.kill()

    async def read(self, raw: bytes | memoryview, then: Callable[[Pixels, Size], T]) -> T:
        """What `then` makes, in the thread that read them, of a file's pixels and its size. Raises Refusal with the
        reason when there are none; a client that goes away meanwhile takes back what has not begun.
        """
        found, self.under_way = None, self.under_way + 1
        try:
            if len(raw) < LOOK or await asyncio.wrap_future(self._threads.submit(self._may_be_small, raw)):
                found = await asyncio.wrap_future(self._read(self._threads, raw, self.bounds.small, then))
        finally:
            self.under_way -= 1  # for a large one nobody waits
        if found is None:
            found = await self._read_large(raw, then)
        assert found  # noqa: S101 - a child refuses what has more
        return found[0]

    async def _read_large(self, raw: bytes | memoryview, then: Callable[[Pixels, Size], T]) -> tuple[T] | None:
        """The same, one after the other. Who waits here and leaves takes the bytes along: a queue would keep them."""
        if self._waiting >= WAITING:
            raise busy("Several large pictures wait to be decoded already.")
        self._waiting += 1
        try:
            await self.turn.acquire()
        finally:
            self._waiting -= 1
        work, loop = self._read(self._alone, raw, MOST, then), asyncio.get_running_loop()
        found = asyncio.wrap_future(work)
        try:
            # not when the client leaves: it is decoded to its end
            work.add_done_callback(lambda _: loop.call_soon_threadsafe(self.turn.release))
            work.add_done_callback(lambda done: done.cancelled() or trim_memory())
            return await found
        finally:
            del work, found  # an error would keep itself, and the bytes

    def _read(
        self, pool: ThreadPoolExecutor, raw: bytes | memoryview, most: int, then: Callable[[Pixels, Size], T]
    ) -> "Future[tuple[T] | None]":
        def work() -> tuple[T] | None:
            found = self._asked(raw, b"=", most)
            return None if found is None else (then(*found),)

        return pool.submit(work)

    def _may_be_small(self, raw: bytes | memoryview) -> bool:
        """Whether the first bytes do not say that the picture is large: then it is not sent to a child for nothing."""
        return self._asked(raw[:HEAD], b"?", self.bounds.small) is not None

    def _asked(self, raw: bytes | memoryview, way: bytes, most: int) -> tuple[Pixels, Size] | None:
        """The pixels (H W C) with the size of the file, or None where there are more than `most`."""
        child = self._child()
        self._until[child] = time.monotonic() + self.bounds.seconds * self._local.patience
        try:
            return _answered(child, raw, way, most)
        except OSError as error:
            self._lost(child)
            self._child()  # who ended it waits for the next one, not whoever comes then
            if child in self._late:
                self._late.discard(child)
                said = f"It takes longer than {self.bounds.seconds * self._local.patience:g} seconds to be decoded."
                raise Refusal(422, "too_slow_to_decode", said, "Save it again as JPEG or PNG.") from error
            said = "The process that decoded it died of it."
            raise Refusal(422, "cannot_be_decoded", said, "Save it again as JPEG or PNG.") from error
        finally:
            del self._until[child]

    def _child(self) -> "subprocess.Popen[bytes]":
        """The child of this thread, alive."""
        child = getattr(self._local, "child", None)
        if child is None or child.poll() is not None:
            if child is not None:
                self._lost(child)
            words = [*self.bounds.command, str(self.bounds.memory), str(self._local.polite)]
            child = self._local.child = started(words, HELLO, does="decodes pictures", at=os.sep)
            self._every.append(child)
            if self._closed.is_set():
                child.kill()
        return child

    def _lost(self, child: "subprocess.Popen[bytes]") -> None:
        ended(child)
        self._local.child = None
        self._every.remove(child)
        self.died()

    def close(self) -> None:
        """End all children for good."""
        self._closed.set()
        for child in list(self._every):
            child.kill()
        for pool in (self._threads, self._alone):
            pool.shutdown(cancel_futures=True)
        for child in self._every:
            ended(child)


def _answered(
    child: "subprocess.Popen[bytes]", raw: bytes | memoryview, way: bytes, most: int
) -> tuple[Pixels, Size] | None:
    """What a child answers. Raises OSError when it has died, Refusal when it refuses."""
    assert child.stdin  # noqa: S101 - it is a pipe
    assert child.stdout  # noqa: S101 - and so is this
    write_frame(child.stdin, way, most.to_bytes(8, "little"))
    write_frame(child.stdin, raw)
    length = int.from_bytes(_exactly(child.stdout, 8), "little")
    kind = _exactly(child.stdout, 1)
    if kind == b"+":
        height, width, channels, *size = SIZE.unpack(_exactly(child.stdout, SIZE.size))
        if length != 1 + SIZE.size + height * width * channels or not 0 < height * width <= most:
            raise OSError("the child gives another number of pixels than it says")
        pixels = np.empty((height, width, channels), np.uint8)
        _filled(child.stdout, pixels.reshape(-1).data)
        return pixels, (size[0], size[1])
    if kind == b"-" and length < 2**16:
        status, code, reason = _exactly(child.stdout, length - 1).decode().split(" ", 2)
        raise Refusal(int(status), code, reason, "JPEG, PNG, WebP, BMP, TIFF and PPM pictures are read.")
    if (length == 1 and kind == b">") or (way == b"?" and kind == b"<"):
        return None if kind == b">" else (NOTHING, (0, 0))
    raise OSError("the child says something else")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise OSError("the child has ended")
    return found


def _filled(stream: IO[bytes], view: memoryview) -> None:
    """Read until `view` is full, without a copy of it all."""
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the child has ended")
        view = view[count:]
