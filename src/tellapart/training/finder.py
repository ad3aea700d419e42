"""Finding the largest batch that fits: by arithmetic on a CPU, by trying on a device that refuses politely."""

import copy

import torch
from torch import nn

LARGEST = 1024
BYTES = 6
"""Bytes a step holds for each number that a function gave: the number itself, and half of it again to spare."""


def largest_batch(
    model: nn.Module, shape: tuple[int, int, int], *, device: torch.device, activations: int, memory: int
) -> int:
    """The largest power of two whose step needs at most half of the memory that is free, from 1 to 1024.

    `shape` is that of one picture (C, H, W); `activations` how many numbers one picture becomes inside the network;
    `memory` the bytes that may be used on a CPU. On other devices steps are tried until one does not fit, and half of
    what still fitted is kept as a margin.
    """
    if device.type == "cpu":
        most = memory // max(1, BYTES * activations)
        return min(LARGEST, 1 << max(0, int(most).bit_length() - 1))
    trial, size = copy.deepcopy(model).train(), 1
    while size < LARGEST and _fits(trial, torch.zeros(2 * size, *shape, device=device)):
        size *= 2
    return max(1, size if size == LARGEST else size // 2)


def _fits(trial: nn.Module, images: torch.Tensor) -> bool:
    """Whether a forward and a backward pass go through."""
    try:
        trial(images).float().sum().backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        trial.zero_grad(set_to_none=True)
    return True
