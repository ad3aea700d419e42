"""Pictures with their heat maps: the heat over the picture in grey, its hottest fields outlined, and a sheet of such
rows with what is said of each.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tellapart.figures.grid import GAP, INK, PAPER, grid
from tellapart.figures.letters import Font, drawable, font_for, length, write

TILE, WORDS, LEGEND = 168, 13, 16
"""Pixels of a tile's side, of a letter's height, and of the legend's bar."""
COLOURS = np.array(
    [(0, 32, 81), (17, 54, 108), (60, 77, 110), (98, 100, 111), (127, 124, 117), (154, 148, 120), (187, 175, 113),
     (226, 203, 92), (253, 234, 69)], np.float64
)  # fmt: skip
"""From nothing to the hottest: Cividis (Nuñez et al., PLoS ONE 13, 2018), which grows lighter evenly and is
seen alike by those who tell no red from green.
"""
GREY = np.array([0.299, 0.587, 0.114])
EDGE, UNDER = (255, 255, 255), (0, 0, 0)
"""The line around the hottest fields, and what lies under it."""

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Top, left, height and width of the square that the network saw, in pixels of the picture."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the sheet: a title, tiles (H W 1 or 3) uint8 with a caption each, and sentences beneath them."""

    title: str
    tiles: Sequence[tuple[Picture, str]]
    said: Sequence[str]


def sized(pixels: Picture, side: int = TILE) -> Picture:
    """The picture (H W 1 or 3) as it is drawn, in colour: small ones grow by a whole factor, large ones shrink."""
    image = Image.fromarray(pixels[:, :, 0]).convert("RGB") if pixels.shape[2] == 1 else Image.fromarray(pixels)
    longest = max(image.size)
    size = [max(1, n * (side // longest) if longest <= side else round(n * side / longest)) for n in image.size]
    how = Image.Resampling.NEAREST if longest <= side else Image.Resampling.LANCZOS
    return np.asarray(image.resize((size[0], size[1]), how))


def over(
    pixels: Picture, heat: NDArray[np.float64], hottest: NDArray[np.bool_], box: Box, *, side: int = TILE
) -> Picture:
    """The heat (S S), from 0 to 1, over a picture (H W C) in grey, and a line around the hottest pixels (S S).

    What the network did not see of the picture is dark.
    """
    shown = sized(pixels, side)
    scale = shown.shape[0] / pixels.shape[0], shown.shape[1] / pixels.shape[1]
    rows, columns = (_at(shown.shape[n], scale[n], box[n], box[n + 2], len(heat)) for n in (0, 1))
    seen = (rows >= 0)[:, None] & (columns >= 0)[None]
    warm = np.where(seen, heat[np.ix_(rows, columns)], 0)
    grey = (shown @ GREY)[:, :, None].repeat(3, 2)
    share = 0.35 + 0.35 * warm[:, :, None]
    mixed = np.where(seen[:, :, None], (1 - share) * grey + share * coloured(warm), grey / 4)
    return _outlined(mixed.round().astype(np.uint8), seen & hottest[np.ix_(rows, columns)])


def coloured(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values from 0 to 1 as colours (… 3) from 0 to 255."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(values, at, COLOURS[:, n]) for n in range(3)], axis=-1)


def _at(length: int, scale: float, start: float, span: float, size: int) -> NDArray[np.int64]:
    """The pixel of the square at each of `length` drawn pixels, along one side; -1 beside the square."""
    places = ((np.arange(length) + 0.5) / scale - start) / span * size
    return np.where((places >= 0) & (places < size), places.clip(0, size - 1), -1).astype(np.int64)


def _outlined(shown: Picture, inside: NDArray[np.bool_]) -> Picture:
    for depth, colour in ((2, UNDER), (1, EDGE)):
        shown[inside & ~_shrunk(inside, depth)] = colour
    return shown


def _shrunk(inside: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """What is at least so many pixels from anything outside."""
    framed = np.pad(inside, depth)
    height, width = inside.shape
    moves = range(2 * depth + 1)
    return np.logical_and.reduce([framed[y : y + height, x : x + width] for y in moves for x in moves])


def heat_sheet(rows: Sequence[Row]) -> Image.Image:
    """The rows below each other, and what the colours mean beneath."""
    strips = [grid([tile for tile, _ in row.tiles], [c for _, c in row.tiles], columns=99, tile=TILE) for row in rows]
    width = max(3 * TILE, *(strip.width for strip in strips))
    blocks = [block for row, strip in zip(rows, strips, strict=True) for block in _blocks(row, strip, width)]
    blocks.append(_legend(width))
    sheet, top = Image.new("RGB", (width, sum(block.height for block in blocks)), PAPER), 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _blocks(row: Row, strip: Image.Image, width: int) -> list[Image.Image]:
    return [_text(row.title, width), strip, *(_text(one, width, below=GAP) for one in row.said)]


def _text(words: str, width: int, *, below: int = 0) -> Image.Image:
    """Words in as many lines as they need, in a font that has their letters."""
    words, step = drawable(words), WORDS + 4
    font = font_for(words, WORDS)
    lines = _wrapped(words, font, width - 2 * GAP)
    image = Image.new("RGB", (width, GAP + step * len(lines) + below), PAPER)
    for n, line in enumerate(lines):
        write(ImageDraw.Draw(image), (GAP, GAP + n * step), line, fill=INK, font=font)
    return image


def _wrapped(words: str, font: Font, room: int) -> list[str]:
    """The words in lines of at most so many pixels."""
    lines, most = [words], len(words)
    while most > 1 and any(length(line, font) > room for line in lines):
        most = most * 9 // 10
        lines = textwrap.wrap(words, most)
    return lines


def _legend(width: int) -> Image.Image:
    """The colours from nothing to the hottest, with their words."""
    image = Image.new("RGB", (width, LEGEND + 2 * GAP), PAPER)
    bar = coloured(np.tile(np.linspace(0, 1, TILE), (LEGEND, 1))).round().astype(np.uint8)
    image.paste(Image.fromarray(bar), (GAP, GAP))
    words = "from nothing to the hottest; the line: the hottest 10 % of the fields; dark: not seen"
    write(ImageDraw.Draw(image), (2 * GAP + TILE, GAP), words, fill=INK, font=font_for(words, WORDS))
    return image
