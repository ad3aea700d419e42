"""One command of tellapart, run in this process, and what it left: exit code, both streams, the folder it ran in."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tellapart.cli import main
from tellapart.run import Run

GOLDEN = Path(__file__).parent / "golden"
OVERWRITE = os.environ.get("OVERWRITE") == "1"
"""Keep what a golden test finds instead of comparing it."""


class Done(NamedTuple):
    """How a command ended. `err` is what it wrote to stderr."""

    code: int
    out: str
    err: str
    at: Path

    def run(self, name: str) -> Run:
        return Run.open(self.at / "runs", name)


def tellapart(at: Path, *words: str) -> Done:
    """`tellapart WORDS…` in the folder `at`."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(at), streams[0], streams[1], pytest.raises(SystemExit) as ended:
        main(list(words))
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode(), at)


def train(at: Path, name: str, *words: str) -> Done:
    """`tellapart train WORDS… --run NAME`, which must succeed."""
    done = tellapart(at, "train", *words, "--run", name)
    assert done.code == 0, done.err
    return done


def golden(name: str, text: str) -> None:
    """Compare with the kept text; OVERWRITE=1 keeps this one instead."""
    if OVERWRITE:
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8"), f"{name} changed; OVERWRITE=1 keeps the new one"


def process(*words: str, before: Path | None = None) -> tuple[list[str], dict[str, str]]:
    """The argument list and environment of the same command as a process of its own; `before` is found first."""
    paths = [*([str(before)] if before else []), *(path for path in sys.path if path)]
    return [sys.executable, "-m", "tellapart", *words], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
