"""Keeping: which checkpoints go to disk, and when. Between saves the best stays in memory: saving costs little."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from tellapart.errors import DivergedError
from tellapart.files import flush, writable
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.checkpoint import TENSORS, Checkpoint, Position, keep_only, save_checkpoint
from tellapart.training.fit import Keep
from tellapart.training.shards import gathered
from tellapart.training.watch import LOWER_RATE, first_bad
from tellapart.training.world import World
from tellapart.workflow.settle_marks import key_of, score_of

FIRST_SECONDS = 2.0
"""The first checkpoint comes early: a disk that cannot be written shows at once, and a training that is killed again
and again gets on."""
SHARE = 0.02
"""Saving takes at most this share of the time."""

Wanted = Callable[[], bool]
"""Whether someone asked for a checkpoint now."""


class Keeper:
    """Takes what the loop offers. Writes the last and the best after the first seconds, then every
    `machine.save_seconds` but never for more than SHARE of the time, when someone asks, and at the end.

    The last two, with their bests, stay; what is new is read back before anything older goes.
    """

    def __init__(
        self, run: Run, recipe: Recipe, *, start: Position, best: Checkpoint | None = None, wanted: Wanted
    ) -> None:
        self.run, self.folder, self.best, self.wanted = run, run.folder / "checkpoints", best, wanted
        self.score = key_of(score_of(recipe))
        self.save_every, self.seconds = recipe.train.save_every, recipe.machine.save_seconds
        self.due = time.monotonic() + min(FIRST_SECONDS, self.seconds)
        self.midway: Callable[[], Checkpoint] | None = None
        self.kept: set[str] = set(run.status().get("kept", []))
        self.recent: dict[str, set[str]] = {}
        if start.step:  # it and its best were verified when they were read
            self._remember(start)
        self.whole = set().union(*self.recent.values())

    def keep(self, kind: str, make: Callable[[], Checkpoint]) -> None:
        """One offer: "step", "best", "epoch", "last" or "final". Raises StorageError, and DivergedError for weights
        that are no numbers: those are never saved.
        """
        if kind == "step":
            self.midway = make
        if kind == "best":
            best = _frozen(make())
            _refuse_bad(best)
            self.best = best
            return
        asked = self.wanted()
        after_epoch = kind == "epoch" and bool(self.save_every) and self._is_kept(make().position)
        must = asked or kind in ("last", "final") or after_epoch
        if must or time.monotonic() >= self.due:
            self._write(make())
        if asked:
            self.run.append("log.txt", f"saved after step {make().position.step}, as was asked")

    def _write(self, last: Checkpoint) -> None:
        began, at = time.monotonic(), last.position
        _refuse_bad(last)
        records = self.run.folder / "metrics.jsonl"
        if records.is_file():  # no checkpoint may outlive its records
            with writable(records):
                flush(records)
        best = {} if self.best is None else {"best": self._saved(at.best_name, self.best)}
        names = {"last": self._saved(at.name, last), **best}
        self._remember(at)
        self.run.set_status(
            checkpoints=names, kept=sorted(self.kept), step=at.step, epoch=at.epoch, best=self._best_words()
        )
        keep_only(self.folder, self.kept.union(*self.recent.values()))
        ended = time.monotonic()
        self.due = ended + max(self.seconds, (ended - began) / SHARE)

    def _best_words(self) -> dict[str, float] | None:
        """What status.json says of the best model."""
        if self.best is None:
            return None
        at = self.best.position
        return {"epoch": at.best_epoch, "step": at.best_step, self.score: at.best_accuracy, "val_loss": at.best_loss}

    def _saved(self, name: str, checkpoint: Checkpoint) -> str:
        if name not in self.whole:
            save_checkpoint(self.folder, checkpoint, name)
            self.whole.add(name)
        return name

    def _remember(self, at: Position) -> None:
        """Count a checkpoint, and the best that belongs to it, among the last two; after an Nth epoch, for good."""
        if self._is_kept(at):
            self.kept.add(at.name)
        self.recent[at.name] = {at.name, at.best_name}
        self.recent = dict(list(self.recent.items())[-2:])

    def _is_kept(self, at: Position) -> bool:
        return bool(self.save_every and at.epoch and not at.step_in_epoch and at.epoch % self.save_every == 0)


def joint(world: World, keep: Keep) -> Keep:
    """`keep` for processes that hold shards: the first, which decides, calls the others to each checkpoint that it
    makes, and its checkpoints hold whole tensors. Others are offered as many and make what they are called to.
    """

    def made(make: Callable[[], Checkpoint]) -> Checkpoint:
        world.most(1.0)
        return _whole(world, make())

    def decided(kind: str, make: Callable[[], Checkpoint]) -> None:
        keep(kind, cache(partial(made, make)))
        world.most(0.0)

    def called(kind: str, make: Callable[[], Checkpoint]) -> None:
        while world.most(0.0)[0]:
            _whole(world, make())

    return keep if not world.sharded else decided if world.rank == 0 else called


def _whole(world: World, checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint without shards in the first process, without tensors in the others."""
    kinds = {kind: gathered(getattr(checkpoint, kind), wanted=world.rank == 0) for kind in TENSORS}
    return replace(checkpoint, **kinds)


def _frozen(checkpoint: Checkpoint) -> Checkpoint:
    """The weights alone, in a copy on the CPU that further steps do not change."""
    copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.model.items()}
    return Checkpoint(position=checkpoint.position, model=copies)


def _refuse_bad(checkpoint: Checkpoint) -> None:
    bad = first_bad(checkpoint.model) or first_bad(checkpoint.average)
    if bad:
        raise DivergedError(
            f"After step {checkpoint.position.step} {bad} holds numbers that are not finite; this was not saved.",
            LOWER_RATE,
        )
