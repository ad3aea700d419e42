"""The header of a model file: read within bounds, and proved against the length of the file, before any weight is."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tellapart.errors import StorageError
from tellapart.files import readable
from tellapart.recipe import printable

FORMAT = 1
LONGEST, MOST = 32 * 1024**2, 2_000_000
"""Bounds of a header: its bytes, and its commas and brackets, which are what it costs to read."""
SIZES = {"F32": 4, "I64": 8}
"""Bytes of one number, of the kinds that a network keeps: weights, and counters."""
AXES = 8
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PICKLED = "{} is a pickle, as torch.save writes them: loading one can run any code, so it is not opened."
GIVE = "Give a run, or a model.safetensors that `tellapart train` wrote."

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Kind and shape of each tensor, by its name."""


def brief(text: object) -> str:
    """Words from a file or about it, for a sentence: one line of at most 300 letters, which can be printed."""
    return printable(str(text)[:300].encode("utf-8", "backslashreplace").decode()).removesuffix(".")


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a model file, without its weights. Raises StorageError that says what the file is instead."""
    return opened(path)[0]


def opened(path: Path) -> tuple[dict[str, Any], Layout]:
    """The JSON header of a model file, and which tensors lie behind it. Raises StorageError as `read_header` does."""
    shown = brief(path)
    try:
        with readable(shown, GIVE), path.open("rb") as file:
            raw = _header(file.read(8), file, shown)
            behind = file.seek(0, 2) - 8 - len(raw)
        outer = _json(raw.decode())
        words = outer.pop("__metadata__", {})
        layout = _layout(outer, behind)
        del raw, outer
        if "tellapart" not in words:
            raise StorageError(f"{shown} holds weights, but not of which network, for which classes.", GIVE)
        header = _json(words["tellapart"])
    except (ValueError, TypeError, AttributeError, KeyError, MemoryError) as error:
        why = brief(error) or "it needs more memory than there is"
        raise StorageError(f"{shown} cannot be read as a model file: {why}.", GIVE) from error
    if header.get("format") != FORMAT:
        found = header.get("format")
        found = brief(repr(found)) if isinstance(found, str | int) else "of another kind"
        raise StorageError(f"{shown} has format {found}; this version reads format {FORMAT}.", "Update tellapart.")
    return header, layout


def _header(start: bytes, file: Any, shown: str) -> bytes:
    first = file.read(1)
    if start.startswith(PICKLES) and first != b"{":  # the length of a header may begin with the same two bytes
        raise StorageError(PICKLED.format(shown), "Keep its weights in a safetensors file; those cannot run code.")
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 0 < length <= LONGEST:
        raise StorageError(f"{shown} is not a model file.", GIVE)
    raw = first + file.read(length - 1)
    if len(raw) < length:
        raise ValueError("its header is cut short")
    return raw


def _json(text: str) -> dict[str, Any]:
    """An object of JSON, whose every key is there once. Raises ValueError for anything else."""
    if sum(map(text.count, "{[,")) > MOST:
        raise ValueError(f"its header has more than {MOST:,} parts")
    try:
        found = json.loads(text, object_pairs_hook=_once)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a letter is none, and cannot be printed
    except RecursionError:
        raise ValueError("its header has too many parts within parts") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header says something twice")
    return found


def _layout(tensors: Mapping[str, Any], behind: int) -> Layout:
    """Kind and shape of each tensor. Raises ValueError unless they fill the `behind` bytes without gap or overlap."""
    found, at = {}, 0
    for name, one in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape, (begin, end) = one["dtype"], one["shape"], one["data_offsets"]
        if kind not in SIZES:
            shown = {"F64": "float64", "F16": "float16", "BF16": "bfloat16"}.get(kind, kind)
            raise ValueError(f"{name} has numbers of the kind {shown}; expected float32")
        if type(shape) is not list or len(shape) > AXES or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise ValueError(f"{name} has a shape that no layer has")
        if type(begin) is not int or (begin, end) != (at, at + math.prod(shape) * SIZES[kind]):
            raise ValueError(f"the place of {name} is not where its numbers are")
        found[name], at = (kind, tuple(shape)), end
    if at != behind:
        raise ValueError(f"{behind:,} bytes of numbers are there, and {at:,} belong to it")
    return found
