"""Whole batches on the device: shifted, mirrored, made network input. B pictures of H x W with C channels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.preprocess import Preprocess


def moved(images: Tensor, chance: NDArray[np.float32], *, shift: float, flip: bool) -> Tensor:
    """Shift (B H W C) uint8 pictures by up to `shift` of their side, and mirror half of them; edges are reflected.

    `chance` (4, B), uniform in [0, 1), decides: row 0 the vertical shift, row 1 the horizontal one, row 2 the mirror.
    """
    most = round(shift * images.shape[1])
    if not most and not flip:
        return images
    offsets = np.floor(chance[:2] * (2 * most + 1)).astype(np.int64) - most
    ys, xs = _places(offsets[0], images.shape[1]), _places(offsets[1], images.shape[2])
    if flip:
        xs = np.where(chance[2][:, None] < 0.5, xs, xs[:, ::-1])
    rows = torch.arange(len(images), device=images.device)[:, None, None]
    return images[rows, _on(ys, images)[:, :, None], _on(xs, images)[:, None, :]]


def _places(offsets: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """(B, side): the source position of each pixel, reflected at the border without repeating it."""
    places = np.abs(np.arange(side)[None, :] + offsets[:, None])
    return np.where(places >= side, 2 * (side - 1) - places, places)


def _on(places: NDArray[np.int64], images: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(places)).to(images.device, non_blocking=True)


def network_input(images: Tensor, preprocess: Preprocess, *, channels_last: bool = True) -> Tensor:
    """(B H W C) uint8 to (B C S S) float32, scaled to (x / 255 - mean) / std, in NHWC memory order if asked.

    Pictures that came with a margin (`Preprocess.short`) lose it here, after training has moved them.
    """
    cut = (preprocess.side - preprocess.size) // 2 if images.shape[1] == preprocess.side else 0
    images = images[:, cut : cut + preprocess.size, cut : cut + preprocess.size] if cut else images
    scale = torch.tensor([1 / (255 * s) for s in preprocess.std], device=images.device)
    offset = torch.tensor([-m / s for m, s in zip(preprocess.mean, preprocess.std, strict=True)], device=images.device)
    scaled = torch.addcmul(offset, images.to(torch.float32), scale).permute(0, 3, 1, 2)
    return scaled.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
