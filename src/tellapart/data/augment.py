"""Whole batches on the device: moved, coloured, mixed, made network input. B pictures of H x W with C channels."""

import functools
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
    mirrored = (chance[2] >= 0.5) & flip
    return (_cut_out if images.device.type == "cpu" else _indexed)(images, offsets, mirrored)


def _cut_out(images: Tensor, offsets: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """A window of each picture with a border around it, a few pictures at a time: twice as fast as to index pixels."""
    pixels, most, side = images.numpy(), int(np.abs(offsets).max(initial=0)), images.shape[1]
    made, each = np.empty_like(pixels), max(1, AT_ONCE // (pixels[:1].size or 1))
    for start in range(0, len(pixels), each):
        some = slice(start, start + each)
        wide, corners = _bordered(pixels[some], most), (offsets[:, some] + most).tolist()
        for picture, y, x, out in zip(wide, *corners, made[some], strict=True):
            out[:] = picture[y : y + side, x : x + side]
    turned = torch.from_numpy(made[mirrored]).permute(0, 3, 1, 2).flip(3)  # torch is fast at this, in NHWC
    made[mirrored] = turned.permute(0, 2, 3, 1).numpy()
    return torch.from_numpy(made)


def _bordered(pixels: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """(B S S C) with `most` more pixels on all four sides, reflected at the border without repeating it."""
    number, side, _, channels = pixels.shape
    wide = np.empty((number, side + 2 * most, side + 2 * most, channels), np.uint8)
    middle = wide[:, most : most + side]
    middle[:, :, most : most + side] = pixels
    middle[:, :, :most] = pixels.take(np.arange(most, 0, -1), 2)
    middle[:, :, most + side :] = pixels.take(np.arange(side - 2, side - 2 - most, -1), 2)
    wide[:, :most] = middle[:, 1 : most + 1][:, ::-1]
    wide[:, most + side :] = middle[:, side - 1 - most : side - 1][:, ::-1]
    return wide


def _indexed(images: Tensor, offsets: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
    """The same by one index, for a device that does all pictures at once."""
    ys, xs = _places(offsets[0], images.shape[1]), _places(offsets[1], images.shape[2])
    xs = np.where(mirrored[:, None], xs[:, ::-1], xs)
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
    row = _row_constants(preprocess.mean, preprocess.std, images.shape[2] * images.shape[3])
    scale, offset = (torch.from_numpy(values).to(images.device, non_blocking=True) for values in row)
    scaled = images.to(torch.float32).contiguous()
    torch.addcmul(offset, scaled.flatten(2), scale, out=scaled.flatten(2))  # a second array costs more
    return scaled.permute(0, 3, 1, 2).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


@functools.lru_cache(maxsize=16)
def _row_constants(mean: tuple[float, ...], std: tuple[float, ...], length: int) -> tuple[NDArray[np.float32], ...]:
    """What a row of pixels is multiplied by, and what is added: three values at a time take four times as long."""
    scale, offset = [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]
    return np.resize(np.array(scale, np.float32), length), np.resize(np.array(offset, np.float32), length)
