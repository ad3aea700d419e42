"""Read a pickle of plain NumPy arrays without letting it call anything: the only pickles tellapart opens by default.

Opened are the batches of CIFAR's Python version, and only after the md5 of each agreed with the published one.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from tellapart.errors import DataError


def plain_arrays(raw: bytes, *, where: str) -> Any:
    """What the pickle holds: numbers, texts, lists, dicts, arrays. Raises DataError when it asks for anything else."""
    try:
        return _Unpickler(io.BytesIO(raw), where).load()
    except DataError:
        raise
    except Exception as error:  # broken pickles raise nearly every built-in error
        raise DataError(f"{where} is not a whole pickle: {error}.", "Fetch the file again.") from error


def _latin1(text: str, encoding: str) -> bytes:
    """What `_codecs.encode` does in pickles of arrays, and no other codec."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not expected")
    return text.encode("latin1")


_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    """Names outside the table above are refused before anything is imported or called."""

    def __init__(self, file: io.BytesIO, where: str) -> None:
        super().__init__(file, encoding="latin1")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(
                f"{self._where} is a pickle that asks to run {module}.{name}; it was not run.",
                "Do not use this file. Take the binary version of the data set, which holds no code.",
            )
        return _ALLOWED[module, name]
