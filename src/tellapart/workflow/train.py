"""Train: the whole path, from a recipe to a verdict, as one generator of events.

for event in train(Recipe.from_values({"data.source": "digits"})):
    print(event)
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from tellapart.data.download import Progress as Fetching
from tellapart.data.index import Index
from tellapart.data.per_sample import Transform
from tellapart.data.progress import Progress, quiet
from tellapart.errors import UsageError
from tellapart.memory import reuse_memory
from tellapart.models.start import named_by
from tellapart.recipe import Recipe
from tellapart.run import RUNS, Run
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.fit import Asked
from tellapart.training.world import World
from tellapart.workflow import devices
from tellapart.workflow.assemble import put_together
from tellapart.workflow.begin import written
from tellapart.workflow.compiling import at_its_pace
from tellapart.workflow.described import described
from tellapart.workflow.events import Event, Said
from tellapart.workflow.final import verdict
from tellapart.workflow.fitting import Pieces, fitted
from tellapart.workflow.headed import headed
from tellapart.workflow.keeping import Wanted
from tellapart.workflow.panels import with_panels
from tellapart.workflow.prepare import Prepared, prepare
from tellapart.workflow.published import with_weights
from tellapart.workflow.ranks import followed, in_world, tell
from tellapart.workflow.same import conditions
from tellapart.workflow.settle import (
    Origins,
    Settled,
    refuse_impossible,
    refuse_two_ways,
    with_digest,
)
from tellapart.workflow.telling import told

Before = Callable[[Pieces], Checkpoint | None]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a training was asked for, beside its recipe. `origins`: where each value of the recipe is from.

    `index` stands for the recipe's source: pictures given in Python, such as `from_dataset` makes.
    `asked` is called after each step and may return the ending to stop with, `save_now` whether to save a checkpoint
    now; `progress` is told how many pictures are decoded, and of how many; `fetching` how many bytes of which file of a
    named data set have come. `transform` is applied to each training picture (C S S) uint8 in place of our own
    augmentation. `schedule` is where the learning rate of every step is drawn (.png) or listed (.csv). A run goes on
    with `parallel` instead of its own, if given.
    """

    runs: Path = RUNS
    name: str = ""
    open_test: bool = True
    command: str = ""
    origins: Origins = field(default_factory=dict)
    asked: Asked = lambda: None
    save_now: Wanted = lambda: False
    progress: Progress = quiet
    fetching: Fetching | None = None
    index: Index | None = None
    transform: Transform | None = None
    schedule: Path | None = None
    parallel: str = ""


def train(recipe: Recipe, asking: Asking = Asking()) -> Iterator[Event]:
    """Train as the recipe says, in a new run folder; the last event is the Verdict.

    The sealed test part is opened once, after every choice is made, unless `asking.open_test` is false. Raises
    TellapartError; what was reached is saved by then.
    """
    return in_world(lambda: _begun(recipe, asking), partial(follow, asking), asking.asked)


def _begun(recipe: Recipe, asking: Asking) -> Iterator[Event]:
    settled, device = accepted(recipe, asking)
    recipe = settled.recipe
    source = recipe.data.source
    run = Run.create(asking.runs, asking.name, about=f"{Path(source).name}-{recipe.model.name}", source=source)
    run.set_status(state="preparing", command=asking.command)
    return told(run, _path(run, settled, device, asking))


def follow(asking: Asking, world: World) -> Iterator[Event]:
    """What the other processes do of a training that the first one leads: their share; they have nothing to tell."""

    def put(prepared: Prepared) -> Pieces:
        reuse_memory()
        return put_together(prepared, devices.choose(prepared.recipe.machine.device), transform=asking.transform)

    find = partial(prepare, index=asking.index, progress=stoppable(asking))
    number = 0
    while followed(world, number, asking.asked, find, put):
        number += 1
    yield from ()


def accepted(recipe: Recipe, asking: Asking) -> tuple[Settled, torch.device]:
    """The recipe with what was given in Python, and its device. Raises UsageError for what cannot be honoured."""
    if asking.index is not None:
        own = f"python:{asking.index.name}"
        for key in ("source", "root", "labels", "pattern", "columns", "several"):
            if (value := getattr(recipe.data, key)) not in (getattr(Recipe().data, key), own):
                said = f"data.{key} = {value} says nothing beside Asking(index=…), which has its pictures and labels."
                raise UsageError(said, "Leave one of them out.")
        recipe = recipe.replaced({"data.source": own})
    settled = with_weights(Settled(recipe, asking.origins), asking.fetching)
    recipe, origins = settled.recipe, dict(settled.origins)
    if recipe.model.weights and recipe.model.name == Recipe().model.name and "model.name" not in origins:
        recipe = recipe.replaced({"model.name": named_by(recipe.model.weights)})
        origins["model.name"] = "told from the weights"
    refuse_impossible(Settled(recipe, origins))
    settled = with_digest(Settled(recipe, origins))
    recipe, origins = settled.recipe, dict(settled.origins)
    if asking.transform is not None:
        refuse_two_ways(recipe, "a transform")
        recipe = recipe.replaced({"augment.preset": "none"})
    device = devices.choose(recipe.machine.device)
    reuse_memory()
    return Settled(recipe, origins), device


def _path(run: Run, settled: Settled, device: torch.device, asking: Asking) -> Iterator[Event]:
    """The nine stages: data, batches, network, loss, optimiser, settings, training, test, saved."""
    began = time.monotonic()
    prepared = yield from pictures_of(settled, run, asking)
    yield from trained(run, prepared, device, asking, began=began)


def trained(
    run: Run,
    prepared: Prepared,
    device: torch.device,
    asking: Asking,
    *,
    began: float,
    before: Before = lambda _: None,
    anew: bool = True,
) -> Iterator[Event]:
    """Stages 2 to 9, from prepared pictures on. `before` may let the pieces take up a checkpoint, and must where the
    network does not begin `anew`.
    """
    put = partial(put_together, device=device, transform=asking.transform, anew=anew)
    pieces = yield from at_its_pace(put(prepared), put, began=began)
    taken = before(pieces)
    weights = sum(weight.numel() for weight in pieces.model.parameters())
    told_so = {"transform": asking.transform is not None, "open_test": asking.open_test}
    run.set_status(**told_so, parameters=weights, spent=time.monotonic() - began)
    written(run, pieces.prepared, command=asking.command, conditions=conditions(device, pieces.world))
    yield from described(pieces, schedule=asking.schedule)
    if anew and pieces.prepared.recipe.model.freeze and not pieces.prepared.recipe.model.weights:
        yield Said(stage=-1, text="what is frozen has fresh weights and learned nothing before: --weights names some")
    if pieces.prepared.recipe.model.weights and taken is None:
        taken = yield from headed(run, pieces, asking.asked)
    start = Position() if taken is None else taken.position
    tell(run, pieces, start, asking.asked, taken=taken)
    best = taken if start.best_name else None
    yield from fitted(run, pieces, asking.asked, start=start, best=best, wanted=asking.save_now)
    judged = verdict(run, pieces.prepared, device, open_test=asking.open_test, began=began, asked=asking.asked)
    yield from with_panels(run, judged)


def stoppable(asking: Asking) -> Progress:
    """Progress that also ends the decoding when someone asked to stop."""

    def tell(done: int, total: int) -> None:
        asking.progress(done, total)
        ending = asking.asked()
        if ending is not None:
            raise ending

    return tell


def pictures_of(settled: Settled, run: Run | None, asking: Asking) -> Generator[Event, None, Prepared]:
    """Stage 1: the pictures, decoded, split and sealed; every file left out is named, in its log if there is a run."""
    source = settled.recipe.data.source
    prepared = prepare(settled, index=asking.index, progress=stoppable(asking), fetching=asking.fetching)
    index, counts = prepared.pictures.index, prepared.counts
    parts = ", ".join(f"{counts[part]:,} {part}" for part in counts if counts[part])
    yield Said(stage=1, text=f"data: {source}, {len(index):,} pictures of {len(index.classes)} classes ({parts})")
    yield from (Said(text=line) for line in index.said)
    yield from (Said(stage=-1, text=note) for note in prepared.notes)
    left_out = [f"left out: {one.key}: {one.reason}" for one in index.ignored]
    yield from (Said(stage=-1, text=line) for line in (left_out[:5] if run else left_out))
    if run is None:
        return prepared
    if left_out:
        run.append("log.txt", "\n".join(left_out))
    if len(left_out) > 5:
        yield Said(stage=-1, text=f"left out: {len(left_out)} files in all; {run.folder / 'log.txt'} names them")
    return prepared
