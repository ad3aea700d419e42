"""The child that reads pictures: requests come in on stdin, facts go out on stdout. It may die; it costs one file.

No torch here.
"""

import contextlib
import io
import os
import signal
import struct
import sys
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.audit.facts import FACT, SIDE
from tellapart.child import bounded, read_frame, write_frame
from tellapart.data.decode import FORMATS, MAX_PIXELS, decode, foreign
from tellapart.data.identity import digest
from tellapart.errors import DataError

HELLO = b"tellapart reads"


def request(picture: str | bytes | NDArray[np.uint8]) -> tuple[bytes, ...]:
    """The pieces of the frame that asks about a path, a file's bytes, or pixels (H, W, C)."""
    if isinstance(picture, str):
        return b"p", os.fsencode(picture)
    if isinstance(picture, bytes):
        return b"b", picture
    return b"a" + struct.pack("<3i", *np.atleast_3d(picture).shape), picture.tobytes()


def asked(frame: bytes) -> bytes | NDArray[np.uint8]:
    """The bytes or the pixels that a request is about. Raises OSError when a path cannot be read."""
    if frame[:1] == b"a":
        return np.frombuffer(frame, np.uint8, offset=13).reshape(struct.unpack("<3i", frame[1:13]))
    if frame[:1] == b"b":
        return frame[1:]
    with open(os.fsdecode(frame[1:]), "rb") as file:
        return file.read()


def seen(raw: bytes | NDArray[np.uint8]) -> tuple[NDArray[np.void], str]:
    """One row of FACT, and the reason why it is no whole picture ('' when it is one)."""
    row = np.zeros((), FACT)
    row["format"], row["frames"], row["orientation"], row["bits"] = b"array", 1, 1, 8
    if isinstance(raw, bytes):
        row["format"], row["bytes"] = b"", len(raw)
        with contextlib.suppress(Exception):  # what the header cannot say, the decoder will
            _header(raw, row)
    try:
        pixels = decode(raw)
    except DataError as error:
        row["fault"], reason = _fault(raw, row, error)
        return row, reason
    _measured(pixels, row)
    return row, ""


def _header(raw: bytes, row: NDArray[np.void]) -> None:
    """What the header of a file says, before and beside its pixels."""
    image = Image.open(io.BytesIO(raw), formats=FORMATS)
    row["format"], row["mode"] = (image.format or "").encode(), image.mode.encode()
    row["width"], row["height"] = image.size
    row["alpha"] = image.has_transparency_data
    deep = image.mode.startswith("I") or (image.format == "PNG" and raw[24] == 16)
    if image.format == "TIFF":
        deep = deep or max(image.tag_v2.get(258, (8,))) == 16  # type: ignore[attr-defined]  # BitsPerSample
    row["bits"] = 16 if deep else 8
    row["frames"] = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    orientation = image.getexif().get(0x0112, 1)
    row["orientation"] = orientation if orientation in range(1, 9) else 1


def _fault(raw: bytes | NDArray[np.uint8], row: NDArray[np.void], error: DataError) -> tuple[bytes, str]:
    """The kind of a fault, and its reason in words."""
    if isinstance(error.__cause__, MemoryError):
        return b"memory", "It needs more memory to be read than a picture may take."
    if row["frames"] > 1:
        return b"animated", error.message
    if int(row["width"]) * int(row["height"]) > MAX_PIXELS or "decompression bomb" in error.message:
        return b"bomb", error.message
    if not len(raw):
        return b"empty", error.message
    fault, _ = foreign(raw) if isinstance(raw, bytes) and not row["format"] else ("", "")
    return fault.encode() or (b"broken" if row["format"] else b"unknown"), error.message


def _measured(pixels: NDArray[np.uint8], row: NDArray[np.void]) -> None:
    """Fill in what the pixels (H, W, C) say."""
    row["height"], row["width"], row["channels"] = pixels.shape
    row["digest"] = np.frombuffer(digest(pixels), np.uint8)
    levels = np.arange(256) / 255
    for channel in range(3):
        plane = pixels[:, :, min(channel, pixels.shape[2] - 1)]
        shares = np.bincount(plane.ravel(), minlength=256) / plane.size
        row["mean"][channel], row["square"][channel] = shares @ levels, shares @ levels**2
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    row["thumb"] = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB"))


def answer(frame: bytes) -> tuple[bytes, bytes]:
    """The row and the reason for one request, as bytes."""
    try:
        row, reason = seen(asked(frame))
    except OSError as error:
        row, reason = np.zeros((), FACT), f"It cannot be read: {error.strerror or error}."
        row["fault"] = b"unread"
    except MemoryError:
        row, reason = np.zeros((), FACT), "It needs more memory to be read than a picture may take."
        row["fault"] = b"memory"
    return row.tobytes(), reason.encode("utf-8", "backslashreplace")


def main(memory: int) -> None:
    """Answer until stdin is closed. What a library prints goes nowhere: stdout is for frames alone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes stdin
    warnings.simplefilter("ignore")
    bounded(memory)
    write_frame(answers, HELLO)
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        write_frame(answers, *answer(frame))


if __name__ == "__main__":
    main(int(sys.argv[1]))
