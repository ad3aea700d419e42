"""How large the pictures of a pretrained network may be, so that a time budget has room for training on them."""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tellapart.models.build import Architecture, build
from tellapart.names import BODY
from tellapart.recipe_values import seconds_of
from tellapart.workflow.devices import choose
from tellapart.workflow.settle import Settled, filled
from tellapart.workflow.settle_input import FIXED_SIZES

SIZES, EPOCHS, SHARE = (96, 128, 160, 192), 4, 0.7
"""Pixels to choose from beside the usual 224; passes that are to fit; the share of the budget that they may take.

Four passes at a larger size were better than twice as many at half of it (docs/log.md).
"""
TRIED, TIMES = 8, 3
"""Pictures of the step that is timed, and how often; the quickest counts."""


def within_reach(settled: Settled, pictures: int, sizes: NDArray[np.int64]) -> Settled:
    """Fill in the size: the largest at which so many pictures can be seen four times within the budget.

    Large pictures get no less than 160 pixels: below it, what the network learned before does not fit them.
    """
    recipe = settled.recipe
    model = recipe.model
    if not (recipe.train.budget and model.weights) or recipe.input.size or model.freeze == BODY:
        return settled
    if model.name in FIXED_SIZES:
        return settled
    room = SHARE * seconds_of(recipe.train.budget) / (EPOCHS * max(pictures, 1))
    each = _seconds_a_pixel(model.name, choose(recipe.machine.device))
    least = 160 if np.median(sizes[:, :2].min(axis=1)) >= 160 else SIZES[0]
    fits = [size for size in (*SIZES, 224) if size >= least and size * size * each <= room]
    why = f"{recipe.train.budget} has room for {EPOCHS} epochs of {pictures:,} pictures" if fits else "the least"
    return filled(settled, {"input.size": (max(fits, default=least), why)})


def _seconds_a_pixel(name: str, device: torch.device) -> float:
    """The time of a training step by the pixels of its pictures."""
    model = build(Architecture(name=name, num_classes=2, channels=3, size=SIZES[0])).to(device)
    images = torch.zeros(TRIED, 3, SIZES[0], SIZES[0], device=device).contiguous(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return min(_step(model, images) for _ in range(TIMES)) / (TRIED * SIZES[0] ** 2)


def _step(model: nn.Module, images: torch.Tensor) -> float:
    began = time.monotonic()
    model(images).square().mean().backward()
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.monotonic() - began
