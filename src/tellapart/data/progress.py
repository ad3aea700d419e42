"""How far a pass is: what is called with (done, total)."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """The progress of someone who does not look."""
