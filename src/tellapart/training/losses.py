"""Losses: logits (B K) and class numbers (B), or shares of the classes (B K), to the mean over the batch."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from tellapart.errors import UsageError
from tellapart.recipe import Loss

LossFunction = Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(loss: Loss) -> LossFunction:
    """-x[class] + ln sum_j exp(x[j]); label smoothing spreads a share of the target over all classes."""
    return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=loss.label_smoothing)


LOSSES: dict[str, Callable[[Loss], LossFunction]] = {"cross-entropy": _cross_entropy}


def make_loss(loss: Loss) -> LossFunction:
    """The loss a recipe names."""
    return LOSSES[loss.name](loss)


def check_outputs(logits: Tensor, *, batch: int, num_classes: int) -> None:
    """Refuse a network whose output is not (B, K) for these classes. Raises UsageError with both shapes."""
    if tuple(logits.shape) != (batch, num_classes):
        raise UsageError(
            f"The network gives {tuple(logits.shape)} for {batch} pictures; expected ({batch}, {num_classes}): "
            f"one logit for each of the {num_classes} classes.",
            "Give its last layer as many outputs as there are classes.",
        )
