"""The child that decodes what clients send: bytes come in on stdin, pixels go out on stdout. It may die; it costs one
picture.

A request is a frame of "=" and how many pixels it may decode, and one of a file's bytes. The answer is one frame: "+",
the height, width and channels, the width and height of the file, and the pixels; ">" for more pixels than that; or "-",
a status, a code and a reason. With "?" instead, and the first bytes of a file, it only looks: the answer is ">", or "<"
where these bytes do not say that there are more. No torch here.
"""

import io
import os
import signal
import struct
import sys
import warnings

import numpy as np
from PIL import Image

from tellapart.child import bounded, read_frame, write_frame
from tellapart.data.decode import FORMATS, MAX_PIXELS, decode, header, reduction, stored_size
from tellapart.errors import DataError
from tellapart.memory import return_memory

HELLO = b"tellapart decodes"
MOST, SIDE = 16_000_000, 16_384
"""Pixels (in a WebP half of them), and pixels along a side, that are decoded at most; a large JPEG is decoded smaller,
as everywhere.
"""
SIZE = struct.Struct("<5i")

Pieces = tuple[bytes | memoryview, ...]


def answer(raw: bytes, most: int) -> Pieces:
    """The pieces of the frame that answers for a file's bytes."""
    try:
        height, width = _promised(raw)
        if _weight(raw, height, width) > MOST or max(height, width) > SIDE:
            return _refused(413, "too_many_pixels", _too_large(width, height))
        if _weight(raw, height, width) > most:
            return (b">",)
        pixels = np.ascontiguousarray(decode(raw))
    except (DataError, MemoryError) as error:
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
            return _refused(413, "too_much_memory", "It needs more memory to be decoded than a picture may take.")
        return _refused(422, "not_a_picture", error.message)
    return b"+", SIZE.pack(*pixels.shape, *stored_size(raw, pixels)), pixels.data.cast("B")


def looked(raw: bytes, most: int) -> Pieces:
    """The answer for a file's first bytes."""
    try:
        height, width = _promised(raw)
    except Exception:  # the whole file is looked at next
        return (b"<",)
    return (b">" if _weight(raw, height, width) > most else b"<",)


def _weight(raw: bytes, height: int, width: int) -> int:
    """The pixels, each twice where it takes twice the memory to be decoded: 16 bytes in a WebP."""
    return height * width * (1 + (raw[8:12] == b"WEBP"))


def _promised(raw: bytes) -> tuple[int, int]:
    """Height and width that decoding would give, as the header has it. Raises DataError for what is no picture."""
    try:
        width, height = Image.open(io.BytesIO(raw), formats=FORMATS).size
    except Exception:  # the decoder's own look says what is wrong with it
        height, width, _ = header(raw)
    by = reduction(width, height) if raw[:2] == b"\xff\xd8" and width * height <= MAX_PIXELS else 1
    return -(-height // by), -(-width // by)


def _too_large(width: int, height: int) -> str:
    many = f"{MOST:,} pixels are decoded, {MOST // 2:,} of a WebP"
    return f"The picture is {width} x {height}; at most {many}, {SIDE:,} along a side."


def _refused(status: int, code: str, reason: str) -> Pieces:
    return b"-", f"{status} {code} {reason}".encode("utf-8", "backslashreplace")


def main(memory: int, polite: int) -> None:
    """Answer until stdin is closed. What a library prints goes nowhere: stdout is for frames alone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for one in (signal.SIGINT, signal.SIGTERM):  # they are for the parent, which then closes stdin
        signal.signal(one, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # ours is held before anything is decoded
    Image.init()
    if sys.platform != "win32":
        os.nice(polite)
    bounded(memory, written=0)
    return_memory()
    write_frame(answers, HELLO)
    while (way := read_frame(sys.stdin.buffer)) is not None and (raw := read_frame(sys.stdin.buffer)) is not None:
        does = looked if way[:1] == b"?" else answer
        write_frame(answers, *does(raw, int.from_bytes(way[1:], "little")))
        del raw  # or it is kept until the next picture is here


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
