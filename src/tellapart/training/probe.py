"""Logistic regression on features, to its end: the head of a network whose body stays as it is, in seconds.

The penalty lambda |w|^2 / 2 is chosen by cross-validation on the training pictures; the minimum is found by L-BFGS
(Nocedal, Math. Comp. 35, 1980). Float64 throughout, so that the end does not depend on the way there.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES, UNCHOSEN = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003), 0.03
"""Tried from the strongest on, each from the minimum of the one before; taken when there are too few pictures."""
FOLDS, MOST = 5, 4000
"""Cross-validation: so many folds, of at most so many pictures."""
STEPS, MEMORY, CLOSE, ENOUGH = 300, 10, 1e-4, 1e-6
"""Most steps, pairs that are remembered, and the largest entry of the gradient in the end: of a fold, of all."""


@dataclass(frozen=True)
class Probe:
    """weight (K F) and bias (K) for features as they are; the penalty, and the share of right answers it was chosen by
    (NaN when there were too few pictures to choose).
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    accuracy: float


def probed(features: Tensor, labels: Tensor, folds: Tensor, *, classes: int) -> Probe:
    """The head for features (N F) and labels (N). `folds` (N), below FOLDS: rows that belong together share one."""
    mean, spread = features.double().mean(0), features.double().std(0, correction=0)
    scale = spread.maximum(mean.abs() / 10).clamp_min(1e-6)  # what hardly varies is not made to: dropout would hit it
    standard = (features.double() - mean) / scale
    standard, back = _turned(standard)
    penalty, accuracy = _chosen(standard, labels, folds, classes)
    at = _least(_wide(standard), _target(labels, classes), penalty, _nothing(standard, classes), ENOUGH)
    weight = (at[:, :-1] @ back) / scale
    return Probe(weight.float(), (at[:, -1] - weight @ mean).float(), penalty, accuracy)


def _turned(standard: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows in as many directions as there are rows, when these are fewer: the penalty does not see a turn."""
    rows, width = standard.shape
    if rows >= width:
        return standard, torch.eye(width, dtype=standard.dtype, device=standard.device)
    left, sizes, right = torch.linalg.svd(standard, full_matrices=False)
    return left * sizes, right


def _chosen(features: Tensor, labels: Tensor, folds: Tensor, classes: int) -> tuple[float, float]:
    """The penalty with the least cross entropy over all folds, and how many of the pictures it got right."""
    some = torch.linspace(0, len(labels) - 1, min(MOST, len(labels)), device=labels.device).long()  # of every class
    features, labels, folds = features[some], labels[some], folds[some]
    outs = [folds == fold for fold in range(FOLDS)]
    if not all(out.any() and len(labels[~out].unique()) == classes for out in outs):
        return UNCHOSEN, float("nan")
    at, found = [_nothing(features, classes) for _ in outs], []
    for penalty in PENALTIES:
        loss = right = 0.0
        for fold, out in enumerate(outs):
            at[fold] = _least(_wide(features[~out]), _target(labels[~out], classes), penalty, at[fold], CLOSE)
            logits = _wide(features[out]) @ at[fold].T
            loss += torch.nn.functional.cross_entropy(logits, labels[out], reduction="sum").item()
            right += (logits.argmax(1) == labels[out]).sum().item()
        found.append((loss, penalty, right / len(labels)))
        if loss > 1.2 * min(found)[0]:  # weaker ones would only fit the folds still closer
            break
    return min(found)[1:]


def _wide(features: Tensor) -> Tensor:
    """The features with a column of ones, for the bias."""
    return torch.cat([features, torch.ones_like(features[:, :1])], 1)


def _target(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).double()


def _nothing(features: Tensor, classes: int) -> Tensor:
    return torch.zeros(classes, features.shape[1] + 1, dtype=features.dtype, device=features.device)


def _slope(wide: Tensor, target: Tensor, penalty: float, at: Tensor) -> tuple[float, Tensor]:
    """Mean cross entropy with its penalty, and its gradient (K F+1); the bias is spared."""
    logits = wide @ at.T
    spared = at.clone()
    spared[:, -1] = 0
    logs = torch.log_softmax(logits, 1)
    value = -(logs * target).sum() / len(wide) + penalty / 2 * spared.square().sum()
    return value.item(), (logs.exp() - target).T @ wide / len(wide) + penalty * spared


def _least(wide: Tensor, target: Tensor, penalty: float, at: Tensor, enough: float) -> Tensor:
    """Where the mean cross entropy with its penalty is least, from `at` on."""
    value, slope = _slope(wide, target, penalty, at)
    steps: list[tuple[Tensor, Tensor]] = []
    for _ in range(STEPS):
        if slope.abs().max() < enough:
            break
        way, size = _direction(slope, steps), 1.0
        down = (way * slope).sum().item()
        while True:  # halved until the value falls by its share (Armijo)
            new, new_slope = _slope(wide, target, penalty, at + size * way)
            if new <= value + 1e-4 * size * down or size < 1e-10:
                break
            size /= 2
        moved, turned = size * way, new_slope - slope
        at, value, slope = at + moved, new, new_slope
        if (moved * turned).sum() > 1e-12:
            steps = [*steps, (moved, turned)][-MEMORY:]
    return at


def _direction(slope: Tensor, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The two loops of L-BFGS: minus the gradient, through the curvature of the last steps."""
    way, shares = -slope, []
    for moved, turned in reversed(steps):
        share = (moved * way).sum() / (moved * turned).sum()
        way, shares = way - share * turned, [*shares, share]
    if steps:
        moved, turned = steps[-1]
        way = way * (moved * turned).sum() / turned.square().sum()
    for (moved, turned), share in zip(steps, reversed(shares), strict=True):
        way = way + moved * (share - (turned * way).sum() / (moved * turned).sum())
    return way
