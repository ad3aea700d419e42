"""The error family, its exit codes, and "did you mean".

    TellapartError
    ├── ProblemsFound   1  a check found problems, or a promised threshold was not met
    ├── UsageError      2  the command or the recipe asks for something that cannot be
    ├── DataError       3  the pictures or their labels are not usable as they are
    │   └── AbsentError 3  the files of a named data set are not there; they can be fetched
    ├── StorageError    4  a file or folder cannot be read or written
    ├── DivergedError   5  the loss or the weights are no longer finite
    ├── BusyError       6  another process is writing this run or file
    ├── MismatchError   7  a run cannot be continued as it was
    ├── WorkerError     8  a rank or a worker died
    ├── Interrupted   130  Ctrl-C; what was reached is saved
    └── Terminated    143  SIGTERM, SIGHUP; what was reached is saved

Shape of a message: what is wrong, where, what was received; the hint says what would work.
"""

import difflib
from collections.abc import Iterable


class TellapartError(Exception):
    """A mistake or mishap that a person can act on: one sentence of what, one of what to do.

    Args:
        message: what happened, with the name and the value received.
        hint: what to do next; empty when the message already says it.
    """

    exit_code: int = 1
    quiet: bool = False
    """Whether another process of the same training says it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ProblemsFound(TellapartError):
    exit_code = 1


class UsageError(TellapartError):
    exit_code = 2


class DataError(TellapartError):
    exit_code = 3


class AbsentError(DataError):
    exit_code = 3


class StorageError(TellapartError):
    exit_code = 4


class DivergedError(TellapartError):
    exit_code = 5


class BusyError(TellapartError):
    exit_code = 6


class MismatchError(TellapartError):
    exit_code = 7


class WorkerError(TellapartError):
    exit_code = 8


class Interrupted(TellapartError):
    exit_code = 130


class Terminated(TellapartError):
    exit_code = 143


def refuse_marks(marked: object, what: str, hint: str = "") -> None:
    """Raises UsageError where pictures may have several classes each, for what needs one class each."""
    if marked:
        raise UsageError(f"{what} needs one class for each picture; here each may have several (multi-label).", hint)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None when none is close.

    >>> nearest("resnet81", ["resnet18", "vgg16"])
    'resnet18'
    """
    known = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return known[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str], *, show: int = 12) -> str:
    """The hint for an unknown name: the nearest spelling, else the choices.

    >>> did_you_mean("adm", ["sgd", "adam"])
    "Did you mean 'adam'?"
    """
    choices = sorted(choices)
    guess = nearest(word, choices)
    if guess is not None:
        return f"Did you mean '{guess}'?"
    more = f", … ({len(choices)} in all)" if len(choices) > show else ""
    return f"Choose one of: {', '.join(choices[:show])}{more}."


def unknown(what: str, word: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is not in a table."""
    return UsageError(f"Unknown {what} '{word}'.", did_you_mean(word, choices))
