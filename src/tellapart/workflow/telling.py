"""Telling: what a run says goes into its log, and how it ended into its status, whoever listens."""

import contextlib
import shutil
from collections.abc import Iterator

from tellapart.errors import (
    DataError,
    DivergedError,
    Interrupted,
    MismatchError,
    StorageError,
    Terminated,
    UsageError,
    WorkerError,
)
from tellapart.run import Run
from tellapart.workflow.events import Event, line_of


def told(run: Run, events: Iterator[Event], *, fresh: bool = True) -> Iterator[Event]:
    """Pass the events on, write what they say into log.txt, and how it ended into status.json.

    A `fresh` run that is refused before its pictures are read leaves no folder. Raises BusyError when another process
    writes this run.
    """
    with run.alone():
        try:
            for event in events:
                line = line_of(event)
                if line is not None:
                    run.append("log.txt", line)
                yield event
        except BaseException as error:
            refused = isinstance(error, UsageError | DataError | MismatchError)
            if fresh and refused and run.status()["state"] == "preparing":
                shutil.rmtree(run.folder, ignore_errors=True)
            elif fresh or not refused:
                _say_how_to_go_on(run, error)
                _end(run, error)
            raise


def _say_how_to_go_on(run: Run, error: BaseException) -> None:
    """A training that was stopped, or that a disk ended, is not lost once its recipe is written."""
    stopped = isinstance(error, Interrupted | Terminated | StorageError | WorkerError)
    if stopped and (run.folder / "recipe.toml").is_file():
        error.hint = f"{error.hint} `tellapart resume {run.called}` goes on from here.".strip()


def _end(run: Run, error: BaseException) -> None:
    """Write down how a run ended."""
    with contextlib.suppress(StorageError):  # on a full disk the first error is the one to show
        if run.status()["state"] != "finished":
            run.set_status(state=_state(error), error=str(error))
            run.append("log.txt", f"{_state(error)}: {error}")


def _state(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | GeneratorExit | Interrupted | Terminated | WorkerError):
        return "interrupted"
    return "diverged" if isinstance(error, DivergedError) else "failed"
