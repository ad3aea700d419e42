"""Full-size pixels to the network's square: cut, padded or squashed, and resized, one way for everyone."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from tellapart.data.decode import STRIP, Pixels
from tellapart.preprocess import Preprocess

FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest-exact"}
"""What torch calls each filter. The first two average over all that becomes one pixel (antialias)."""


def fitted(pixels: Pixels, to: Preprocess) -> Pixels:
    """Full-size pixels (H, W, C) to the network's square (size, size, channels), by `to` and nothing else."""
    return np.ascontiguousarray(centre(stored(pixels, to), to.size))


def stored(pixels: Pixels, to: Preprocess) -> Pixels:
    """Full-size pixels (H, W, C) to the square that is kept, (side, side, channels): the network's with its margin."""
    pixels = coloured(pixels, to.channels)
    height, width = pixels.shape[:2]
    if to.fit == "pad":
        return _padded(pixels, to)
    if to.fit == "crop":
        side, top, left = crop_box(width, height)
        pixels = pixels[top : top + side, left : left + side]
    return _resized(pixels, to.side, to.side, to.filter)


def centre(squares: Pixels, size: int) -> Pixels:
    """The middle (…, size, size, C) of squares (…, S, S, C)."""
    cut = (squares.shape[-2] - size) // 2
    return squares[..., cut : cut + size, cut : cut + size, :] if cut else squares


def crop_box(width: int, height: int) -> tuple[int, int, int]:
    """Side, top and left of the centre square of a picture.

    >>> crop_box(401, 200)
    (200, 0, 100)
    """
    side = min(width, height)
    return side, (height - side) // 2, (width - side) // 2


def covered(width: int, height: int, to: Preprocess) -> tuple[float, float, float, float]:
    """Top, left, height and width of what the network's square shows of a picture, in pixels of that picture; with
    fit="pad" it begins before the picture where that is narrower.

    >>> covered(400, 200, Preprocess(size=224, channels=3, short=256))
    (12.5, 112.5, 175.0, 175.0)
    """
    if to.fit == "squash":
        return 0.0, 0.0, float(height), float(width)
    if to.fit == "pad":
        spans = []
        for length in (height, width):
            inner = max(1, round(length * to.side / max(width, height)))
            spans.append((-((to.side - inner) // 2) * length / inner, to.side * length / inner))
        (top, tall), (left, wide) = spans
        return top, left, tall, wide
    side, top, left = crop_box(width, height)
    margin = (to.side - to.size) // 2 * side / to.side
    seen = to.size * side / to.side
    return top + margin, left + margin, seen, seen


def _padded(pixels: Pixels, to: Preprocess) -> Pixels:
    height, width = pixels.shape[:2]
    scale = to.side / max(width, height)
    inner = _resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)), to.filter)
    square = np.zeros((to.side, to.side, inner.shape[2]), np.uint8)
    top, left = (to.side - inner.shape[0]) // 2, (to.side - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def _resized(pixels: Pixels, height: int, width: int, filter: str) -> Pixels:
    """Resized in fixed-point arithmetic: the same bits on every processor, within one level of Pillow."""
    if pixels.shape[:2] == (height, width):
        return pixels
    # Whole NHWC, so that the result is NHWC too: half the time. A copy of a read-only array, for torch takes no other.
    whole = np.ascontiguousarray(pixels)
    image = torch.from_numpy(whole if whole.flags.writeable else whole.copy())[None].permute(0, 3, 1, 2)
    mode = FILTERS[filter]
    made = interpolate(image, (height, width), mode=mode, antialias=filter != "nearest")
    return made[0].permute(1, 2, 0).numpy()


def coloured(pixels: Pixels, channels: int) -> Pixels:
    """The same picture with 1 or 3 channels; grey by the luma of ITU-R 601, as Pillow has it."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey, rows = np.empty((*pixels.shape[:2], 1), np.uint8), -(-STRIP // pixels.shape[1])
    for top in range(0, len(pixels), rows):  # large ones strip by strip: half the time, and never there three times
        grey[top : top + rows, :, 0] = np.asarray(Image.fromarray(pixels[top : top + rows]).convert("L"))
    return grey
