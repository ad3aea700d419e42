"""Finding the largest batch that fits, and a learning rate, from how the loss moves while the rate rises."""

import copy
from dataclasses import dataclass

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


SMOOTH = 0.9
"""How much of the loss before counts in the smoothed one."""
DIVERGED = 4.0
"""A smoothed loss this many times the least so far does not come back (Smith, "Cyclical learning rates", 2017)."""


@dataclass(frozen=True, kw_only=True)
class Rise:
    """What happened while the rate rose: the rate and the loss of each step."""

    rates: list[float]
    losses: list[float]

    @property
    def smooth(self) -> list[float]:
        """The moving average of the losses, without the pull towards 0 of its beginning (as Adam corrects its own)."""
        found, total = [], 0.0
        for n, loss in enumerate(self.losses, 1):
            total = SMOOTH * total + (1 - SMOOTH) * loss
            found.append(total / (1 - SMOOTH**n))
        return found

    @property
    def best(self) -> float:
        """The rate at which the smoothed loss was least."""
        smooth = self.smooth
        return self.rates[smooth.index(min(smooth))]

    @property
    def diverged(self) -> bool:
        """Whether the smoothed loss has gone far above its least value."""
        smooth = self.smooth
        return smooth[-1] > DIVERGED * min(smooth)


def rising(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from low to high, each the same factor above the one before.

    >>> rising(0.01, 1.0, 3)
    [0.01, 0.1, 1.0]
    """
    return [low * (high / low) ** (n / (steps - 1)) for n in range(steps)]
