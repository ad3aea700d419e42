"""Golden sample: a small picture that travels with a model, and what is to come out for it anywhere."""

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST, LARGEST, SIDE = 8, 4 * 1024**2, 1024
"""Samples in one file; bytes and pixels on a side of one picture."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A picture of `name` as the bytes of a PNG file; the SHA-256 of its pixels (H W C) uint8 and of the network's
    square (S S C) uint8, in hex; the probabilities (K) of the classes, calibrated; and what was said by name, "" where
    the file is older than that.
    """

    name: str
    file: bytes
    pixels: str
    square: str
    shares: tuple[float, ...]
    said: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data, the picture in base64."""
        said = {"name": self.name, "pixels": self.pixels, "square": self.square, "shares": list(self.shares)}
        said |= {"said": self.said}
        return {**said, "file": base64.b64encode(self.file).decode("ascii")}


def goldens_of(values: Any, num_classes: int) -> tuple[Golden, ...]:
    """What `to_json` gave, of each. Raises ValueError for anything else."""
    if not isinstance(values, Sequence) or len(values) > MOST:
        raise ValueError(f"more than {MOST} golden samples, or no list of them")
    return tuple(_golden(one, num_classes) for one in values)


def _golden(values: Mapping[str, Any], num_classes: int) -> Golden:
    if len(values["file"]) > LARGEST * 4 // 3:
        raise ValueError(f"a golden sample of more than {LARGEST:,} bytes")
    try:
        file = base64.b64decode(values["file"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"a golden sample that is not base64: {error}") from error
    if file[:8] != b"\x89PNG\r\n\x1a\n" or max(struct.unpack(">II", file[16:24].rjust(8, b"\xff"))) > SIDE:
        raise ValueError(f"a golden sample that is no PNG of at most {SIDE} x {SIDE} pixels")
    if not isinstance(values["shares"], list):
        raise ValueError("a golden sample without probabilities")
    shares = tuple(float(one) for one in values["shares"])
    if len(shares) != num_classes or not all(math.isfinite(one) for one in shares):
        raise ValueError(f"a golden sample with {len(shares)} probabilities for {num_classes} classes")
    words = (values.get(key) for key in ("name", "pixels", "square", "said"))
    name, pixels, square, said = (one if isinstance(one, str) else "" for one in words)
    return Golden(name=name, file=file, pixels=pixels, square=square, shares=shares, said=said)
