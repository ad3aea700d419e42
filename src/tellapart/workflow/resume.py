"""Resume: a run that was stopped goes on from its last checkpoint, with the same batches it would have met."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tellapart.errors import StorageError, UsageError
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint
from tellapart.workflow import devices
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.events import Event, Said
from tellapart.workflow.final import verdict
from tellapart.workflow.fitting import Pieces, fitted
from tellapart.workflow.same import conditions, in_words, noted_change
from tellapart.workflow.telling import told
from tellapart.workflow.train import Asking, put_together, stoppable

Found = tuple[Checkpoint | None, Checkpoint | None, list[str]]


def resume(run: Run, asking: Asking) -> Iterator[Event]:
    """Continue a stopped run; the last event is the Verdict. The weights become those of a run that was never stopped,
    to the last bit, on the same device, torch build and number of threads.

    Raises UsageError for a finished run, MismatchError when the pictures have changed.
    """
    if run.status().get("state") == "finished":
        raise UsageError(
            f"The run {run.name} is finished.",
            f"Judge it with `tellapart test {run.called}`, or add epochs with `tellapart extend {run.called}`.",
        )
    refuse_other_transform(run, asking)
    return told(run, _path(run, asking), fresh=False)


def refuse_other_transform(run: Run, asking: Asking) -> None:
    """Raises UsageError when a transform from Python is given to a run that had none, or the other way round."""
    if run.status().get("transform", False) != (asking.transform is not None):
        raise UsageError(
            f"The run {run.name} was {'not ' * (asking.transform is not None)}trained with a transform from Python.",
            "Give the same one, in Python: Asking(transform=...).",
        )


def refuse_unfinished(run: Run) -> None:
    """Raises UsageError for a run that has to be resumed first."""
    if (state := run.status().get("state")) != "finished":
        raise UsageError(f"The run {run.name} is {state}, not finished.", f"First: `tellapart resume {run.called}`.")


def _path(run: Run, asking: Asking) -> Iterator[Event]:
    yield from continued(run, recipe_of(run), asking, newest(run))


def continued(
    run: Run, recipe: Recipe, asking: Asking, found: Found, *, commit: Callable[[], None] = lambda: None
) -> Iterator[Event]:
    """Go on from a checkpoint with a recipe; `commit` is called when nothing can be refused any more."""
    began, (last, best, notes) = time.monotonic(), found
    device = devices.choose(recipe.machine.device)
    devices.reuse_memory()
    yield from (Said(stage=-1, text=note) for note in notes)
    prepared = same_pictures(run, recipe, index=asking.index, progress=stoppable(asking))
    pieces = put_together(prepared, device, transform=asking.transform)
    commit()
    refuse_lost_beginning(run, last)
    pieces, start = in_cycle(run, pieces, taken_up(pieces, last))
    cut(run, start.step)
    yield from _conditions(run, start.step, device)
    yield Said(stage=7, text=f"training goes on after step {start.step:,} of {pieces.plan.max_steps:,}")
    yield from fitted(run, pieces, asking.asked, start=start, best=best)
    yield from verdict(run, prepared, device, open_test=asking.open_test, began=began)


def _conditions(run: Run, step: int, device: torch.device) -> Iterator[Event]:
    """Whether the result will be that of a run that was never stopped, to the last bit."""
    found = noted_change(run, step, device)
    if found:
        yield Said(stage=-1, text=f"changed since the run began: {'; '.join(found)}")
        yield Said(stage=-1, text="the last bits may differ from a run never stopped; pictures and their order do not")
    else:
        yield Said(text=f"as if never stopped, to the last bit: still {in_words(conditions(device))}, and all versions")


def refuse_lost_beginning(run: Run, last: Checkpoint | None) -> None:
    """A run that began with weights of another time cannot start over without them. Raises StorageError."""
    status = run.status()
    first = status["extended"][-1]["step"] if "extended" in status else 0 if "parent" in status else -1
    if (-1 if last is None else last.position.step) < first:
        raise StorageError(
            f"The run {run.name} began this part after step {first}, and no whole checkpoint is left since then.",
            "`tellapart branch` starts a new run from any checkpoint that is whole.",
        )


def in_cycle(run: Run, pieces: Pieces, start: Position) -> tuple[Pieces, Position]:
    """The pieces of a run that was extended: its schedule begins at that step, and so do patience and SWA."""
    if "extended" not in run.status():
        return pieces, start
    at = run.status()["extended"][-1]
    steps = at["step"] + (pieces.plan.epochs - at["epoch"]) * len(pieces.train)
    if start.step == at["step"]:
        start = replace(start, stale_epochs=0)
        pieces.average.count = 0 if pieces.average.tail else pieces.average.count
    return replace(pieces, first=at["step"], plan=replace(pieces.plan, max_steps=steps)), start


def newest(run: Run) -> Found:
    """The newest whole checkpoint, the best one, and a note for each that is damaged."""
    names = run.status().get("checkpoints", {})
    notes: list[str] = []
    folders = sorted((run.folder / "checkpoints").glob("step-*"), key=lambda f: (len(f.name), f.name), reverse=True)
    found = (
        _whole(folder, notes) for folder in folders if folder.name != names.get("best") or folder.name == names["last"]
    )
    last = next((one for one in found if one is not None and "none" not in one.optimiser), None)
    best = _whole(run.folder / "checkpoints" / names["best"], notes) if "best" in names else None
    return last, best and as_judged(best), notes


def as_judged(best: Checkpoint) -> Checkpoint:
    """A best checkpoint with the weights that were judged. One that was saved to go on from has the average apart."""
    if "none" in best.optimiser or not int(best.average.get("count", torch.tensor(0))):
        return best
    return replace(best, model={name: best.average.get(name, tensor) for name, tensor in best.model.items()})


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


def cut(run: Run, step: int) -> None:
    """Leave out the records after the checkpoint: those steps are taken again, and curves must not overlap."""
    if (run.folder / "metrics.jsonl").is_file():
        lines = [line for line, record in run.records() if record["step"] <= step]
        run.write("metrics.jsonl", "".join(f"{line}\n" for line in lines))
