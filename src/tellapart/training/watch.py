"""What the loop asks beside its steps: is the loss a number, how large is the gradient, was this epoch the best."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from tellapart.errors import DivergedError
from tellapart.training.checkpoint import Position
from tellapart.training.losses import LossFunction
from tellapart.training.shards import whole

TOO_LARGE = 1000.0
"""A loss this many times the cross entropy of guessing does not come back, whichever loss it is."""

LOWER_RATE = "Try a lower learning rate, such as --lr with a tenth of this one."

Keeping = Callable[[], None]


def refuse_divergence(
    loss: Tensor,
    seen_bad: Tensor,
    *,
    loss_function: LossFunction,
    num_classes: int,
    step: int,
    model: nn.Module,
    keep: Keeping,
) -> None:
    """End a training whose loss or gradients are not finite, or whose loss is far beyond guessing.

    The step itself was not taken. `seen_bad`: the first step that was not finite, or -1; on a device that is not asked
    after every step it is an earlier one. What is finite is kept.
    """
    value, bad = loss.item(), int(seen_bad.item())
    if bad < 0 and value < TOO_LARGE * math.log(max(num_classes, 2)):
        return
    if is_finite(model):
        keep()
    at = bad if bad >= 0 else step
    without = loss_function.at_rest(num_classes, loss.device)
    what = f"the loss is {value:.3g}; that of a network that knows nothing is {without:.3g}"
    if math.isfinite(value) and bad >= 0:
        what = _culprit(model)
    raise DivergedError(
        f"The training diverged at step {at + 1}: {what}.",
        LOWER_RATE,
    )


def _culprit(model: nn.Module) -> str:
    """What is not finite, in words: the first running statistic, else the first weights by their gradient."""
    statistic = first_bad(dict(model.named_buffers()))
    if statistic:
        return f"{statistic} is not finite"
    gradient = first_bad({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    return f"the gradient is not finite (first in {gradient or 'a later step than the one named'})"


def is_finite(model: nn.Module) -> bool:
    """Whether every weight and every running statistic is a number."""
    return not first_bad(model.state_dict())


def first_bad(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first of these that holds a number that is not finite, or ''; shards: all must ask."""
    return next((name for name, t in tensors.items() if not bool(torch.isfinite(whole(t)).all())), "")


def seed_dropout(device: torch.device, seed: int) -> None:
    """Make what the network draws itself in this step a function of `seed`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def judged(
    at: Position, *, epoch: int, step: int, loss: float, accuracy: float, drop_after: int = 0
) -> tuple[Position, bool]:
    """The position after an epoch, and whether it is the best so far: more right, or as many right with less loss.

    A validation loss that is not finite is never the best. With `drop_after`, as many epochs without a better one, and
    one more, make the rate drop (as torch's ReduceLROnPlateau counts its patience).
    """
    better = accuracy > at.best_accuracy or (accuracy == at.best_accuracy and loss < at.best_loss)
    best = math.isfinite(loss) and better
    waited = 0 if best else at.waited + 1
    drop = bool(drop_after) and waited > drop_after
    at = replace(
        at,
        epoch=epoch + 1,
        step=step,
        step_in_epoch=0,
        loss_total=0.0,
        seen=0,
        stale_epochs=0 if best else at.stale_epochs + 1,
        waited=0 if drop else waited,
        drops=at.drops + drop,
    )
    if best:
        at = replace(at, best_step=step, best_epoch=epoch, best_accuracy=accuracy, best_loss=loss)
    return at, best
