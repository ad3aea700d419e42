"""Resume: a run that was stopped goes on from its last checkpoint, with the same batches it would have met."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tellapart.errors import StorageError, UsageError
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint, newest_first
from tellapart.workflow import devices
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.events import Event, Said
from tellapart.workflow.final import verdict
from tellapart.workflow.fitting import Pieces, fitted
from tellapart.workflow.train import Asking, put_together, stoppable, told


def resume(run: Run, asking: Asking) -> Iterator[Event]:
    """Continue a stopped run; the last event is the Verdict. The weights become those of a run that was never stopped,
    to the last bit, on the same device, torch build and number of threads.

    Raises UsageError for a finished run, MismatchError when the pictures have changed.
    """
    if run.status().get("state") == "finished":
        raise UsageError(
            f"The run {run.name} is finished.", f"Judge it with `tellapart test {run.called}`, or train anew."
        )
    if run.status().get("transform", False) != (asking.transform is not None):
        raise UsageError(
            f"The run {run.name} was {'not ' * (asking.transform is not None)}trained with a transform from Python.",
            "Go on with the same one: resume(run, Asking(transform=...)).",
        )
    return told(run, _path(run, asking), fresh=False)


def _path(run: Run, asking: Asking) -> Iterator[Event]:
    began = time.monotonic()
    recipe = recipe_of(run)
    device = devices.choose(recipe.machine.device)
    devices.reuse_memory()
    prepared = same_pictures(run, recipe, index=asking.index, progress=stoppable(asking))
    pieces = put_together(prepared, device, transform=asking.transform)
    last, best, notes = newest(run.folder / "checkpoints")
    yield from (Said(stage=-1, text=note) for note in notes)
    start = taken_up(pieces, last)
    cut(run, start)
    yield Said(stage=7, text=f"training goes on after step {start.step:,} of {pieces.plan.max_steps:,}")
    yield from fitted(run, pieces, asking.asked, start=start, best=best, wanted=asking.save_now)
    yield from verdict(run, prepared, device, open_test=asking.open_test, began=began, asked=asking.asked)


def newest(folder: Path) -> tuple[Checkpoint | None, Checkpoint | None, list[str]]:
    """The newest whole checkpoint whose best model is whole too, that best, and a note for each that is damaged.

    Without any such pair, the newest whole one: its training then looks for a best anew.
    """
    notes: list[str] = []
    alone: Checkpoint | None = None
    for place in newest_first(folder):
        last = _whole(place, notes)
        if last is None:
            continue
        best = _whole(folder / last.position.best_name, notes) if last.position.best_name else None
        if best is not None or not last.position.best_name:
            return last, best, _told(notes, last.position.step)
        alone = alone or last
    if alone is None:
        return None, None, _told(notes, 0)
    notes.append("No whole best model is left; the best is looked for among the epochs to come.")
    fresh = {"best_step": -1, "best_epoch": -1, "best_accuracy": -1.0, "best_loss": math.inf}
    alone = replace(alone, position=replace(alone.position, **fresh))
    return alone, None, _told(notes, alone.position.step)


def _told(notes: list[str], step: int) -> list[str]:
    """The notes, each once, with what is done about them."""
    back = f"Going back to the checkpoint of step {step:,}." if step else "The training starts over."
    return [*dict.fromkeys(notes), back] if notes else []


def _whole(folder: Path, notes: list[str]) -> Checkpoint | None:
    try:
        return load_checkpoint(folder)
    except StorageError as error:
        notes.append(error.message)
        return None


def taken_up(pieces: Pieces, last: Checkpoint | None) -> Position:
    """Put a checkpoint into model and optimiser; without one the run starts over."""
    if last is None:
        return Position()
    pieces.model.load_state_dict(dict(last.model))
    pieces.optimiser.load(dict(last.optimiser))
    pieces.average.load(dict(last.average))
    pieces.precision.load(dict(last.scale))
    return last.position


def cut(run: Run, at: Position) -> None:
    """Leave out the records after the checkpoint: what they tell of happens again, and curves must not overlap."""
    if (run.folder / "metrics.jsonl").is_file():
        past = {"step": lambda one: one["step"] <= at.step, "epoch": lambda one: one["epoch"] < at.epoch}
        lines = [line for line, one in run.records() if past[one["kind"]](one)]
        run.write("metrics.jsonl", "".join(f"{line}\n" for line in lines))
