"""Lifeline: each process of a training says every second that it lives; one that falls silent, or dies, is named.

Without it the others would wait: for minutes when a process was stopped, and then not know for whom.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore

from tellapart.errors import TellapartError, WorkerError

LONGEST = timedelta(minutes=10)
"""How long a process waits for another that lives, or should, but does not come."""
GONE_FIRST = "Rank 0 or the process that started this training is gone."
BEAT, SILENCE, GONE = 1.0, float(os.environ.get("TELLAPART_SILENCE", "30")), 3.0
"""Seconds between two signs of life; without one for `SILENCE` a process counts as stopped; when its connection broke,
for `GONE` as dead."""


class Lifeline(threading.Thread):
    """Process `rank` of `size`, and what the others have said.

    `speak` is told why the training ends, before it does; `led` and `told` are for the first process: whether it leads
    a training already, and how many it has led.
    """

    def __init__(self, open_store: Callable[[], Store], rank: int, size: int) -> None:
        super().__init__(name="lifeline", daemon=True)
        self.rank, self.size, self.store, self.beating = rank, size, open_store(), open_store()
        self.speak: Callable[[str], object] = lambda words: sys.stderr.write(f"error: {words}\n")
        self.ended, self.dead = threading.Event(), ""
        self.led, self.told = False, 0
        self.store.set(f"who/{rank}", f"process {os.getpid()} on {socket.gethostname()}")

    def say(self, key: str, text: str) -> None:
        """Leave a message for the others."""
        self.store.set(key, text)

    def heard(self, key: str, asked: Callable[[], TellapartError | None]) -> str:
        """Wait for a message. Raises the ending that `asked` returns, and WorkerError when a process has died."""
        while not self.store.check([key]):
            if (ending := asked()) is not None:
                raise ending
            if (lost := self._failed()) is not None:
                raise lost
            if self.dead:
                raise WorkerError(self.dead)
            time.sleep(0.02)
        return self.store.get(key).decode()

    def first(self) -> bool:
        """Whether no other process has told yet why the training ends."""
        return self.store.add("told", 1) == 1

    def leave(self, error: BaseException | None = None) -> None:
        """Go without being missed; an error of our own is left for the others to tell."""
        self.ended.set()
        with contextlib.suppress(RuntimeError):  # the store may have gone
            if error is not None and not isinstance(error, WorkerError):
                what = str(getattr(error, "message", error)) or type(error).__name__
                code = getattr(error, "exit_code", 1)
                self.store.set("failed", json.dumps([code, f"{self._who(self.rank)} ended: {what}"]))
            self.store.set(f"left/{self.rank}", "")

    def lost(self) -> WorkerError | None:
        """Which process has gone, once a connection broke; None when all are there."""
        try:
            return self._lost()
        except RuntimeError:  # the store has gone too
            return WorkerError(GONE_FIRST)

    def _lost(self) -> WorkerError | None:
        seen, until = self._beats(self.store), time.monotonic() + GONE
        while time.monotonic() < until:
            if (failed := self._failed()) is not None:
                return failed
            time.sleep(BEAT / 4)
        now = self._beats(self.store)
        still = [rank for rank, beat in now.items() if beat == seen.get(rank)]
        if still:
            return WorkerError(f"{self._who(still[0])} died.")
        return None if len(now) == self.size - 1 else WorkerError("Another process of this training has ended.")

    def _failed(self) -> WorkerError | None:
        """The end of a process that has told why; the first process passes it on, with its exit code."""
        if not self.store.check(["failed"]):
            return None
        code, words = json.loads(self.store.get("failed"))
        error = WorkerError(words)
        error.exit_code, error.quiet = code, self.rank != 0
        return error

    def run(self) -> None:
        """Beat, and listen to the others: the first process to all, they to the first, until `leave`."""
        watched = range(1, self.size) if self.rank == 0 else (0,)
        beats, missed, count = dict.fromkeys(watched, b""), dict.fromkeys(watched, 0), 0
        while not self.ended.wait(BEAT):
            try:
                count += 1
                self.beating.set(f"beat/{self.rank}", str(count))
                now = self._beats(self.beating)
                for rank in watched:
                    missed[rank] = missed[rank] + 1 if now.get(rank) == beats[rank] else 0
                    beats[rank] = now.get(rank, b"gone")
                silent = [rank for rank in watched if missed[rank] * BEAT >= SILENCE and rank in now]
                if silent:
                    self.beating.set("dead", f"{self._who(silent[0])} has been silent for {SILENCE:g} s.")
                if self.beating.check(["dead"]):
                    self._end(self.beating.get("dead").decode())
            except RuntimeError:
                if not self.ended.is_set():
                    self._end(GONE_FIRST)

    def _beats(self, store: Store) -> dict[int, bytes]:
        """The last sign of life of every other process that has not left."""
        there = [r for r in range(self.size) if r != self.rank and not store.check([f"left/{r}"])]
        return {rank: store.get(f"beat/{rank}") if store.check([f"beat/{rank}"]) else b"" for rank in there}

    def _who(self, rank: int) -> str:
        return f"Rank {rank} ({self.store.get(f'who/{rank}').decode()})"

    def _end(self, words: str) -> None:
        """End this process: whoever waits for another in the middle of a sum can no longer be reached."""
        self.dead = words
        if self.ended.wait(GONE):  # it heard, and goes by itself
            return
        if self.rank == 0 or ("Rank 0 " in words and self.first()):
            self.speak(words)
        os._exit(WorkerError.exit_code)


def opened(*, first: bool) -> Store:
    """The place where the processes of a training leave messages: that of torchrun, or, where other launchers start
    them, one that the first process has.
    """
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return TCPStore(*where, is_master=hosts, wait_for_workers=False, timeout=LONGEST)


def met(store: Store, rank: int, size: int) -> str:
    """A word that only the processes of this start have in common: torchrun's store still has what earlier ones left.

    The first process gives a word, and says who has answered it; a word whose answers lack one's own is an old one.
    Raises WorkerError when not all have come.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + LONGEST.total_seconds()
    if rank == 0:
        store.set("word", own)
    while time.monotonic() < until:
        word = own if rank == 0 else store.get("word").decode()
        if rank and not store.check([f"{word}/{own}"]):
            store.set(f"{word}/{own}", "")
            store.set(f"{word}/{rank}", own)
        answers = [f"{word}/{other}" for other in range(1, size)]
        if rank == 0 and store.check(answers):
            store.set(f"{word}/all", " ".join(store.get(answer).decode() for answer in answers))
        if store.check([f"{word}/all"]) and (rank == 0 or own in store.get(f"{word}/all").decode()):
            return word
        time.sleep(0.02)
    raise WorkerError(f"Not all of the {size} processes of this training have come.")
