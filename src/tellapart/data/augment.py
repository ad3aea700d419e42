"""Whole batches on the device: moved, coloured, mixed, made network input. B pictures of H x W with C channels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.data.colour import blurred, coloured, erased, means, noise, sharpened, tinted
from tellapart.data.loader import Batch
from tellapart.data.mix import mixed
from tellapart.data.moves import Numbers, drawn, numbers
from tellapart.data.table import looked_up, tabled
from tellapart.data.warp import matrices, moving, warped
from tellapart.preprocess import Preprocess
from tellapart.recipe_augment import Augment

Augmenter = Callable[[Batch], Batch]
"""Gives a training batch as the network shall see it."""

Change = Callable[[Tensor, NDArray[np.int64]], Tensor]
SIMPLE = {"shift", "flip"}
AT_ONCE = 2**19
"""Values changed together on a CPU: what fits into the caches of one core."""


def augmenter(asked: Augment, num_classes: int) -> Augmenter:
    """What [augment] asks for, as one function of a batch. Each picture depends on its (seed, epoch, row) alone, and
    its partner, when pictures are mixed, on the rows of the batch.
    """
    on = asked.changes()
    if not on:
        return lambda batch: batch
    if on.keys() <= SIMPLE and asked.padding == "reflect":
        shift, flip = asked.shift or 0.0, bool(asked.flip)
        return lambda batch: replace(batch, images=moved(batch.images, batch.chance, shift=shift, flip=flip))
    return lambda batch: _augmented(batch, asked, num_classes)


def _augmented(batch: Batch, asked: Augment, num_classes: int) -> Batch:
    """All that is switched on, in the order of docs/augmentation.md; mixing comes last, over the whole batch."""
    chance, on = drawn(batch), asked.changes()
    n = {**chance, **numbers(asked, chance, batch.images.shape[1])}
    moves, tints, images = moving(matrices(n, batch.images.shape[1])), tinted(n), batch.images.clone()
    others = ~moves & ~tints & bool(on.keys() & {"blur", "noise"})
    for group in (moves & tints, moves & ~tints, ~moves & tints, others):
        images = _where(group, images, lambda some, at: _resampled(some, _of(n, at), asked))
    images = _where(n["sharpness"] != 1, images, lambda some, at: sharpened(some, n["sharpness"][at]))
    images = _where(tabled(n), images, lambda some, at: looked_up(some, _of(n, at)))
    images, labels = erased(images, n, asked) if "erase" in on else images, batch.labels
    if on.keys() & {"mixup", "cutmix"}:
        images, labels = mixed(images, labels, chance, asked, num_classes)
    return replace(batch, images=images, labels=labels)


def _where(chosen: NDArray[np.bool_], images: Tensor, change: Change) -> Tensor:
    """The images (B ...), of which the chosen (B) are changed in place, some at a time, given with their rows."""
    at, each = np.flatnonzero(chosen), len(images)
    if images.device.type == "cpu":
        each = max(1, AT_ONCE // images[0].numel())
    for span in (at[start : start + each] for start in range(0, at.size, each)):
        rows = torch.from_numpy(span).to(images.device)
        made = change(images.index_select(0, rows), span)
        if images.device.type == "cpu":
            images.numpy()[span] = made.numpy()  # whole pictures: torch would go value by value, twenty times as slow
        else:
            images.index_copy_(0, rows, made)
    return images


def _of(n: Numbers, rows: NDArray[np.int64]) -> Numbers:
    return {name: numbers[rows] for name, numbers in n.items()}


def _resampled(pixels: Tensor, n: Numbers, asked: Augment) -> Tensor:
    """(B S S C) uint8 to the same: one resampling, one colour matrix, blur, noise, one rounding; all need the same."""
    on, places = asked.changes(), matrices(n, pixels.shape[1])
    images = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32)  # in one step it takes almost twice as long
    luma = means(images) if tinted(n).any() else None
    if moving(places).any():
        images = warped(images, places, padding=asked.padding, fill=asked.fill)
    if luma is not None:
        images = coloured(images, n, luma)
    if "blur" in on:
        images = blurred(images, n["blur"] * on["blur"], on["blur"])
    if "noise" in on:
        images = images + noise(images, n["noise_key"], n["noise"] * on["noise"])
    return torch.stack(images.round_().clamp_(0, 255).to(torch.uint8).unbind(1), -1)


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
    return _taken(images, ys, xs) if images.device.type == "cpu" else _indexed(images, ys, xs)


def _taken(images: Tensor, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> Tensor:
    """Rows, then columns of each picture: whole rows and whole pixels are copied, 2 to 3 times as fast as one index."""
    pixels = images.numpy()
    made = np.empty_like(pixels)
    for picture, y, x, out in zip(pixels, ys, xs, made, strict=True):
        np.take(picture.take(y, 0), x, 1, out, mode="clip")  # clip: the default would go through a second buffer
    return torch.from_numpy(made)


def _indexed(images: Tensor, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> Tensor:
    """The same by one index, for a device that does all pictures at once."""
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
    scaled = images.to(torch.float32)
    torch.addcmul(offset, scaled, scale, out=scaled)  # in place: a second array costs more than the arithmetic
    return scaled.permute(0, 3, 1, 2).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
