"""Stopping politely: a signal sets a flag, the loop acts on it at the next step; a second signal leaves at once."""

import signal
import threading
from types import FrameType

from tellapart.errors import Interrupted, TellapartError, Terminated


class Stopping:
    """While open, Ctrl-C and SIGTERM are turned into an ending that the loop asks for. Only in the main thread."""

    def __init__(self) -> None:
        self.ending: TellapartError | None = None
        self.previous: dict[int, object] = {}

    def asked(self) -> TellapartError | None:
        """The ending that was asked for, if any."""
        return self.ending

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.ending is not None:
            raise KeyboardInterrupt
        self.ending = (
            Interrupted("Stopped by Ctrl-C.") if number == signal.SIGINT else Terminated("Stopped by SIGTERM.")
        )
