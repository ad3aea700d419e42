"""Training pictures given one by one to a transform: torchvision's, named steps, or any function of a picture."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tellapart.data.augment import Augmenter
from tellapart.data.chance import Purpose, words
from tellapart.data.loader import Batch
from tellapart.data.steps import for_training, made
from tellapart.errors import UsageError

Transform = Callable[[Any], Any]
"""A picture (C S S) uint8 to one of the same shape, uint8 or float from 0 to 1."""


def chained(text: str) -> Transform:
    """The steps of a chain as one transform. Raises UsageError for a chain that cannot train."""
    steps = [made(step) for step in for_training(text)]
    return lambda picture: reduce(lambda value, step: step(value), steps, picture)


def per_sample(transform: Transform) -> Augmenter:
    """The transform over every picture of a batch. The generators of torch, random and NumPy are seeded by (seed,
    epoch, row) before each. Raises UsageError when what it gives back is no such picture.
    """

    def applied(batch: Batch) -> Batch:
        drawn = words(batch.seed, Purpose.TRANSFORM, batch.epoch, batch.rows)
        seeds = ((drawn[0] << np.uint64(31)) ^ drawn[1]).tolist()
        planes = batch.images.permute(0, 3, 1, 2).cpu().contiguous()
        pictures = [_one(transform, picture, seed) for picture, seed in zip(planes, seeds, strict=True)]
        images = torch.stack(pictures).permute(0, 2, 3, 1).contiguous()
        return replace(batch, images=images.to(batch.images.device))

    return applied


def _one(transform: Transform, picture: Tensor, seed: int) -> Tensor:
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        given = transform(picture)
    except Exception as error:
        raise UsageError(
            f"The transform of the training pictures fails: {type(error).__name__}: {str(error).rstrip('.')}.",
            f"It is called with a tensor of uint8 {tuple(picture.shape)}; a class has to be made first, with ().",
        ) from error
    if not isinstance(given, Tensor) or given.shape != picture.shape:
        what = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise UsageError(
            f"The transform of the training pictures gives {what}; expected a tensor of {tuple(picture.shape)}.",
            f"End it with a step that makes the square, such as random_crop:{picture.shape[1]}.",
        )
    if given.dtype == torch.uint8:
        return given.as_subclass(Tensor)
    if not given.is_floating_point() or not 0 <= float(given.min()) <= float(given.max()) <= 1:
        raise UsageError(
            f"The transform of the training pictures gives {given.dtype} from {given.min():g} to {given.max():g}; "
            "expected uint8, or floats from 0 to 1.",
            "Leave the normalising to input.normalize: the test must do the same.",
        )
    return (given.as_subclass(Tensor) * 255).round().to(torch.uint8)
