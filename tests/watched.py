"""What a server needs while it is asked: its memory, sampled; and a large picture that it has to take."""

import threading
import time
from functools import cache

from PIL import Image
from planted import encoded, natural
from served import memory


@cache
def large_png() -> bytes:
    """A picture of 15 million pixels, and of no more bytes than are taken."""
    return encoded(natural(1, width=488, height=488).resize((3900, 3900), Image.Resampling.BICUBIC), "PNG")


class Watch:
    """The memory of a process and all below it, every `pause` seconds; the largest of it."""

    def __init__(self, pid: int, pause: float = 0.2) -> None:  # the system stops a process while it counts its pages
        self.pid, self.pause, self.most, self.going = pid, pause, 0, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while self.going:
            self.most = max(self.most, memory(self.pid))
            time.sleep(self.pause)

    def end(self) -> int:
        self.going = False
        self.thread.join()
        return self.most
