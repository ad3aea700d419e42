"""Extend: a finished run goes on for more epochs. Its recipe, figures and test predictions of before are kept."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from tellapart.errors import UsageError
from tellapart.recipe import Recipe
from tellapart.recipe_values import origins_of
from tellapart.run import Run, now
from tellapart.training.checkpoint import Position
from tellapart.workflow.begin import recipe_of
from tellapart.workflow.events import Event, Said
from tellapart.workflow.ranks import in_world
from tellapart.workflow.recipes import identity_of, recipe_text
from tellapart.workflow.resume import continued, newest, refuse_other_transform, refuse_unfinished
from tellapart.workflow.telling import told
from tellapart.workflow.train import Asking, follow

RESTING = ("one-cycle", "linear", "cosine")
"""The schedules that have come to rest at a rate of 0 when a training ends."""

ENDINGS = {"train.max_steps": None, "train.budget": "", "train.target": 0.0, "train.target_loss": 0.0}
"""What may have ended a run before its epochs were over, and would end it again at once; with the value for never."""


def extend(run: Run, epochs: int, asking: Asking, *, lr: float | None = None) -> Iterator[Event]:
    """Train a finished run until it has `epochs` in all; the last event is the Verdict.

    A schedule that had come to rest falls once more from `lr` (a tenth of the first peak when None) to 0; another goes
    on as it was. Raises UsageError for a run that is not finished, has that many epochs, or lost its checkpoint.
    """
    return in_world(
        lambda: told(run, _path(run, epochs, lr, asking), fresh=False), partial(follow, asking), asking.asked
    )


def _path(run: Run, epochs: int, lr: float | None, asking: Asking) -> Iterator[Event]:
    _refuse(run, epochs)
    refuse_other_transform(run, asking)
    recipe, origins = recipe_of(run), origins_of(recipe_text(run))
    changes = _changes(run, recipe, epochs, lr, origins)
    yield Said(text=_in_words(run, recipe, changes))
    yield from gone_on(run, recipe.replaced(changes), origins | dict.fromkeys(changes, "tellapart extend"), asking)


def _refuse(run: Run, epochs: int) -> None:
    refuse_unfinished(run)
    had = run.status()["epoch"]
    if epochs <= had:
        raise UsageError(
            f"The run {run.name} has trained {had} epochs, and --epochs {epochs} is the number in all.",
            f"Ask for more: `tellapart extend {run.called} --epochs {had + 5}`.",
        )


def _changes(run: Run, recipe: Recipe, epochs: int, lr: float | None, origins: dict[str, str]) -> dict[str, Any]:
    """The settings of the added epochs. Raises UsageError for a rate where the schedule has one of its own."""
    values, changes = recipe.values(), {"train.epochs": epochs, "optim.warmup": 0.0}
    if origins.get("train.patience", "").startswith(("auto", "tellapart extend")) and recipe.optim.schedule in RESTING:
        changes["train.patience"] = epochs
    if recipe.optim.schedule in RESTING:
        again = recipe.optim.lr if "extended" in run.status() else recipe.optim.lr / 10
        changes["optim.lr"] = again if lr is None else lr
    elif lr is not None:
        raise UsageError(
            f"The schedule {recipe.optim.schedule} goes on by itself, so --lr means nothing here.",
            f"Leave it out, or start a new run from the weights: `tellapart branch {run.called} --lr {lr:g}`.",
        )
    return changes | {path: never for path, never in ENDINGS.items() if values[path] != never}


def _in_words(run: Run, recipe: Recipe, changes: dict[str, Any]) -> str:
    """How the schedule goes on, in a sentence."""
    had, name = run.status()["epoch"], recipe.optim.schedule
    how = f"the schedule {name} goes on as it was"
    if name in RESTING:
        how = f"the schedule {name} had come to rest; the rate falls once more, from {changes['optim.lr']:g} to 0"
    ends = [path for path in ENDINGS if path in changes]
    off = f"; {' and '.join(ends)} no longer end{'s' * (len(ends) == 1)} it" if ends else ""
    return f"{run.name} is extended from {had} to {changes['train.epochs']} epochs: {how}{off}"


def gone_on(run: Run, recipe: Recipe, origins: dict[str, str], asking: Asking) -> Iterator[Event]:
    """Extend a finished run to what `recipe` says. Raises UsageError when it has no checkpoint to go on from."""
    found = newest(run.folder / "checkpoints")
    if found[0] is None:
        raise UsageError(
            f"The run {run.name} keeps no whole checkpoint with the optimiser's state, so it cannot be extended.",
            f"`tellapart branch {run.called}` starts a new run from its best weights, if those are kept.",
        )
    text, at = recipe.to_toml(origins), found[0].position
    yield from continued(run, recipe, asking, found, commit=lambda: _written(run, text, at))


def _written(run: Run, text: str, at: Position) -> None:
    """Keep what the run was, write down what it becomes. Stopped in between, it is as it was."""
    status = run.status()
    earlier = status.get("extended", [])
    run.write(f"recipe-{len(earlier) + 1}.toml", recipe_text(run))
    run.write("recipe.toml", text)
    if run.predictions("test").is_file():  # of the model as it was; those of this name are judged as the run's own
        run.predictions("test").rename(run.predictions(f"test-{len(earlier) + 1}"))
    was = {"epoch": at.epoch, "step": at.step, "time": now(), **{k: status[k] for k in ("recipe", "figures")}}
    run.set_status(state="interrupted", recipe=identity_of(text), extended=[*earlier, was], figures=[])
