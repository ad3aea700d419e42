"""The loop. It reads like the one a person would write by hand: fetch, augment, forward, loss, backward, step; then
validate, save, and yield a record. Whoever wants to watch iterates over it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from tellapart.data.augment import Augmenter, network_input
from tellapart.data.chance import step_seed
from tellapart.data.loader import Loader
from tellapart.errors import TellapartError
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.losses import LossFunction, check_outputs
from tellapart.training.optim import Optimiser
from tellapart.training.watch import gradient_norm, judged, refuse_divergence, seed_dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step is done. Loss, rate and gradient norm are there at every `log_every`th step only."""

    step: int
    epoch: int
    pictures: int
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch is done and validated."""

    epoch: int
    epochs: int
    step: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    val_n: int
    lr: float
    seconds: float
    pictures_per_second: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how often, and how the pictures are moved."""

    epochs: int
    max_steps: int
    patience: int
    accumulate: int
    log_every: int
    seed: int
    augment: Augmenter
    channels_last: bool


Judge = Callable[[nn.Module], tuple[float, float, int]]
"""Validation: the model to (mean loss, accuracy, n)."""

Keep = Callable[[str, Callable[[], Checkpoint]], None]
"""Is offered a checkpoint as "best", "epoch", "last" or "final", and makes it when it wants it."""

Asked = Callable[[], TellapartError | None]
"""Whether someone asked to stop, and with which ending."""


def fit(
    model: nn.Module,
    train: Loader,
    *,
    loss_function: LossFunction,
    optimiser: Optimiser,
    rate: Callable[[int], float],
    judge: Judge,
    plan: Plan,
    keep: Keep,
    asked: Asked,
    start: Position,
) -> Iterator[Step | Epoch]:
    """Train until the plan is fulfilled; yields a record for each step and each epoch.

    Raises DivergedError when the loss is no longer a usable number, or the ending that `asked` returns; both after
    offering what is finite to `keep`.
    """
    at, step, device, num_classes = start, start.step, train.device, len(train.pictures.index.classes)

    epoch, total, seen = start.epoch, torch.zeros(()), 0

    def now() -> Checkpoint:
        return Checkpoint(position=at, model=model.state_dict(), optimiser=optimiser.state())

    def midway() -> Checkpoint:
        inside = {"step_in_epoch": at.step_in_epoch + step - at.step, "loss_total": total.item(), "seen": seen}
        return replace(now(), position=replace(at, epoch=epoch, step=step, **inside))

    model.train()
    for epoch in range(start.epoch, plan.epochs):
        began, total, seen = time.monotonic(), torch.tensor(at.loss_total, device=device), at.seen
        for batch in train.epoch(epoch, skip=at.step_in_epoch):
            batch = plan.augment(batch)
            seed_dropout(device, step_seed(plan.seed, step))
            optimiser.zero_grad()
            loss, whole = torch.zeros((), device=device), loss_function.weight(batch.labels)
            for part in batch.parts(plan.accumulate):
                logits = model(network_input(part.images, train.pictures.preprocess, channels_last=plan.channels_last))
                if step == start.step:
                    check_outputs(logits, batch=len(part), num_classes=num_classes)
                part_loss = loss_function(logits, part.labels) * (loss_function.weight(part.labels) / whole)
                part_loss.backward()
                loss += part_loss.detach()
            loss_function.penalise(model)
            if device.type == "cpu" or (step + 1) % plan.log_every == 0:
                refuse_divergence(loss, num_classes, step, model, lambda: keep("last", midway))
            optimiser.step(rate(step))

            total += loss * len(batch)
            seen, step = seen + len(batch), step + 1
            if step % plan.log_every:
                yield Step(step=step, epoch=epoch, pictures=len(batch))
            else:
                yield Step(
                    step=step,
                    epoch=epoch,
                    pictures=len(batch),
                    loss=loss.item(),
                    lr=rate(step - 1),
                    grad_norm=gradient_norm(model),
                )
            ending = asked()
            if ending is not None:
                keep("last", midway)
                raise ending
            if step >= plan.max_steps:
                break

        seconds = time.monotonic() - began
        val_loss, val_accuracy, val_n = judge(model)
        speed = (seen - at.seen) / max(seconds, 1e-9)
        at, best = judged(at, epoch=epoch, step=step, loss=val_loss, accuracy=val_accuracy)
        if best:
            keep("best", now)
        yield Epoch(
            epoch=epoch,
            epochs=plan.epochs,
            step=step,
            train_loss=total.item() / seen,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_n=val_n,
            lr=rate(step - 1),
            seconds=seconds,
            pictures_per_second=speed,
            best=best,
        )
        keep("epoch", now)  # after the record, so that no record is missing where a checkpoint exists
        if at.stale_epochs >= plan.patience or step >= plan.max_steps:
            break
    keep("final", now)
