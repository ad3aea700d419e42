"""The child that reads what torch.save wrote: tensors only (weights_only), within bounds, into a safetensors file."""

import json
import os
import re
import signal
import sys
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from tellapart.child import bounded
from tellapart.models.weights_plain import table

TIMES, MORE = 4, 1 << 30
"""Bytes that reading may take: so many times the file, and so many more."""


def state_of(loaded: object) -> dict[str, Tensor]:
    """The named tensors of what a checkpoint holds: of itself, else of the one table in it that has most of them."""
    return table(loaded, Tensor)


def alone(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own. Raises ValueError for one that is no plain table of numbers."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ValueError("holds tensors that are sparse, quantized or empty shells")
    return tensor.detach().contiguous().clone()


def hand_over(path: Path, to: Path) -> None:
    """Write the tensors of `path` as safetensors. Raises what torch raises, and ValueError with words of ours."""
    from safetensors.torch import save_file

    mapped = zipfile.is_zipfile(path)  # files of before torch 1.6 are none
    if mapped and any(member.compress_type for member in zipfile.ZipFile(path).infolist()):
        raise ValueError("holds packed members, which torch.save does not write")
    if mapped and zipfile.ZipFile(path).testzip():  # torch does not look at the checksums
        raise ValueError("holds members that are damaged: their checksums do not agree")
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    state = state_of(loaded)
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > TIMES * path.stat().st_size:
        raise ValueError("holds tensors that are far larger than the file")
    if "__metadata__" in state:
        raise ValueError("holds a tensor called __metadata__, a name that safetensors keeps for itself")
    save_file({name: alone(tensor) for name, tensor in state.items()}, to)


def why(error: Exception) -> str:
    """What is wrong with the file, in words that follow its name."""
    text = str(error)
    if asks := re.search(r"(?:GLOBAL|global|object of type) `?([\w.]+)`?", text):
        return f"holds more than tensors: it asks for {asks[1]}, and nothing of it was run"
    if type(error).__name__ == "UnpicklingError":
        return "holds more than tensors, or is damaged; nothing was run"
    if isinstance(error, MemoryError) or "memory" in text:
        return "needs far more memory than its size"
    if isinstance(error, ValueError) and text.startswith("holds"):
        return text
    return f"is not a whole file of weights ({type(error).__name__})"


def _memory() -> int:
    """The address space this process has taken; 1 TiB where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 1 << 40


def main(path: Path, to: Path) -> int:
    """Hand the tensors over, or say on stdout why not; what a library prints goes nowhere."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    warnings.simplefilter("ignore")
    bound = TIMES * path.stat().st_size + MORE
    bounded(_memory() + bound, written=bound)
    try:
        hand_over(path, to)
    except Exception as error:  # broken files raise nearly every built-in error
        os.write(answers, json.dumps({"why": why(error)}).encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
