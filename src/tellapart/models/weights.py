"""Weights from a file of someone else's: tensors by their names, and nothing in it is executed."""

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from tellapart.child import command, environment
from tellapart.errors import DataError, StorageError
from tellapart.files import readable
from tellapart.models.header import LONGEST, brief
from tellapart.recipe import printable

SECONDS, BYTES_A_SECOND = 60, 20 << 20
"""What the child may take: a minute for its start, and time for the bytes of the file."""
WRAPPED = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
SAVE = (
    "Save the weights alone: torch.save(model.state_dict(), FILE). If you trust it, "
    "`tellapart model convert FILE OUT --trust` runs what it holds, and keeps the weights."
)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one that torch.save wrote (.pth, .pt, .th, .bin), by their names.

    Which of them it is, its first bytes say. What torch.save wrote is a pickle: a child process with bounds on memory,
    time and disk reads tensors from it and nothing else. A state dict in a checkpoint is found, and a prefix that
    every name has is taken off. Raises StorageError when the file cannot be read, DataError when it holds no weights.
    """
    with readable(path, "Check the path."), path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST:  # first: a length may begin with 80
        state = _safetensors(path, path)
    elif start[:4] == b"PK\3\4" or start[:1] == b"\x80":
        state = _by_child(path, "weights_plain", "weights_child")  # the first is quick, and reads the usual file only
    else:
        _refuse(path, f"is not a file of weights: it begins with {start[:8].hex(' ') or 'nothing'}", _EXPECTED)
    while state and (prefix := next((one for one in WRAPPED if all(name.startswith(one) for name in state)), "")):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if not state:
        _refuse(path, "holds no tensors", SAVE)
    return state


_EXPECTED = "Read are .safetensors files, and those that torch.save wrote."


def _refuse(path: Path, why: str, hint: str) -> NoReturn:
    raise DataError(f"{printable(str(path))} {why}.", hint)


def _safetensors(path: Path, named: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, whose header the library proves; `named` stands in the error."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        with readable(path):
            return load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, AttributeError, RuntimeError, TypeError, MemoryError) as error:
        _refuse(
            named,
            f"is not a whole safetensors file: {brief(error) or 'it needs far more memory than its size'}",
            "Copy it again from where it was made.",
        )


def unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled model or table. Its code is run: only for a file that its user says they trust.

    Raises what `read` raises.
    """
    with readable(path, "Check the path."):
        path.open("rb").close()
    state = _by_child(path, "weights_trusted")
    if not state:
        _refuse(path, "holds no tensors", SAVE)
    return state


def _by_child(path: Path, *children: str) -> dict[str, Tensor]:
    """What the first child that can has read, handed over as a safetensors file in a folder no one else may open."""
    with tempfile.TemporaryDirectory(prefix="tellapart-weights-") as folder:
        handed = Path(folder) / "tensors.safetensors"
        for child in children[:-1]:
            with contextlib.suppress(DataError):  # it took too long: the next one may not
                if not _asked(child, path, handed).returncode:
                    return _safetensors(handed, path)
        done = _asked(children[-1], path, handed)
        if done.returncode:
            _refuse(path, _why(done), SAVE)
        return _safetensors(handed, path)


def _asked(child: str, path: Path, to: Path) -> "subprocess.CompletedProcess[bytes]":
    """A child that has read the file, or has not."""
    words = [*command(f"tellapart.models.{child}"), str(path.absolute()), str(to)]
    seconds = SECONDS + path.stat().st_size / BYTES_A_SECOND
    try:
        return subprocess.run(
            words,
            env=environment(OMP_NUM_THREADS="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        _refuse(path, f"took longer than {seconds:.0f} s to be read", SAVE)
    except OSError as error:
        raise StorageError(f"The process that reads weights cannot be started: {error}.") from error


def _why(done: "subprocess.CompletedProcess[bytes]") -> str:
    """What the child said before it ended, or that it said nothing."""
    try:
        return str(json.loads(done.stdout)["why"])
    except (ValueError, KeyError, TypeError):
        return f"could not be read: the process that read it ended with {done.returncode}"
