"""A sheet of pictures with a caption under each, as one image."""

import math
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from tellapart.errors import StorageError
from tellapart.figures.letters import font_for, shortened, write
from tellapart.files import write_atomically

GAP = 6
PAPER, INK, UNDER = (255, 255, 255), (20, 20, 20), (236, 236, 236)
"""The sheet, the captions, and what shows where a picture does not fill its tile."""


def grid(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], *, columns: int = 0, tile: int = 96
) -> Image.Image:
    """The pictures (H, W, 1 or 3) uint8 row by row, each in a square of `tile` pixels with its caption below.

    Small pictures grow by a whole factor without smoothing, so that single pixels show; large ones shrink with
    antialiasing; neither changes its shape. A caption may have several lines; a line too wide for its tile
    loses its middle. `columns`: 0 makes the sheet about square. Returns an RGB image; saving it is the caller's
    business. Raises ValueError when there are no pictures, or not as many captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError(
            f"Expected pictures with one caption each, received {len(images)} pictures and {len(captions)}."
        )
    font = font_for("".join(captions), max(10, min(14, tile // 7)))
    lines = [[shortened(line, font, tile) for line in caption.splitlines()] for caption in captions]
    step = sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else 12
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    height = tile + 2 + step * max(len(caption) for caption in lines)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (GAP + columns * (tile + GAP), GAP + rows * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, lines, strict=True)):
        left, top = GAP + number % columns * (tile + GAP), GAP + number // columns * (height + GAP)
        sheet.paste(_tile(image, tile), (left, top))
        for row, line in enumerate(caption):
            write(draw, (left + tile / 2, top + tile + 2 + row * step), line, fill=INK, font=font, anchor="ma")
    return sheet


def _tile(image: NDArray[np.uint8], side: int) -> Image.Image:
    """One picture in the middle of a square."""
    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    longest = max(picture.size)
    if longest <= side:
        factor = side // longest
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        size = [max(1, round(length * side / longest)) for length in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), UNDER)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


OURS = b"Software\0tellapart"
"""What stands in the beginning of a PNG of ours."""


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all, that says whose it is. Raises StorageError when it cannot be written, or when a
    file that we did not draw is in its place: it may be someone's picture.
    """
    with suppress(OSError), path.open("rb") as file:
        if OURS not in file.read(200):
            raise StorageError(f"{path} exists, and tellapart did not draw it.", "Name another file to write to.")
    out, info = BytesIO(), PngInfo()
    info.add_text("Software", "tellapart")
    image.save(out, format="PNG", pnginfo=info)
    write_atomically(path, out.getvalue())
