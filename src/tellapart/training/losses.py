"""Losses: logits (B K) and targets to a mean. Targets are class numbers (B) int64, or shares of the classes (B K)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tellapart.data.index import Index
from tellapart.data.select import refuse_unknown
from tellapart.data.sources.labels import listed, pairs
from tellapart.data.sources.listing import shown
from tellapart.errors import DataError, UsageError
from tellapart.names import SMOOTHED
from tellapart.recipe import Loss, printable
from tellapart.recipe_values import Rule, checked
from tellapart.training.shards import local, summed

Losses = Callable[[Tensor, Tensor], Tensor]
"""Logits (B K) and targets to the loss of each picture (B) times the weight of its class, or at once to the mean ()."""

TINY = 1e-12


def _cross_entropy(loss: Loss, weights: Tensor | None) -> Losses:
    """-x[class] + ln sum_j exp(x[j]); label smoothing spreads a share of the target over all classes."""
    how = "mean" if weights is None else "none"  # torch's own mean has other last bits than the mean of all
    smoothing = loss.label_smoothing
    return lambda x, t: F.cross_entropy(
        x, t, weight=None if weights is None else weights.to(x.dtype), label_smoothing=smoothing, reduction=how
    )


def _elementwise(loss: Loss, weights: Tensor | None) -> Losses:
    """The mean over the classes of a loss of each output x and its target t, 1 for the class and 0 for the others.

    bce: a yes or no for each class, -t ln s(x) - (1 - t) ln(1 - s(x)) with the sigmoid s; t may name several classes.
    Of the outputs as they are, without a softmax: mse (x - t)^2; l1 |x - t|; huber (x - t)^2 / 2 up to `delta`, from
    there on delta (|x - t| - delta / 2).
    """
    of_each: dict[str, Callable[..., Tensor]] = {
        "bce": F.binary_cross_entropy_with_logits,
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "huber": partial(F.huber_loss, delta=loss.delta),
    }
    element, smoothing = of_each[loss.name], loss.label_smoothing if loss.name in SMOOTHED else 0.0
    return _weighted(lambda x, t: element(x, _shares(t, x, smoothing), reduction="none").mean(1), weights)


def _focal(loss: Loss, weights: Tensor | None) -> Losses:
    """-(1 - p)^gamma ln p, p the softmax of the true class: what is right already counts little (Lin et al., 2017)."""

    def losses(x: Tensor, t: Tensor) -> Tensor:
        log = F.log_softmax(x, 1)
        wrong = (-torch.expm1(log)).clamp_min(TINY)  # at 0 the slope of a root has no end
        return -(_shares(t, x, loss.label_smoothing) * wrong**loss.gamma * log).sum(1)

    return _weighted(losses, weights)


def _hinge(loss: Loss, weights: Tensor | None) -> Losses:
    """Sum over j != class of max(0, 1 - x[class] + x[j]), over K (Weston and Watkins, 1999; torch's multi-margin loss).

    Shares weigh the loss of each class; that takes memory for B K K numbers.
    """

    def losses(x: Tensor, t: Tensor) -> Tensor:
        if t.ndim == 1:
            return F.multi_margin_loss(x, t, reduction="none")
        margins = (1 - x[:, :, None] + x[:, None, :]).clamp_min(0).sum(2) - 1  # that of a class with itself is 1
        return (t * margins).sum(1) / x.shape[1]

    return _weighted(losses, weights)


LOSSES: dict[str, Callable[[Loss, Tensor | None], Losses]] = {
    "cross-entropy": _cross_entropy,
    **dict.fromkeys(("bce", "mse", "l1", "huber"), _elementwise),
    "focal": _focal,
    "hinge": _hinge,
}


def _shares(targets: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """(B K): targets as shares, `smoothing` of each spread over all classes."""
    classes = logits.shape[1]
    shares = (targets if targets.ndim == 2 else F.one_hot(targets, classes)).to(logits.dtype)
    return shares * (1 - smoothing) + smoothing / classes if smoothing else shares


def _weighted(losses: Losses, weights: Tensor | None) -> Losses:
    return losses if weights is None else lambda x, t: losses(x, t) * _of_class(weights, t)


def _of_class(values: Tensor, targets: Tensor) -> Tensor:
    """(B): the value (K) of each picture's class, or the mean of those it has shares of."""
    return values[targets] if targets.ndim == 1 else targets @ values.to(targets.dtype)


@dataclass(frozen=True, kw_only=True)
class LossFunction:
    """What training makes small: the mean loss of the pictures that count, and a penalty on large weights.

    kept (K): 1 for a class whose pictures count, 0 for an ignored one; counts (K): that times the weight of the class;
    None when all pictures count alike. l1, l2: factors of sum |w| and of sum w^2 / 2 over matrices and filters.
    """

    losses: Losses
    kept: Tensor | None = None
    counts: Tensor | None = None
    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean (): the sum of the weighted losses over `weight(targets)`; 0 when no picture counts.

        The parts of a batch, each times its `weight` over that of the batch, add up to the mean over the batch. Raises
        UsageError for targets of another shape or kind.
        """
        _refuse_shape(targets, *logits.shape)
        if self.kept is None:
            return self.losses(logits, targets).mean()
        weight, kept = self.weight(targets), _of_class(self.kept, targets)
        if targets.ndim == 2:  # of a mixed picture, the classes that count have all of it
            targets = targets * self.kept / kept[:, None].clamp_min(TINY)
        return (self.losses(logits, targets) * kept).sum() / weight

    def weight(self, targets: Tensor) -> Tensor | int:
        """How much these pictures count together: their number, or the sum of their weights, which is never quite 0."""
        return len(targets) if self.counts is None else _of_class(self.counts, targets).sum().clamp_min(TINY)

    def at_rest(self, num_classes: int, device: torch.device) -> float:
        """What outputs of 0 for every class cost: cross entropy ln K, bce ln 2, hinge (K - 1) / K, mse 1 / K."""
        counting = 0 if self.kept is None else int(self.kept.argmax())  # the classes that count cost alike
        return self(torch.zeros(1, num_classes, device=device), torch.tensor([counting], device=device)).item()

    @torch.no_grad()
    def penalise(self, model: nn.Module, *, scale: Tensor | float = 1.0) -> None:
        """Add l1 sign(w), the slope of l1 sum |w|, to the gradients; once a step. `scale`: what the loss is scaled by.

        The part of l2 is the optimiser's weight decay.
        """
        if self.l1:
            for weight in _penalised(model):
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                local(weight.grad).add_(local(weight).sign() * (self.l1 * scale))

    @torch.no_grad()
    def penalty(self, model: nn.Module) -> float:
        """l1 sum |w| + l2 sum w^2 / 2, for the log; all that have a shard of w must ask together."""
        weights = _penalised(model)
        each = [self.l1 * w.abs().sum() + self.l2 / 2 * w.square().sum() for w in map(local, weights)]
        return float(summed(torch.stack(each).sum(), weights[0])) if each else 0.0


def _penalised(model: nn.Module) -> list[nn.Parameter]:
    """Matrices and filters; norms and biases are spared, as they are by weight decay."""
    return [p for p in model.parameters() if p.requires_grad and p.ndim > 1]


def make_loss(
    loss: Loss, index: Index | None = None, *, l2: float = 0.0, device: torch.device | str = "cpu"
) -> LossFunction:
    """The loss a recipe names. `index`: the classes that weights and `ignore` name; l2: the weight decay.

    Raises UsageError for a class that is not there, a weight not above 0, and fewer than two classes that count.
    """
    make = LOSSES[loss.name]
    if loss.weights == "none" and not loss.ignore:
        return LossFunction(losses=make(loss, None), l1=loss.l1, l2=l2)
    if index is None:
        raise UsageError("Class weights and ignored classes need an index, which has the names of the classes.")
    refuse_unknown(index, ignored := listed(loss.ignore), "loss.ignore")
    kept = np.array([name not in ignored for name in index.classes], np.float32)
    if kept.sum() < 2:
        raise UsageError("loss.ignore leaves fewer than two classes that count.", "Telling apart needs two or more.")
    on = torch.from_numpy(kept).to(device)
    weights = torch.tensor(_weights(loss.weights, index, kept), dtype=torch.float32, device=device)
    return LossFunction(losses=make(loss, weights), kept=on, counts=on * weights, l1=loss.l1, l2=l2)


def _weights(asked: str, index: Index, kept: NDArray[np.float32]) -> Sequence[float]:
    """(K): pictures that count / (classes that count times pictures of this class), or as `a=2,b=1` says, others 1."""
    if asked == "balanced":
        pictures = index.counts("train")
        return kept @ pictures / (kept.sum() * np.maximum(pictures, 1))
    if asked != "none" and "=" not in asked:
        raise UsageError(f"loss.weights: expected none, balanced, or a=2,b=0.5. Received: {asked!r}.")
    named = {} if asked == "none" else pairs(asked, flag="loss.weights")
    refuse_unknown(index, [*named], "loss.weights")
    above_zero = Rule(kind=float, help="", above=0.0)
    given = {name: checked(f"loss.weights of {printable(name)}", text, above_zero) for name, text in named.items()}
    return [given.get(name, 1.0) for name in index.classes]


def loss_words(loss: Loss) -> str:
    """The loss and the settings that mean something for it, in one line."""
    words = [loss.name] + [f"label smoothing {loss.label_smoothing:g}"] * (loss.name in SMOOTHED)
    if loss.name in ("mse", "l1", "huber"):
        words.append("outputs against 0 and 1 (trust the accuracy, not the probabilities: their softmax is flat)")
    words += [f"delta {loss.delta:g}"] * (loss.name == "huber") + [f"gamma {loss.gamma:g}"] * (loss.name == "focal")
    words += [f"class weights {loss.weights}"] * (loss.weights != "none")
    return ", ".join(words + [f"ignoring {loss.ignore}"] * bool(loss.ignore) + [f"L1 {loss.l1:g}"] * bool(loss.l1))


def check_outputs(logits: Tensor, *, batch: int, num_classes: int) -> None:
    """Refuse a network whose output is not (B, K) for these classes. Raises UsageError with both shapes."""
    if tuple(logits.shape) != (batch, num_classes):
        raise UsageError(
            f"The network gives {tuple(logits.shape)} for {batch} pictures; expected ({batch}, {num_classes}): "
            f"one logit for each of the {num_classes} classes.",
            "Give its last layer as many outputs as there are classes.",
        )


def check_targets(
    targets: Tensor, *, num_classes: int, key: Callable[[int], str] = "row {}".format, total: float | None = 1.0
) -> None:
    """Refuse class numbers that are not below K, and shares that are not from 0 to 1 or do not add up to `total` (None:
    to anything, for `bce` with several classes). Raises DataError with the `key` of the first such picture, UsageError
    for targets of another shape or kind.
    """
    _refuse_shape(targets, len(targets), num_classes)
    if targets.ndim == 1:
        right, wants = (targets >= 0) & (targets < num_classes), f"a class number from 0 to {num_classes - 1}"
    else:
        right, wants = ((targets >= 0) & (targets <= 1)).all(1), "shares from 0 to 1"
        if total is not None:
            right, wants = right & ((targets.sum(1) - total).abs() < 1e-3), f"{wants} that add up to {total:g}"
    if not bool(right.all()):
        row = int((~right).nonzero()[0])
        raise DataError(f"The target of {printable(shown(key(row)))} is {targets[row].tolist()}; expected {wants}.")


def _refuse_shape(targets: Tensor, batch: int, num_classes: int) -> None:
    numbers = targets.shape == (batch,) and targets.dtype == torch.int64
    if not numbers and not (targets.shape == (batch, num_classes) and targets.is_floating_point()):
        kind = str(targets.dtype).removeprefix("torch.")
        raise UsageError(
            f"The targets are {tuple(targets.shape)} {kind}; expected class numbers ({batch},) int64, "
            f"or shares of the classes ({batch}, {num_classes}) as floats.",
            "One-hot whole numbers become class numbers by .argmax(1).",
        )
