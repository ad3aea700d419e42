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
from collections.abc import Callable, Iterator
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore

from tellapart.errors import TellapartError, WorkerError
from tellapart.run import variable

Asked = Callable[[], TellapartError | None]
"""Whether someone asked to stop, and with which ending."""
LONGEST = timedelta(minutes=10)
"""How long a process waits for another that lives, or should, but does not come."""
GONE_FIRST = "Rank 0 or the process that started this training is gone."
BEAT, GONE, PATIENCE = 1.0, 3.0, 10.0
"""Seconds between two signs of life; after which a process whose connection broke counts as dead; and after which it is
said for whom a process waits."""


class Lifeline(threading.Thread):
    """Process `rank` of `size`, and what the others have said.

    After `silence` seconds without a sign of life a process counts as stopped.
    `note` is told why the training ends, before it does; `hint`: how to go on then. `led` and `told` are for the first
    process: whether it leads a training already, and how many it has led.
    """

    def __init__(self, open_store: Callable[[], Store], rank: int, size: int) -> None:
        super().__init__(name="lifeline", daemon=True)
        self.rank, self.size, self.store, self.beating = rank, size, open_store(), open_store()
        self.silence, self.hint = variable("TELLAPART_SILENCE", "30", least=3), ""
        self.note: Callable[[str], object] = lambda words: None
        self.ended, self.dead = threading.Event(), ""
        self.led, self.told = False, 0
        self.store.set(f"who/{rank}", f"process {os.getpid()} on {socket.gethostname()}")

    def say(self, key: str, text: str) -> None:
        """Leave a message for the others."""
        self.store.set(key, text)

    def heard(self, key: str, asked: Asked) -> str:
        """Wait for a message. Raises the ending that `asked` returns, and WorkerError when a process has died."""
        while not self.store.check([key]):
            if (ending := asked()) is not None:
                raise ending
            if (lost := self.failed()) is not None:
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
                self.fail(error)
            self.store.set(f"left/{self.rank}", "")
            until = time.monotonic() + GONE  # the store may go with us: let the others hear that all is done
            while self.rank == 0 and error is None and self._beats(self.store) and time.monotonic() < until:
                time.sleep(0.02)

    def fail(self, error: BaseException) -> None:
        """Leave an error of our own for the others to tell."""
        what = str(getattr(error, "message", error)) or type(error).__name__
        code = getattr(error, "exit_code", 1)
        words, hint = f"{self._who(self.rank)} ended: {what}", getattr(error, "hint", "")
        self.store.set("failed", json.dumps([code, words, hint]))

    def lost(self) -> WorkerError | None:
        """Which process has gone, once a connection broke; None when all are there."""
        try:
            return self._lost()
        except RuntimeError:  # the store has gone too
            return WorkerError(GONE_FIRST)

    def _lost(self) -> WorkerError | None:
        seen, until = self._beats(self.store), time.monotonic() + GONE
        while time.monotonic() < until:
            if (failed := self.failed()) is not None:
                return failed
            time.sleep(BEAT / 4)
        now = self._beats(self.store)
        still = [rank for rank, beat in now.items() if beat == seen.get(rank)]
        if still:
            return WorkerError(f"{self._who(still[0])} died.")
        return None if len(now) == self.size - 1 else WorkerError("Another process of this training has ended.")

    def failed(self) -> WorkerError | None:
        """The end of a process that has told why; the first process passes it on, with its exit code."""
        if not self.store.check(["failed"]):
            return None
        code, words, hint = json.loads(self.store.get("failed"))
        error = WorkerError(words, hint)
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
                silent = [rank for rank in watched if missed[rank] * BEAT >= self.silence and rank in now]
                if silent:
                    self.beating.set("dead", f"{self._who(silent[0])} has been silent for {self.silence} s.")
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
            self.note(words)
            sys.stderr.write(f"error: {words}\n" + f"hint: {self.hint}\n" * bool(self.hint))
        os._exit(WorkerError.exit_code)


def opened(*, first: bool, asked: Asked = lambda: None) -> Store:
    """The place where the processes of a training leave messages: that of torchrun, or, where other launchers start
    them, one that the first process has.

    Raises WorkerError when nothing answers there, and the ending that `asked` returns.
    """
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = first and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    for _ in () if hosts else waiting(lambda: f"rank 0 at {where[0]}:{where[1]} (MASTER_ADDR, MASTER_PORT)", asked):
        with contextlib.suppress(OSError), socket.create_connection(where, timeout=GONE):
            break
    return TCPStore(*where, is_master=hosts, wait_for_workers=False, timeout=LONGEST)


def waiting(whom: Callable[[], str], asked: Asked) -> Iterator[None]:
    """Again and again, until what is waited for has come; after a while, one on each machine says for whom.

    Raises WorkerError after `LONGEST`, and the ending that `asked` returns.
    """
    began, said = time.monotonic(), os.environ.get("LOCAL_RANK", "0") != "0"
    while (waited := time.monotonic() - began) < LONGEST.total_seconds():
        if (ending := asked()) is not None:
            raise ending
        if waited > PATIENCE and not said:
            sys.stderr.write(f"note: waiting for {whom()}\n")
            said = True
        yield
        time.sleep(0.02)
    raise WorkerError(f"This training has waited {LONGEST.total_seconds() / 60:g} minutes for {whom()}.")


def met(store: Store, rank: int, size: int, asked: Asked = lambda: None) -> str:
    """A word that only the processes of this start have in common: torchrun's store still has what earlier ones left.

    The first process gives a word, and says who has answered it; a word whose answers lack one's own is an old one.
    Raises WorkerError when not all have come, and the ending that `asked` returns.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("word", own)
    absent = lambda: [str(r) for r in range(1, size) if rank == 0 and not store.check([f"{own}/{r}"])]  # noqa: E731
    for _ in waiting(lambda: f"rank {', '.join(absent() or ['0'])} of {size} processes", asked):
        if rank and not store.check(["word"]):
            continue
        word = own if rank == 0 else store.get("word").decode()
        if rank and not store.check([f"{word}/{own}"]):
            store.set(f"{word}/{own}", "")
            store.set(f"{word}/{rank}", own)
        answers = [f"{word}/{other}" for other in range(1, size)]
        if rank == 0 and store.check(answers):
            store.set(f"{word}/all", " ".join(store.get(answer).decode() for answer in answers))
        if store.check([f"{word}/all"]) and (rank == 0 or own in store.get(f"{word}/all").decode()):
            return word
    raise AssertionError("waiting ends by itself")
