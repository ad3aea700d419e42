"""Schedules: the learning rate as a pure function of the step, so that resuming needs no state."""

import math
from collections.abc import Callable

from tellapart.recipe import Optim

Rate = Callable[[float, Optim, int], float]
"""(progress in [0, 1], settings, epoch) to a factor of the peak rate."""


def one_cycle(progress: float, optim: Optim, epoch: int) -> float:
    """Linear from 1/10 up to 1 over `warmup`, then linear down to 0 (after Smith, "Super-convergence", 2018).

    >>> [round(one_cycle(p, Optim(), 0), 2) for p in (0.0, 0.2, 0.6, 1.0)]
    [0.1, 1.0, 0.5, 0.0]
    """
    if progress < optim.warmup:
        return 0.1 + 0.9 * progress / optim.warmup
    return (1 - progress) / (1 - optim.warmup)


def linear(progress: float, optim: Optim, epoch: int) -> float:
    """From 1 down to 0."""
    return 1 - progress


def cosine(progress: float, optim: Optim, epoch: int) -> float:
    """Half a cosine from 1 down to 0 (Loshchilov and Hutter, "SGDR", 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def step(progress: float, optim: Optim, epoch: int) -> float:
    """Multiplied by `step_factor` every `step_every` epochs."""
    return optim.step_factor ** (epoch // optim.step_every)


def constant(progress: float, optim: Optim, epoch: int) -> float:
    """Always the same."""
    return 1.0


SCHEDULES: dict[str, Rate] = {
    "one-cycle": one_cycle,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "constant": constant,
}


def rate_of(optim: Optim, *, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0."""
    factor, peak = SCHEDULES[optim.schedule], optim.lr
    return lambda now: peak * factor(min(1.0, now / total_steps), optim, now // steps_per_epoch)
