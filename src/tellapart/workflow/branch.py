"""Branch: a new run with other settings that starts from the weights of another, on the same pictures and split."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from tellapart.errors import UsageError, did_you_mean
from tellapart.memory import reuse_memory
from tellapart.recipe import Recipe
from tellapart.recipe_values import origins_of
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint, save_checkpoint
from tellapart.training.shards import fresh
from tellapart.workflow import devices
from tellapart.workflow.begin import pictures_of, recipe_of, with_own_files
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import Pieces, taken_up
from tellapart.workflow.ranks import in_world
from tellapart.workflow.recipes import recipe_texts
from tellapart.workflow.settle import Origins, Settled, refuse_impossible, with_digest
from tellapart.workflow.telling import told
from tellapart.workflow.train import Asking, follow, stoppable, trained

FIRST = "step-000000"
"""The checkpoint that a branch begins with. It stays, so that the run holds all that is needed to repeat it."""


def branch(parent: Run, changes: Mapping[str, Any], asking: Asking, *, start: str = "best") -> Iterator[Event]:
    """Train a new run from a checkpoint of `parent` (best, last, or its name); the last event is the Verdict.

    `changes` are settings by `section.key`, `asking.origins` says where they are from. The others are those that the
    parent began with; what it had found out from its data is found out again. Raises UsageError for a change of the
    pictures, and for weights that do not fit.
    """
    return in_world(lambda: _begun(parent, changes, asking, start), partial(follow, asking), asking.asked)


def _begun(parent: Run, changes: Mapping[str, Any], asking: Asking, start: str) -> Iterator[Event]:
    settled = _settled(parent, changes, asking.origins)
    name, found = chosen(parent, start)
    own = (parent.folder / "checkpoints" / name / "model.safetensors").read_bytes()
    lineage = {"run": parent.name, "id": parent.status().get("id"), "checkpoint": name, "step": found.position.step}
    lineage["sha256"] = hashlib.sha256(own).hexdigest()
    source = with_own_files(parent, settled.recipe).data.source
    run = Run.create(asking.runs, asking.name, about=f"{parent.name}-branch", source=source)
    begun_with = {"weights": weights} if (weights := parent.status().get("weights")) else {}
    run.set_status(state="preparing", command=asking.command, parent=lineage, **begun_with)
    return told(run, _path(run, parent, settled, found, asking))


def _settled(parent: Run, changes: Mapping[str, Any], origins: Origins) -> Settled:
    """The recipe of a branch, with what is to be found out from the data left open."""
    data = [path for path in changes if path.startswith("data.")]
    if data:
        raise UsageError(
            f"{data[0]} cannot change in a branch: it has the pictures and the split of {parent.name}.",
            "With another split it might train on what that run was tested on. `tellapart train` starts anew.",
        )
    if "model.weights" in changes:
        raise UsageError(f"A branch begins with the weights of {parent.name}.", "Leave --weights out, or `train` anew.")
    if "model.name" in changes:
        changes = {"model.sha256": "", **changes}
    begun, defaults = recipe_texts(parent)[0], Recipe().values()
    before = origins_of(begun)
    seen = ("input.", "model.small_stem")  # what the weights have seen, they go on seeing
    free = [path for path, origin in before.items() if origin.startswith("auto") and not path.startswith(seen)]
    open_again = {path: defaults[path] for path in free}
    kept = {path: f"run {parent.name}: {origin}" for path, origin in before.items() if path not in open_again}
    settled = Settled(Recipe.from_toml(begun).replaced(open_again).replaced(changes), {**kept, **origins})
    refuse_impossible(settled)
    return with_digest(settled)


def chosen(run: Run, start: str) -> tuple[str, Checkpoint]:
    """The name of a kept checkpoint, and what it holds. Raises UsageError with those that there are."""
    names = run.status().get("checkpoints", {})
    there = sorted(folder.parent.name for folder in (run.folder / "checkpoints").glob("*-*/manifest.json"))
    name = names.get(start, start)
    if name not in there:
        hint = did_you_mean(start, [*there, *names]) if there else "It was stopped before the first one; train anew."
        raise UsageError(f"The run {run.name} keeps no checkpoint '{start}'.", hint)
    return name, load_checkpoint(run.folder / "checkpoints" / name)


def _path(run: Run, parent: Run, settled: Settled, found: Checkpoint, asking: Asking) -> Iterator[Event]:
    lineage, fits = run.status()["parent"], _optimiser_fits(found, recipe_of(parent), settled.recipe)
    state = "and the state of its optimiser" if fits else "with a fresh optimiser"
    yield Said(text=f"{run.name} starts from {lineage['checkpoint']} of {parent.name}: its weights {state}")

    def first(pieces: Pieces) -> Checkpoint:
        _refuse_other_shapes(parent, found, pieces)
        optimiser = found.optimiser if fits else fresh(pieces.optimiser.state())
        average = {k: found.model.get(k, torch.tensor(0)).clone() for k in pieces.average.state()}
        own = {"optimiser": optimiser, "average": average, "scale": pieces.precision.state()}
        return Checkpoint(position=Position(), model=found.model, **own)

    yield from anew(run, parent, settled, asking, first=first)


def _optimiser_fits(found: Checkpoint, old: Recipe, new: Recipe) -> bool:
    """Whether a checkpoint has buffers of the optimiser that mean the same in the new run."""

    def about(recipe: Recipe) -> tuple[object, ...]:
        optim = recipe.optim
        divided = recipe.model.freeze, optim.rates, optim.layer_decay, optim.unfreeze_every > 0, optim.weight_decay > 0
        return recipe.optimiser, optim.momentum > 0, *divided

    return bool(found.optimiser) and about(old) == about(new)


def _refuse_other_shapes(parent: Run, found: Checkpoint, pieces: Pieces) -> None:
    """Raises UsageError naming the first weight that has no place in the network."""
    there, here = ({name: [*t.shape] for name, t in m.items()} for m in (found.model, pieces.model.state_dict()))
    for name in [*there, *here]:
        if there.get(name) != here.get(name):
            shapes = f"{name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} here"
            raise UsageError(
                f"The weights of {parent.name} do not fit this network: {shapes}.",
                "Leave the settings of the network and the channels of the input as they are.",
            )


def anew(
    run: Run, old: Run, settled: Settled, asking: Asking, *, first: Callable[[Pieces], Checkpoint] | None
) -> Iterator[Event]:
    """Train a new run on the pictures and the split of another, from a first checkpoint when there is one."""
    began, device = time.monotonic(), devices.choose(settled.recipe.machine.device)
    reuse_memory()
    prepared = pictures_of(old, settled, index=asking.index, progress=stoppable(asking))

    def before(pieces: Pieces) -> Checkpoint | None:
        if first is None:
            return None
        found = first(pieces)
        taken_up(pieces, found)
        save_checkpoint(run.folder / "checkpoints", found)
        run.set_status(checkpoints={"last": FIRST}, kept=[FIRST])
        return found

    yield from trained(run, prepared, device, asking, began=began, before=before, anew=first is None)
