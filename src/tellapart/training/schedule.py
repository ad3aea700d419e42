"""Schedules: the learning rate as a pure function of the step, so that resuming needs no state.

What `plateau` learns from validation is counted in the position of a training (`watch.judged`), not here.
"""

import math
from collections.abc import Callable

from tellapart.recipe import Optim

Rate = Callable[[float, Optim, int], float]
"""(progress in [0, 1] since the warm-up, settings, epoch) to a factor of the peak rate."""


def linear(progress: float, optim: Optim, epoch: int) -> float:
    """From 1 down to 0; with a warm-up this is one cycle (after Smith, "Super-convergence", 2018)."""
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
    "one-cycle": linear,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "plateau": constant,
    "constant": constant,
}


def rate_of(optim: Optim, *, total_steps: int, steps_per_epoch: int, first: int = 0) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0: linear from 1/10 up to the peak over `warmup`, then the schedule.

    In a run that was extended, warm-up and schedule lie between `first` and the end.

    >>> one_cycle = rate_of(Optim(lr=1.0, warmup=0.2), total_steps=10, steps_per_epoch=5)
    >>> [round(one_cycle(now), 2) for now in (0, 2, 6, 10)]
    [0.1, 1.0, 0.5, 0.0]
    """
    factor, peak, warmup = SCHEDULES[optim.schedule], optim.lr, optim.warmup or 0.0

    def rate(now: int) -> float:
        progress = min(1.0, max(0, now - first) / (total_steps - first))
        if progress < warmup:
            return peak * (0.1 + 0.9 * progress / warmup)
        return peak * factor((progress - warmup) / (1 - warmup), optim, now // steps_per_epoch)

    return rate
