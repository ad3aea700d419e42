"""Keeping: which checkpoints go to disk, and when. Between saves the best stays in memory: saving costs little."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, keep_only, save_checkpoint

EVERY_SECONDS = 60.0


class Keeper:
    """Takes what the loop offers. Writes last and best every minute, when told to stop, and at the end."""

    def __init__(self, run: Run, *, save_every: int, best: Checkpoint | None = None) -> None:
        self.run, self.save_every, self.best = run, save_every, best
        self.saved_at = time.monotonic()
        self.midway: Callable[[], Checkpoint] | None = None
        self.kept: set[str] = set(run.status().get("kept", []))

    def keep(self, kind: str, make: Callable[[], Checkpoint]) -> None:
        """One offer: "step", "best", "epoch", "last" or "final"."""
        if kind == "step":
            self.midway = make
            return
        if kind == "best":
            self.best = _frozen(make())
            return
        if kind == "epoch" and self.save_every and (kept := make()).position.epoch % self.save_every == 0:
            self.kept.add(save_checkpoint(self.run.folder / "checkpoints", kept).name)
        if kind in ("last", "final") or time.monotonic() - self.saved_at > EVERY_SECONDS:
            self._write(make())

    def _write(self, last: Checkpoint) -> None:
        names = {"last": save_checkpoint(self.run.folder / "checkpoints", last).name}
        if self.best is not None:
            names["best"] = save_checkpoint(self.run.folder / "checkpoints", self.best).name
        at = last.position
        self.run.set_status(
            checkpoints=names, kept=sorted(self.kept), step=at.step, epoch=at.epoch, best=best_words(self.best)
        )
        keep_only(self.run.folder / "checkpoints", {*names.values(), *self.kept})
        self.saved_at = time.monotonic()


def best_words(best: Checkpoint | None) -> dict[str, float] | None:
    """What status.json says of the best model."""
    if best is None:
        return None
    at = best.position
    return {"epoch": at.best_epoch, "step": at.best_step, "val_accuracy": at.best_accuracy, "val_loss": at.best_loss}


def _frozen(checkpoint: Checkpoint) -> Checkpoint:
    """A copy on the CPU that further steps do not change, without the optimiser's buffers."""
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.model.items()}
    return replace(checkpoint, model=copies, optimiser={"none": torch.zeros(0)})
