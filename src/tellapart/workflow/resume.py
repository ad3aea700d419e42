"""Resume: a run that was stopped goes on from its last checkpoint, with the same batches it would have met."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tellapart.errors import StorageError, UsageError
from tellapart.memory import reuse_memory
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint, newest_first
from tellapart.workflow import devices
from tellapart.workflow.assemble import put_together
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.events import Event, Said
from tellapart.workflow.final import verdict
from tellapart.workflow.fitting import Pieces, fitted, taken_up
from tellapart.workflow.panels import with_panels
from tellapart.workflow.ranks import in_world, tell
from tellapart.workflow.same import conditions, in_words, noted_change
from tellapart.workflow.telling import told
from tellapart.workflow.train import Asking, follow, stoppable

Found = tuple[Checkpoint | None, Checkpoint | None, list[str]]


def resume(run: Run, asking: Asking) -> Iterator[Event]:
    """Continue a stopped run; the last event is the Verdict. The weights become those of a run that was never stopped,
    to the last bit, on the same device, torch build and number of threads. A test part that was to stay sealed does.

    Raises UsageError for a finished run, MismatchError when the pictures have changed.
    """
    return in_world(lambda: _begun(run, asking), partial(follow, asking), asking.asked)


def _begun(run: Run, asking: Asking) -> Iterator[Event]:
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
    yield from continued(run, recipe_of(run), asking, newest(run.folder / "checkpoints"))


def continued(
    run: Run, recipe: Recipe, asking: Asking, found: Found, *, commit: Callable[[], None] = lambda: None
) -> Iterator[Event]:
    """Go on from a checkpoint with a recipe; `commit` is called when nothing can be refused any more."""
    began, (last, best, notes) = time.monotonic(), found
    recipe = recipe.replaced({"machine.parallel": asking.parallel or recipe.machine.parallel})
    device = devices.choose(recipe.machine.device)
    reuse_memory()
    yield from (Said(stage=-1, text=note) for note in notes)
    prepared = same_pictures(run, recipe, index=asking.index, progress=stoppable(asking))
    pieces = put_together(prepared, device, transform=asking.transform, anew=last is None)
    commit()
    opens = asking.open_test and run.status().get("open_test", True)  # what it was told before holds
    run.set_status(open_test=opens)
    refuse_lost_beginning(run, last)
    pieces, start = in_cycle(run, pieces, taken_up(pieces, last))
    cut(run, start)
    yield from _conditions(run, start.step, pieces)
    yield Said(stage=7, text=f"training goes on after step {start.step:,} of {pieces.plan.max_steps:,}")
    tell(run, pieces, start, asking.asked, taken=last)
    yield from fitted(run, pieces, asking.asked, start=start, best=best, wanted=asking.save_now)
    judged = verdict(run, prepared, device, open_test=opens, began=began, asked=asking.asked)
    yield from with_panels(run, judged)


def _conditions(run: Run, step: int, pieces: Pieces) -> Iterator[Event]:
    """Whether the result will be that of a run that was never stopped, to the last bit."""
    here = pieces.device, pieces.world
    found = noted_change(run, step, *here)
    if found:
        yield Said(stage=-1, text=f"changed since the run began: {'; '.join(found)}")
        yield Said(stage=-1, text="the last bits may differ from a run never stopped; pictures and their order do not")
    else:
        yield Said(text=f"as if never stopped, to the last bit: still {in_words(conditions(*here))}, and all versions")


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


def newest(folder: Path) -> Found:
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


def cut(run: Run, at: Position) -> None:
    """Leave out the records after the checkpoint: what they tell of happens again, and curves must not overlap."""
    if (run.folder / "metrics.jsonl").is_file():
        past = {"step": lambda one: one["step"] <= at.step, "epoch": lambda one: one["epoch"] < at.epoch}
        lines = [line for line, one in run.records() if past[one["kind"]](one)]
        run.write("metrics.jsonl", "".join(f"{line}\n" for line in lines))
