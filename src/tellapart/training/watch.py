"""What the loop asks beside its steps: is the loss a number, how large is the gradient, was this epoch the best."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from tellapart.errors import DivergedError
from tellapart.training.checkpoint import Position

TOO_LARGE = 1000.0
"""A loss this many times that of guessing does not come back."""


def refuse_divergence(loss: Tensor, num_classes: int, step: int, model: nn.Module, keep: Callable[[], None]) -> None:
    """Stop before a loss that is not finite, or far beyond guessing, gets into the weights; finite ones are kept."""
    value, guessing = loss.item(), math.log(max(num_classes, 2))
    if math.isfinite(value) and value < TOO_LARGE * guessing:
        return
    if all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        keep()
    raise DivergedError(
        f"The training diverged at step {step + 1}: the loss is {value:.3g}, guessing would give {guessing:.3g}.",
        "Try a lower learning rate, such as --lr with a tenth of this one.",
    )


def gradient_norm(model: nn.Module) -> float:
    """The 2-norm of all gradients together."""
    norms = torch._foreach_norm(  # pyright: ignore[reportPrivateImportUsage]
        [p.grad for p in model.parameters() if p.grad is not None]
    )
    return float(torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms])))


def seed_dropout(device: torch.device, seed: int) -> None:
    """Make what the network draws itself in this step a function of `seed`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def judged(at: Position, *, epoch: int, step: int, loss: float, accuracy: float) -> tuple[Position, bool]:
    """The position after an epoch, and whether it is the best so far: more right, or as many right with less loss.

    A validation loss that is not finite is never the best.
    """
    better = accuracy > at.best_accuracy or (accuracy == at.best_accuracy and loss < at.best_loss)
    best = math.isfinite(loss) and better
    at = replace(
        at,
        epoch=epoch + 1,
        step=step,
        step_in_epoch=0,
        loss_total=0.0,
        seen=0,
        stale_epochs=0 if best else at.stale_epochs + 1,
    )
    if best:
        at = replace(at, best_step=step, best_epoch=epoch, best_accuracy=accuracy, best_loss=loss)
    return at, best
