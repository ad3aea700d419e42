"""Dynamic batching: what clients ask at about the same time goes through the network together. Each gets its own
answer: a job is a square and the future of whoever waits for it, from the door to the end.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Square = NDArray[np.uint8]
T = TypeVar("T")
WAIT = 0.004
"""Seconds that a picture waits for others that are being decoded; with none on the way it does not wait."""


class Batches(Generic[T]):
    """Collects squares (S S C), and asks `answer` for those of a batch, in order, in a thread of its own."""

    def __init__(
        self, answer: Callable[[Sequence[Square]], Sequence[T]], *, most: int, coming: Callable[[], int]
    ) -> None:
        self.answer, self.most, self.coming = answer, most, coming
        self.batches, self.answered = 0, 0
        self._jobs: deque[tuple[Square, asyncio.Future[T]]] = deque()
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def ask(self, square: Square) -> T:
        """The answer for one square. Whoever is cancelled while waiting takes its square out."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.append((square, future))
        self._news.set()
        return await future

    def look(self) -> None:
        """Look again at what is on the way: less than there was, perhaps."""
        self._news.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._gathered(loop)
            some = [self._jobs.popleft() for _ in range(min(self.most, len(self._jobs)))]
            batch = [(square, future) for square, future in some if not future.done()]
            if batch:
                await self._answer(loop, batch)

    async def _gathered(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a job, and then a little for those that are on the way."""
        while not self._jobs:
            self._news.clear()
            await self._news.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(loop.time() + WAIT):
                while len(self._jobs) < self.most and self.coming():
                    self._news.clear()
                    await self._news.wait()

    async def _answer(
        self, loop: asyncio.AbstractEventLoop, batch: "Sequence[tuple[Square, asyncio.Future[T]]]"
    ) -> None:
        try:
            answers = await loop.run_in_executor(self._thread, self.answer, [square for square, _ in batch])
        except Exception as error:  # each client is told; the loop goes on
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self.batches, self.answered = self.batches + 1, self.answered + len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(cancel_futures=True)
