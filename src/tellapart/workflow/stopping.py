"""Stopping politely: a signal sets a flag, the loop acts on it at the next step. No torch here: it starts first."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from tellapart.errors import Interrupted, TellapartError, Terminated

SAVE = getattr(signal, "SIGUSR1", None)
"""Slurm sends it before it ends a job. Windows has none."""
HANG_UP = getattr(signal, "SIGHUP", None)
"""The terminal was closed, or the connection to it is lost. `nohup` makes a process ignore it, and so do we then."""
ONE_PRESS = 1.0
"""Seconds within which two Ctrl-C are one: a launcher may pass on what the terminal has sent already."""


class Stopping:
    """While open, Ctrl-C, SIGTERM and SIGHUP are turned into an ending that the loop asks for, SIGUSR1 into a
    checkpoint.

    A second Ctrl-C leaves at once. Only in the main thread. `hint`: what the ending says to do.
    """

    def __init__(self, hint: str = "") -> None:
        self.ending: TellapartError | None = None
        self.hint, self.waits = hint, False
        self.save, self.pressed = False, 0.0
        self.previous: dict[int, object] = {}

    def asked(self) -> TellapartError | None:
        """The ending that was asked for, if any."""
        return self.ending

    def save_now(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        wanted, self.save = self.save, False
        return wanted

    def waiting(self, work: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """The same work, which a stop leaves at once with its ending: what is waited for may never come."""

        def left_at_once(most: int) -> bytes:
            self.waits = True
            try:
                if self.ending is not None:
                    raise self.ending
                return work(most)
            finally:
                self.waits = False

        return left_at_once

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            numbers = [number for number in (signal.SIGINT, signal.SIGTERM, SAVE, HANG_UP) if number is not None]
            numbers = [n for n in numbers if n != HANG_UP or signal.getsignal(n) != signal.SIG_IGN]
            self.previous = {number: signal.signal(number, self._heard) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == HANG_UP:
            let_go_of_terminal()
        if number == SAVE:
            self.save = True
        elif self.ending is None:
            stopped = number == signal.SIGINT
            self.pressed = time.monotonic()
            name = signal.Signals(number).name
            self.ending = (Interrupted if stopped else Terminated)(
                f"Stopped by {'Ctrl-C' if stopped else name}.", self.hint
            )
            if self.waits:
                raise self.ending
        elif number == signal.SIGINT and time.monotonic() - self.pressed > ONE_PRESS:
            raise KeyboardInterrupt


def let_go_of_terminal() -> None:
    """Send to nowhere what would go to a terminal that is no longer there: saying it would fail, saving must not."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
