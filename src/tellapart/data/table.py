"""Grey levels: posterize, solarize, autocontrast and equalize as one table a picture and channel, and one look-up."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.data.moves import SPACE, Numbers

WHITE = 255


def tabled(n: Numbers) -> NDArray[np.bool_]:
    """Which pictures (B) drew one of `MOVES`."""
    mine = [list(SPACE).index(name) for name in MOVES]
    return np.isin(n["first_move"], mine) | np.isin(n["second_move"], mine)


def looked_up(pixels: Tensor, n: Numbers) -> Tensor:
    """(B S S C) uint8 pictures by the moves of `MOVES` that they drew, the second on what the first makes.

    Whole numbers but for one quotient of two floats, so that every device and every batch gives the same.
    """
    batch, side, _, channels = pixels.shape
    first = torch.arange(batch * channels, dtype=torch.int32, device=pixels.device).reshape(batch, 1, channels) * 256
    row = first.expand(-1, side, -1).reshape(batch, 1, side * channels)
    places = pixels.flatten(2).to(torch.int32).add_(row).flatten()
    counts = torch.bincount(places, minlength=batch * channels * 256).reshape(batch, channels, 256)
    levels = torch.arange(256, device=pixels.device)
    table = levels.repeat(batch, channels, 1)
    for draw in ("first", "second"):
        now = torch.zeros_like(counts).scatter_add_(2, table, counts)
        for name, move in MOVES.items():
            chosen = np.flatnonzero(n[f"{draw}_move"] == list(SPACE).index(name))
            if chosen.size:
                rows = torch.from_numpy(chosen).to(pixels.device)
                amounts = torch.from_numpy(n[f"{draw}_amount"][chosen].astype(np.float32)).to(pixels.device)
                made = move(levels, now[rows], amounts[:, None, None]).expand(-1, channels, -1)
                table[rows] = made.gather(2, table[rows])
    return table.to(torch.uint8).flatten().index_select(0, places).reshape(pixels.shape)


def _stretched(levels: Tensor, counts: Tensor, _: Tensor) -> Tensor:
    """From the darkest level that there is at black to the brightest at white; one level alone stays."""
    low, high = (torch.where(counts > 0, levels, end) for end in (WHITE, 0))
    low, high = low.amin(2, keepdim=True), high.amax(2, keepdim=True)
    width = (high - low).to(torch.float32) * (1 / WHITE)  # in the order of torchvision, to the last bit
    return torch.where(low == high, levels, ((levels - low) / width).clamp(0, WHITE).to(torch.int64))


def _equalized(levels: Tensor, counts: Tensor, _: Tensor) -> Tensor:
    """Every level as often as every other, as far as may be; by Pillow's rule, which leaves out the brightest level."""
    brightest = torch.where(counts > 0, levels, 0).amax(2, keepdim=True)
    step = (counts.sum(2, keepdim=True) - counts.gather(2, brightest)) // WHITE
    below = counts.cumsum(2) - counts
    return torch.where(step > 0, ((below + step // 2) // step.clamp(min=1)).clamp(max=WHITE), levels)


MOVES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "posterize": lambda levels, _, amounts: levels >> amounts.round().long() << amounts.round().long(),
    "solarize": lambda levels, _, amounts: torch.where(levels >= WHITE - amounts, WHITE - levels, levels),
    "autocontrast": _stretched,
    "equalize": _equalized,
}
"""Levels (256), counts (R C 256) and amounts (R 1 1) to what becomes of each level (R C 256 or R 1 256)."""
