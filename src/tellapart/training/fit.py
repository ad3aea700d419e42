"""The loop. It reads like the one a person would write by hand: fetch, augment, forward, loss, backward, step; then
validate, save, and yield a record. Whoever wants to watch iterates over it.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from tellapart.data.augment import Augmenter, network_input
from tellapart.data.chance import step_seed
from tellapart.data.loader import Batch, Loader
from tellapart.errors import TellapartError
from tellapart.models.start import into_training
from tellapart.training.average import Average
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.compiled import Compiled, explained
from tellapart.training.lifeline import Asked
from tellapart.training.losses import LossFunction, check_outputs
from tellapart.training.optim import Optimiser
from tellapart.training.precision import Precision
from tellapart.training.watch import judged, refuse_divergence, seed_dropout
from tellapart.training.world import ALONE, World


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
    """One epoch is done and validated. `waiting` for pictures and `augmenting` are shares of its seconds.

    `val_accuracy` is the score named by `scored`, an accuracy where each picture has one class.
    """

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
    waiting: float
    augmenting: float
    best: bool
    scored: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, how often, and how the pictures are moved.

    clip: the largest gradient norm (0: any). drop_after, drop_factor: what the rate does on a plateau. A training ends
    early when validation reaches `target` (accuracy) or the mean training loss of an epoch falls to `target_loss`, and
    after the step at which `spent` says that its time is over. compiled: pictures in the batches of one process that
    compiled code is made for (0: none). unfreeze_every: epochs after which one more block is trained. scored: what
    `judge` gives beside the loss, by which the best epoch is chosen.
    """

    epochs: int
    max_steps: int
    patience: int
    clip: float = 0.0
    drop_after: int = 0
    drop_factor: float = 1.0
    target: float = math.inf
    target_loss: float = 0.0
    spent: Callable[[], bool] = lambda: False
    accumulate: int
    log_every: int
    seed: int
    augment: Augmenter
    channels_last: bool
    compiled: int = 0
    keep_norms: bool = False
    scored: str = "accuracy"
    unfreeze_every: int = 0

    def reach(self, epoch: int) -> int:
        """Blocks before the head that are trained in this epoch."""
        return epoch // self.unfreeze_every if self.unfreeze_every else sys.maxsize


Judge = Callable[[nn.Module], tuple[float, float, int]]
"""Validation: the model to (mean loss, accuracy, n)."""

Keep = Callable[[str, Callable[[], Checkpoint]], None]
"""Is offered a checkpoint as "step", "best", "epoch", "last" or "final", and makes it when it wants it."""


def fit(
    model: nn.Module,
    train: Loader,
    *,
    loss_function: LossFunction,
    optimiser: Optimiser,
    precision: Precision,
    average: Average,
    rate: Callable[[int], float],
    judge: Judge,
    plan: Plan,
    keep: Keep,
    asked: Asked,
    start: Position,
    world: World = ALONE,
) -> Iterator[Step | Epoch]:
    """Train until the plan is fulfilled; yields a record for each step and each epoch.

    Each process of a `world` runs this loop over its share of every batch; all are at the same step, with the same
    weights. Validation and the best model have the averaged weights, where there are any. Raises DivergedError when the
    loss or a gradient is no longer a usable number, or the ending that `asked` returns, or what `judge` raises; all
    after offering what is finite to `keep`.
    """
    at, step, device, num_classes = start, start.step, train.device, len(train.pictures.index.classes)

    epoch, total, seen = start.epoch, torch.zeros(()), 0

    def now() -> Checkpoint:
        weights, buffers = model.state_dict(), optimiser.state()
        return Checkpoint(
            position=at, model=weights, optimiser=buffers, average=average.state(), scale=precision.state()
        )

    def midway() -> Checkpoint:
        inside = {"step_in_epoch": at.step_in_epoch + step - at.step, "loss_total": total.item(), "seen": seen}
        return replace(now(), position=replace(at, epoch=epoch, step=step, **inside))

    def backward(part: Batch, batch: Batch, whole: Tensor | float, *, last: bool) -> Tensor:
        pixels = network_input(part.images, train.pictures.preprocess, channels_last=plan.channels_last)
        with precision.cast(), world.meeting(network, batch, last=last):
            logits = forward(pixels)
        if step == start.step:
            check_outputs(logits, batch=len(part), num_classes=num_classes)
        share = loss_function.weight(part.labels) / whole * world.factor(batch)
        part_loss = loss_function(logits.float(), part.labels) * share
        with explained():
            precision.scaled(part_loss).backward()
        return part_loss.detach()  # all else is freed before the next step needs memory

    into_training(model, keep_norms=plan.keep_norms)
    network = world.network(model)
    forward = Compiled(network, plan.compiled // plan.accumulate) if plan.compiled else network
    for epoch in range(start.epoch, start.epoch if is_over(start, plan) else plan.epochs):
        began, total, seen = time.monotonic(), torch.tensor(at.loss_total, device=device), at.seen
        waiting = augmenting = 0.0
        optimiser.reach(plan.reach(epoch))
        lr = rate(max(step - 1, 0)) * plan.drop_factor**at.drops  # of the step before, should none be left
        for batch in islice(train.epoch(epoch, skip=at.step_in_epoch), plan.max_steps - step):
            waiting, moved = waiting + batch.waited, time.monotonic()
            batch = plan.augment(batch)
            augmenting += time.monotonic() - moved
            seed_dropout(device, step_seed(plan.seed + world.rank, step))
            optimiser.zero_grad()
            loss, whole = torch.zeros((), device=device), world.weight(loss_function.weight(batch.labels), batch)
            for part in (parts := batch.parts(plan.accumulate)):
                loss += backward(part, batch, whole, last=part is parts[-1])
            loss = world.joined(loss, model, batch)
            loss_function.penalise(model, scale=precision.scale)
            told = (step + 1) % plan.log_every == 0
            norm, bad = precision.gradients(model, loss, step, clip=plan.clip, wanted=told)
            if device.type == "cpu" or told:
                where = {"loss_function": loss_function, "num_classes": num_classes, "step": step, "model": model}
                refuse_divergence(loss, precision.seen_bad, **where, keep=lambda: keep("last", midway))
            lr = rate(step) * plan.drop_factor**at.drops
            optimiser.step(lr, skip=bad)
            average.after_step()

            total += loss * batch.counted
            seen, step = seen + batch.counted, step + 1
            record = Step(step=step, epoch=epoch, pictures=batch.counted)
            yield replace(record, loss=loss.item(), lr=lr, grad_norm=norm.item()) if told else record
            keep("step", midway)
            ending = asked()
            if ending is not None:
                keep("last", midway)
                raise ending
            if plan.spent():
                break

        seconds, unjudged, averaged = time.monotonic() - began, at, average.state()
        average.after_epoch(step / plan.max_steps)
        speed = (seen - at.seen) / max(seconds, 1e-9)
        try:
            with average.applied():
                val_loss, val_accuracy, val_n = judge(model)
                score = {"loss": val_loss, "accuracy": val_accuracy}
                at, best = judged(at, epoch=epoch, step=step, **score, drop_after=plan.drop_after)
                if best:
                    keep("best", now)
        except TellapartError:
            at = unjudged
            keep("last", lambda kept=averaged: replace(midway(), average=kept))
            raise
        at = replace(at, train_loss=total.item() / seen)
        yield Epoch(
            epoch=epoch,
            epochs=plan.epochs,
            step=step,
            train_loss=at.train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_n=val_n,
            lr=lr,
            seconds=seconds,
            pictures_per_second=speed,
            waiting=waiting / max(seconds, 1e-9),
            augmenting=augmenting / max(seconds, 1e-9),
            best=best,
            scored=plan.scored,
        )
        keep("epoch", now)  # after the record, so that no record is missing where a checkpoint exists
        if is_over(at, plan) or plan.spent():
            break
    keep("final", now)


def is_over(at: Position, plan: Plan) -> bool:
    """Whether a training that stands at the end of an epoch has come to its end."""
    reached = at.best_accuracy >= plan.target or at.train_loss <= plan.target_loss
    return not at.step_in_epoch and (at.stale_epochs >= plan.patience or at.step >= plan.max_steps or reached)
