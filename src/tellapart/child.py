"""A child process of our own with bounds: what a file does to the child that reads it costs that file alone."""

import os
import sys
from pathlib import Path


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
