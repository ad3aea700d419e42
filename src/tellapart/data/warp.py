"""Geometry: every move of a picture composed into one 3 x 3 matrix, and one bilinear resampling."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tellapart.data.moves import Numbers

MODES = {
    "constant": ("zeros", False),
    "edge": ("border", False),
    "reflect": ("reflection", True),
    "symmetric": ("reflection", False),
}
"""How torch's grid_sample names each padding, and whether the outermost pixel centres are its -1 and 1: mirrored there,
the edge is not repeated (reflect); mirrored half a pixel further out, it is (symmetric)."""


def matrices(n: Numbers, side: int) -> NDArray[np.float64]:
    """(B, 3, 3): where in the source each pixel of the result comes from, both counted in pixels from the centre.

    Read from right to left: tilt, shear, turn, zoom and cut, mirror, shift.
    """
    one, cos, sin = np.ones_like(n["rotate"]), np.cos(n["rotate"]), np.sin(n["rotate"])
    return (
        _stacked(n["flip"], 0 * one, n["shift_x"], 0 * one, n["flip_vertical"], n["shift_y"])
        @ _stacked(n["wide"] / n["zoom"], 0 * one, n["x_c"] * side, 0 * one, n["high"] / n["zoom"], n["y_c"] * side)
        @ _stacked(cos, -sin, 0 * one, sin, cos, 0 * one)
        @ _stacked(one, n["shear_x"], 0 * one, n["shear_y"], one, 0 * one)
        @ _stacked(one, 0 * one, 0 * one, 0 * one, one, 0 * one, n["tilt_x"], n["tilt_y"])
    )


def moving(places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pictures (B) their matrix moves."""
    return (places != np.eye(3)).any((1, 2))


def _stacked(*entries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices (B, 3, 3) from the entries of their rows; the last row is 0 0 1 as far as it is not given."""
    zero = np.zeros_like(entries[0])
    last = (*entries, *(zero, zero)[: 8 - len(entries)], zero + 1)
    return np.stack(last, axis=-1).reshape(-1, 3, 3)


def warped(images: Tensor, places: NDArray[np.float64], *, padding: str, fill: float) -> Tensor:
    """(B C S S) float pictures resampled by their matrices; beyond the edge stands what `padding` says."""
    mode, corners = MODES[padding]
    side = images.shape[3]
    m = torch.from_numpy(places.astype(np.float32)).to(images.device)[:, :, :, None, None]
    x = torch.arange(side, dtype=torch.float32, device=images.device) - (side - 1) / 2
    y, unit = x[:, None], 2 / (side - corners)
    grid = images.new_empty((len(images), side, side, 2))
    for axis in (0, 1):
        # Sums of products, not a matrix product: its last bits would depend on how many pictures there are.
        torch.add((m[:, axis, 0] * x + m[:, axis, 2]) * unit, m[:, axis, 1] * y * unit, out=grid[..., axis])
    if places[:, 2, :2].any():
        grid /= (m[:, 2, 0] * x + m[:, 2, 1] * y + 1)[..., None]
    if padding != "constant":
        return F.grid_sample(images, grid, padding_mode=mode, align_corners=corners)
    return F.grid_sample(images - fill, grid, padding_mode=mode, align_corners=corners) + fill
