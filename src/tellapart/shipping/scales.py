"""A mean and deviation that would give another model's answers: fitted, where no usual one does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellapart.preprocess import Preprocess

Floats = NDArray[np.float64]
Answers = Callable[[Preprocess, int], Floats]
"""Probabilities (N K) of the first N pictures, prepared in another way."""
SHOWN, STEPS, NUDGE, DONE = 24, 8, 1e-2, 1e-3
"""Pictures that it is fitted to, as each step costs seven forwards in colour; steps; what slopes are measured over; how
far apart log-odds may be at the end."""


def other_scale(start: Preprocess, answers: Answers, theirs: Floats) -> Preprocess:
    """The preprocessing whose mean and deviation bring our answers nearest to theirs (N K), from where it starts.

    The network's input is `gain` x + `shift` of what it was, for each channel; these are found by the method of
    Levenberg (1944) and Marquardt (1963).
    """
    wanted = _values(theirs[:SHOWN])

    def off(point: Floats) -> Floats:
        return (_values(answers(_scaled(start, point), SHOWN)) - wanted).ravel()

    at = np.concatenate([np.ones(start.channels), np.zeros(start.channels)])
    left, damping = off(at), 1e-2
    for _ in range(STEPS):
        slopes = np.stack([(off(at + step) - left) / NUDGE for step in NUDGE * np.eye(len(at))], 1)
        square = slopes.T @ slopes
        move = np.linalg.lstsq(square + damping * np.diag(np.diag(square) + 1e-12), -slopes.T @ left, rcond=None)[0]
        now = off(at + move)
        better = (now @ now) < (left @ left)
        at, left, damping = (at + move, now, damping / 10) if better else (at, left, damping * 10)
        if np.abs(left).mean() < DONE:
            break
    return _scaled(start, at)


def _values(shares: Floats) -> Floats:
    """Probabilities on a scale where sure answers count too, and that is nearly linear in the logits."""
    logs = np.log(np.clip(shares, 1e-7, 1.0))
    return logs - logs.mean(1, keepdims=True)


def _scaled(to: Preprocess, point: Floats) -> Preprocess:
    """`to`, with its input `gain` times as large and moved by `shift`."""
    gain, shift = np.split(point, 2)
    mean, std = np.array(to.mean), np.array(to.std)
    gain = np.clip(gain, 1e-3, None)
    return replace(to, mean=tuple((mean - shift * std / gain).tolist()), std=tuple((std / gain).tolist()))
