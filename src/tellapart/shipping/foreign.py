"""An .onnx file of someone else's: held against the size of its model, then opened and run in a child with bounds.

The child is this module, run as a program. No torch here: it would take most of the child's room.
"""

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.child import bounded, command, ended, read_frame, started, write_frame
from tellapart.errors import StorageError, TellapartError, UsageError
from tellapart.files import readable
from tellapart.recipe import printable
from tellapart.shipping.predict_onnx import Model

TIMES, MORE = 4, 64 << 20
"""Bytes that a file may have: so many times the weights of its model, and so many more."""
MEMORY, SECONDS = 3 << 30, 120
"""Address space of the child beside TIMES the file; how long it may take to open it, and for a picture."""
ALARM = getattr(signal, "SIGALRM", 0)
"""What ends a child that takes too long; Windows has no such thing, nor bounds on memory."""
HELLO, WELL, ILL = b"ready", b"1", b"0"
"""What the child says first; the first byte of an answer, and that of a reason why there is none."""
QUANTISING = ("uantizeLinear", "QLinear", "Integer")
KINDS = {1: "float32", 10: "fp16", 2: "int8", 3: "int8"}
"""In the names of operators of ONNX that compute in 8 bits; what its numbers of types of numbers stand for."""
GIVE = "Give a file that `tellapart export onnx` wrote, or one made from it."


@contextlib.contextmanager
def foreign(file: Path, weights: int, name: str) -> Iterator[tuple[dict[str, Any], Callable[..., Any]]]:
    """What a file says of its model, with its precision as the "graph" shows it, and its answers (as `parity.Answers`)
    while they are needed. `name` is that of the model it is held against, which has so many bytes of weights.

    Raises StorageError for a file that is far larger, that keeps numbers in other files, or that cannot be opened
    within bounds of memory and time; the answers raise UsageError where there are none.
    """
    with readable(file):
        size = file.stat().st_size
    what, most = printable(str(file)), TIMES * weights + MORE
    if size > most:
        said = f"{what} has {size:,} bytes; a file of this model has at most {most:,}."
        raise StorageError(said, "It was exported from another model, or is none.")
    words = [*command("tellapart.shipping.foreign"), str(file.absolute()), str(MEMORY + TIMES * size), str(SECONDS)]
    child = started(words, HELLO, does="opens the file")
    closed = StorageError(f"{what} cannot be opened as a file of `export onnx`: ", GIVE)
    other = UsageError(f"{what} does not take the pictures of {name}: ", "Export it once more.")

    def answers(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        frame = io.BytesIO()
        np.save(frame, pictures)
        both = np.frombuffer(_reply(child, other, frame.getvalue()), np.float32)
        return both.reshape(2, len(pictures), len(about["classes"]))

    try:
        about = json.loads(_reply(child, closed))
        yield about, answers
    finally:
        ended(child)


def _reply(child: "subprocess.Popen[bytes]", refused: TellapartError, *frames: bytes) -> bytes:
    """What the child answers to a frame, or on its own. Raises `refused`, with the reason, where it has no answer."""
    assert child.stdin  # noqa: S101 - it is a pipe
    assert child.stdout  # noqa: S101 - and so is this
    reply = None
    with contextlib.suppress(OSError):
        for frame in frames:
            write_frame(child.stdin, frame)
        reply = read_frame(child.stdout)
    if reply is None:
        how = f"takes longer than {SECONDS} s" if child.wait() == -ALARM else f"ended with {child.returncode}"
        reply = f"{ILL.decode()}the process that runs it {how}".encode()
    if reply[:1] == ILL:
        refused.message += f"{printable(reply[1:].decode()).rstrip('.')}."
        raise refused
    return reply[1:]


def _opened(raw: bytes) -> Model:
    """The model in a file. Raises ValueError where it keeps numbers in other files, else what its libraries raise."""
    onnx = import_module("onnx")
    parts = list(_parts(onnx.load_from_string(raw)))
    if any(getattr(one, "data_location", 0) for one in parts):  # 1: in another file
        raise ValueError("it keeps numbers in other files, which are not opened; onnx.save makes one file of it")
    model = Model(raw)
    model.about["graph"] = _precision(parts)
    return model


def _precision(parts: Sequence[Any]) -> str:
    """What a graph computes in, whatever is said of it: the kind of most of its numbers, 8 bits where it quantises."""
    quantises = any(word in getattr(one, "op_type", "") for one in parts for word in QUANTISING)
    held = {"float32": 0, "fp16": 0, "int8": 0}
    for one in parts:
        kind = KINDS.get(getattr(one, "data_type", 0))
        if kind and (kind != "int8" or quantises):
            held[kind] += math.prod(one.dims)
    return max(held, key=lambda kind: held[kind])


def _parts(message: Any) -> Iterator[Any]:
    """Every message in a message of ONNX: graphs, those inside of them, tensors, and attributes of their nodes."""
    for field, value in message.ListFields():
        for one in (value if not hasattr(value, "ListFields") else [value]) if field.message_type else ():
            yield one
            yield from _parts(one)


def _answered(model: Model, pictures: NDArray[np.uint8]) -> bytes:
    """Probabilities and logits (2 N K) float32 as they lie in memory. Raises ValueError for anything else."""
    both, shape = model.answers(pictures), (len(pictures), len(model.classes))
    if wrong := [f"{one.dtype} {one.shape}" for one in both if one.shape != shape or one.dtype != np.float32]:
        raise ValueError(f"it gives {wrong[0]} instead of float32 {shape}")
    return np.stack(both).tobytes()


def main(file: Path, memory: int, seconds: int) -> None:
    """Say what the file says of itself; then answer pictures (N H W C), one array in a frame, until none comes."""
    answers, model, frame = os.fdopen(os.dup(1), "wb"), None, None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    write_frame(answers, HELLO)
    bounded(memory, written=0)
    wait = signal.alarm if ALARM else int
    try:
        while model is None or (frame := read_frame(sys.stdin.buffer)) is not None:
            wait(seconds)
            model = model or _opened(file.read_bytes())
            about = json.dumps({**model.about, "classes": list(model.classes)}).encode()
            write_frame(answers, WELL, about if frame is None else _answered(model, np.load(io.BytesIO(frame))))
    except Exception as error:  # the libraries have a dozen errors of their own
        odd = isinstance(error, KeyError | TypeError | AttributeError)
        why = "it does not say what it is" if odd else str(error).partition("\n")[0][:300] or type(error).__name__
        write_frame(answers, ILL, why.encode("utf-8", "replace"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))
