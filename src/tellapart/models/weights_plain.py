"""The child that reads what torch.save wrote as it usually is, a table of plain tensors, without torch, whose start
takes longer than the reading. Whatever else a file holds is left to weights_child.
"""

import io
import json
import math
import pickle
import sys
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tellapart.child import bounded

T = TypeVar("T")
KINDS = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
"""What safetensors calls the numbers of a storage, and the bytes of one."""
MEMORY, MOST = 1 << 30, 2
"""Bytes that this process may take beside the file's; bytes of tensors, in sizes of the file."""


@dataclass(frozen=True)
class Plain:
    """Where the numbers of a tensor lie: kind and member of the file, offset, shape and strides in numbers."""

    storage: tuple[str, str, int]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def bytes(self, held: bytes) -> bytes:
        """The numbers in row-major order. Raises ValueError when they lie outside of what the member holds."""
        size = KINDS[self.storage[0]][1]
        whole = np.frombuffer(held, f"V{size}")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or (0 not in self.shape and last >= len(whole)):
            raise ValueError("a tensor that is not within its storage")
        steps = [step * size for step in self.strides]
        return np.lib.stride_tricks.as_strided(whole[self.offset :], self.shape, steps).tobytes()


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *more: Any) -> Plain:
    if len(more) > 2:  # beside requires_grad and hooks: signs that are to be turned, and other things of torch's
        raise ValueError("a tensor that is more than its numbers")
    return Plain(storage, offset, shape, strides)


KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): name for name in KINDS},
}


class _Reader(pickle.Unpickler):
    """Reads a pickle that names nothing but what is KNOWN, and none of that is from where the pickle says."""

    def find_class(self, module: str, name: str) -> Any:
        return KNOWN[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        _, kind, member, _, numbers = pid
        return kind, member, numbers


def table(loaded: object, kind: type[T]) -> dict[str, T]:
    """The named values of a kind in what was read: its own, else those of the one table in it that has most of them."""
    if not isinstance(loaded, dict):
        return {}
    own = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, kind)}
    return max([own, *(table(inner, kind) for inner in loaded.values())], key=len)


def _usual(archive: zipfile.ZipFile) -> str:
    """The folder that the members of a usual file are in. Raises ValueError for one that torch would not write."""
    names = [member.filename for member in archive.infolist()]
    top = names[0].partition("/")[0] + "/"
    if any(member.compress_type for member in archive.infolist()) or len(set(names)) < len(names):
        raise ValueError("packed members, or two of one name")
    if not all(name.startswith(top) for name in names):
        raise ValueError("members of several folders")
    if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
        raise ValueError("the numbers of a machine of another kind")
    return top


def hand_over(path: Path, to: Path) -> None:
    """Write the tensors of `path` as safetensors. Raises nearly anything when it is not the usual file."""
    with zipfile.ZipFile(path) as archive:
        top = _usual(archive)
        found = table(_Reader(io.BytesIO(archive.read(f"{top}data.pkl"))).load(), Plain)
        if sum(math.prod(one.shape) * KINDS[one.storage[0]][1] for one in found.values()) > MOST * path.stat().st_size:
            raise ValueError("tensors that are far larger than the file")
        if not found or "__metadata__" in found or archive.testzip():
            raise ValueError("no tensors, damaged ones, or one with a name that safetensors keeps for itself")
        held = {one: archive.read(f"{top}data/{one[1]}") for one in {one.storage for one in found.values()}}
    if any(len(raw) != numbers * KINDS[kind][1] for (kind, _, numbers), raw in held.items()):
        raise ValueError("a storage that is not as long as it says")
    numbers = {name: one.bytes(held[one.storage]) for name, one in found.items()}
    header, at = {}, 0
    for name, one in found.items():
        ends = [at, at := at + len(numbers[name])]
        header[name] = {"dtype": KINDS[one.storage[0]][0], "shape": one.shape, "data_offsets": ends}
    text = json.dumps(header).encode()
    with to.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(numbers.values())


def main(path: Path, to: Path) -> int:
    """0 when the tensors are handed over, else 1; nothing is said."""
    bound = 2 * MOST * path.stat().st_size + MEMORY
    bounded(bound, written=bound)
    try:
        hand_over(path, to)
    except Exception:  # broken files raise nearly every built-in error
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
