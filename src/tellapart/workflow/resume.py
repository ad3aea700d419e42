"""Resume: a run that was stopped goes on from its last checkpoint, with the same batches it would have met."""

import time
from collections.abc import Iterator
from pathlib import Path

from tellapart.errors import StorageError, UsageError
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint
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
    refuse_other_transform(run, asking)
    return told(run, _path(run, asking), fresh=False)


def refuse_other_transform(run: Run, asking: Asking) -> None:
    """Raises UsageError for a transform in Python that was not there, or is no longer."""
    if run.status().get("transform", False) != (asking.transform is not None):
        raise UsageError(
            f"The run {run.name} was {'not ' * (asking.transform is not None)}trained with a transform from Python.",
            "Go on with the same one: resume(run, Asking(transform=...)).",
        )


def _path(run: Run, asking: Asking) -> Iterator[Event]:
    began = time.monotonic()
    recipe = recipe_of(run)
    device = devices.choose(recipe.machine.device)
    devices.reuse_memory()
    prepared = same_pictures(run, recipe, index=asking.index, progress=stoppable(asking))
    pieces = put_together(prepared, device, transform=asking.transform)
    last, best, notes = newest(run)
    yield from (Said(stage=-1, text=note) for note in notes)
    start = taken_up(pieces, last)
    cut(run, start.step)
    yield Said(stage=7, text=f"training goes on after step {start.step:,} of {pieces.plan.max_steps:,}")
    yield from fitted(run, pieces, asking.asked, start=start, best=best)
    yield from verdict(run, prepared, device, open_test=asking.open_test, began=began)


def newest(run: Run) -> tuple[Checkpoint | None, Checkpoint | None, list[str]]:
    """The newest whole checkpoint, the best one, and a note for each that is damaged."""
    names = run.status().get("checkpoints", {})
    notes: list[str] = []
    folders = sorted((run.folder / "checkpoints").glob("step-*"), key=lambda f: (len(f.name), f.name), reverse=True)
    found = (
        _whole(folder, notes) for folder in folders if folder.name != names.get("best") or folder.name == names["last"]
    )
    last = next((one for one in found if one is not None and "none" not in one.optimiser), None)
    best = _whole(run.folder / "checkpoints" / names["best"], notes) if "best" in names else None
    return last, best, notes


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
