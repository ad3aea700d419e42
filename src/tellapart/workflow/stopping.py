"""Stopping politely: a signal sets a flag, the loop acts on it at the next step. No torch here: it starts first."""

import signal
import threading
import time
from types import FrameType

from tellapart.errors import Interrupted, TellapartError, Terminated

SAVE = getattr(signal, "SIGUSR1", None)
"""Slurm sends it before it ends a job. Windows has none."""
ONE_PRESS = 1.0
"""Seconds within which two Ctrl-C are one: a launcher may pass on what the terminal has sent already."""


class Stopping:
    """While open, Ctrl-C and SIGTERM are turned into an ending that the loop asks for, SIGUSR1 into a checkpoint.

    A second Ctrl-C leaves at once. Only in the main thread.
    """

    def __init__(self) -> None:
        self.ending: TellapartError | None = None
        self.save, self.pressed = False, 0.0
        self.previous: dict[int, object] = {}

    def asked(self) -> TellapartError | None:
        """The ending that was asked for, if any."""
        return self.ending

    def save_now(self) -> bool:
        """Whether a checkpoint was asked for since the last call."""
        wanted, self.save = self.save, False
        return wanted

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            numbers = [number for number in (signal.SIGINT, signal.SIGTERM, SAVE) if number is not None]
            self.previous = {number: signal.signal(number, self._heard) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == SAVE:
            self.save = True
        elif self.ending is None:
            stopped = number == signal.SIGINT
            self.pressed = time.monotonic()
            self.ending = Interrupted("Stopped by Ctrl-C.") if stopped else Terminated("Stopped by SIGTERM.")
        elif number == signal.SIGINT and time.monotonic() - self.pressed > ONE_PRESS:
            raise KeyboardInterrupt
