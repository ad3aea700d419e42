"""Sheets of tiles: kernels, feature maps and histograms of weights."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.figures.curve import Axis, curve
from tellapart.figures.grid import grid

Numbers = NDArray[np.floating]
MOST, SIDE = 256, 16
"""Kernels drawn of a layer that sees colours or grey; outputs and inputs drawn of a deeper one."""
BINS = ((60, 1000), (20, 100), (10, 0))
"""Bins of a histogram, from so many numbers on."""
WIDE, BAR, BACK, ZERO = 60, (31, 87, 164), (244, 244, 244), (214, 120, 60)


class Sheet(NamedTuple):
    """Tiles with their captions, so many in a row (0: about square), each in a square of `tile` pixels; `of` how many
    there are in all.
    """

    images: list[NDArray[np.uint8]]
    captions: list[str]
    columns: int
    tile: int
    of: int

    def image(self) -> Image.Image:
        """The tiles as one picture."""
        return grid(self.images, self.captions, columns=self.columns, tile=self.tile)


def kernel_sheet(weight: Numbers) -> Sheet:
    """Kernels (O I H W): zero is the middle grey, the largest number of a kernel, of either sign, black or white.

    One tile a kernel where I is 3 (in colour) or 1; else a row for each output with a tile for each input, both
    bounded by 16. The caption says the number of the kernel and that largest number.
    """
    number, inputs = weight.shape[:2]
    if inputs in (1, 3):
        tiles = [_signed(one).transpose(1, 2, 0) for one in weight[:MOST]]
        captions = [f"{n}: ±{np.abs(one).max():.2g}" for n, one in enumerate(weight[:MOST])]
        return Sheet(tiles, captions, 0, 80, number)
    places = [(o, i) for o in range(min(number, SIDE)) for i in range(min(inputs, SIDE))]
    tiles = [_signed(weight[o])[i] for o, i in places]
    return Sheet(tiles, [f"{o},{i}" for o, i in places], min(inputs, SIDE), 40, number * inputs)


def map_sheet(values: Numbers) -> Sheet:
    """Feature maps (C H W): one grey tile a channel, its least number black and its largest white, both said below."""
    tiles, captions = [], []
    for n, one in enumerate(values):
        low, high = float(one.min()), float(one.max())
        tiles.append(np.round((one - low) / ((high - low) or 1) * 255).astype(np.uint8))
        captions.append(f"{n}\n{low:.2g} to {high:.2g}")
    return Sheet(tiles, captions, 0, min(224, max(96, *values.shape[1:])), len(tiles))


def weight_sheet(named: Mapping[str, Numbers]) -> Sheet:
    """A histogram of each tensor of weights; the orange line is zero."""
    spans = (f"{values.size:,} numbers\n{values.min():.2g} to {values.max():.2g}" for values in named.values())
    captions = [f"{name}\n{span}" for name, span in zip(named, spans, strict=True)]
    return Sheet([_bars(values.ravel()) for values in named.values()], captions, 0, 180, len(captions))


def _signed(values: Numbers) -> NDArray[np.uint8]:
    return np.round(127.5 + 127.5 * values / (np.abs(values).max() or 1)).astype(np.uint8)


def _bars(values: Numbers) -> NDArray[np.uint8]:
    """(60 60 3): a bar for each bin, as high as its share of the fullest; the fewer numbers, the fewer bins."""
    counts, edges = np.histogram(values, bins=next(bins for bins, least in BINS if values.size >= least))
    picture = np.full((WIDE, WIDE, 3), BACK, np.uint8)
    heights = np.ceil(counts / counts.max() * (WIDE - 1)).astype(int)
    for column, height in enumerate(np.repeat(heights, WIDE // len(counts))):
        picture[WIDE - height :, column] = BAR
    if edges[0] < 0 < edges[-1]:
        picture[:, int(-edges[0] / (edges[-1] - edges[0]) * WIDE)] = ZERO
    return picture


def activation_sheet(xs: Sequence[float], found: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Image.Image:
    """Functions, each with its slope as a faint line, two in a row. `found`: values and slopes at `xs`, by name."""
    across, plots = Axis("x", xs[0], xs[-1]), []
    for name, (ys, slopes) in found.items():
        up = Axis("value; faint: its slope", min(*ys, *slopes) - 0.1, max(*ys, *slopes) + 0.1)
        plots.append(curve(xs, ys, across=across, up=up, title=name, under=slopes))
    wide, high = plots[0].size
    sheet = Image.new("RGB", (2 * wide, -(-len(plots) // 2) * high), "white")
    for n, plot in enumerate(plots):
        sheet.paste(plot, (n % 2 * wide, n // 2 * high))
    return sheet
