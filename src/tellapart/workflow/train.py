"""Train: the whole path, from a recipe to a verdict, as one generator of events.

for event in train(Recipe.from_values({"data.source": "digits"})):
    print(event)
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from tellapart.data.augment import augmenter
from tellapart.data.download import Progress as Fetching
from tellapart.data.index import Index
from tellapart.data.loader import Loader
from tellapart.data.per_sample import Transform, chained, per_sample
from tellapart.data.pictures import Pictures, memory_budget
from tellapart.data.progress import Progress, quiet
from tellapart.errors import UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.look import Look, look
from tellapart.recipe import Recipe
from tellapart.run import RUNS, Run, cores, sharing
from tellapart.training.average import Average
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.finder import largest_batch
from tellapart.training.fit import Asked, Plan
from tellapart.training.losses import LossFunction, check_targets, make_loss
from tellapart.training.optim import make_optimiser
from tellapart.training.precision import Precision
from tellapart.training.shards import sharded
from tellapart.training.sync_norm import synced
from tellapart.training.world import World, here
from tellapart.workflow import devices
from tellapart.workflow.begin import written
from tellapart.workflow.described import described
from tellapart.workflow.events import Event, Said
from tellapart.workflow.final import verdict
from tellapart.workflow.fitting import Pieces, fitted
from tellapart.workflow.keeping import Wanted
from tellapart.workflow.pace import within_budget
from tellapart.workflow.prepare import Prepared, prepare
from tellapart.workflow.ranks import followed, in_world, tell
from tellapart.workflow.same import conditions
from tellapart.workflow.settle import (
    Origins,
    Settled,
    refuse_impossible,
    refuse_sharded,
    refuse_two_ways,
    settle_batch,
    settle_network,
    settle_processes,
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
    run = Run.create(asking.runs, asking.name, about=f"{Path(recipe.data.source).name}-{recipe.model.name}")
    run.set_status(state="preparing", command=asking.command)
    return told(run, _path(run, settled, device, asking))


def follow(asking: Asking, world: World) -> Iterator[Event]:
    """What the other processes do of a training that the first one leads: their share; they have nothing to tell."""

    def put(prepared: Prepared) -> Pieces:
        devices.reuse_memory()
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
        for key in ("source", "root", "labels", "pattern", "columns"):
            if (value := getattr(recipe.data, key)) not in (getattr(Recipe().data, key), own):
                said = f"data.{key} = {value} says nothing beside Asking(index=…), which has its pictures and labels."
                raise UsageError(said, "Leave one of them out.")
        recipe = recipe.replaced({"data.source": own})
    refuse_impossible(Settled(recipe, asking.origins))
    if asking.transform is not None:
        refuse_two_ways(recipe, "a transform")
        recipe = recipe.replaced({"augment.preset": "none"})
    device = devices.choose(recipe.machine.device)
    devices.reuse_memory()
    return Settled(recipe, asking.origins), device


def _path(run: Run, settled: Settled, device: torch.device, asking: Asking) -> Iterator[Event]:
    """The nine stages: data, batches, network, loss, optimiser, settings, training, test, saved."""
    began = time.monotonic()
    prepared = yield from pictures_of(settled, run, asking)
    yield from trained(run, prepared, device, asking, began=began)


def trained(
    run: Run, prepared: Prepared, device: torch.device, asking: Asking, *, began: float, before: Before = lambda _: None
) -> Iterator[Event]:
    """Stages 2 to 9, from prepared pictures on. `before` may let the pieces take up a checkpoint."""
    put = partial(put_together, device=device, transform=asking.transform)
    pieces = yield from within_budget(put(prepared), put, began=began)
    taken = before(pieces)
    run.set_status(transform=asking.transform is not None, spent=time.monotonic() - began)
    written(run, pieces.prepared, command=asking.command, conditions=conditions(device, pieces.world))
    yield from described(pieces, schedule=asking.schedule)
    tell(run, pieces, Position(), asking.asked, taken=taken)
    yield from fitted(run, pieces, asking.asked, wanted=asking.save_now)
    yield from verdict(run, pieces.prepared, device, open_test=asking.open_test, began=began, asked=asking.asked)


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


def put_together(prepared: Prepared, device: torch.device, *, transform: Transform | None = None) -> Pieces:
    """Network, loader, optimiser and plan of a prepared recipe. The network is on its device before the optimiser."""
    recipe, pictures = prepared.recipe, prepared.pictures
    architecture = Architecture(
        name=recipe.model.name,
        num_classes=len(pictures.index.classes),
        channels=recipe.input.channels,
        size=recipe.input.size,
        args={"width": recipe.model.width} if recipe.model.name == "small" else {},
    )
    world = replace(here(), sharded=recipe.machine.parallel == "fsdp" and here().size > 1)
    model = build(architecture, seed=recipe.train.seed).to("cpu" if world.sharded else device)
    seen = look(model, architecture)
    settled = _settled(prepared, model, architecture, seen, device)
    recipe = settled.recipe
    torch.set_num_threads(recipe.machine.threads)
    devices.same_every_time(recipe.machine.deterministic)
    if recipe.machine.sync_norm and here().size > 1:
        model = synced(model)
    if world.sharded:  # which takes weights in their usual order only; pictures keep theirs
        model = sharded(model, device)
    elif recipe.machine.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = _loader(recipe, pictures, device)
    return Pieces(
        prepared=replace(prepared, settled=settled),
        model=model,
        architecture=architecture,
        device=device,
        train=loader,
        remarks=seen.remarks(architecture.name),
        loss=_loss(recipe, pictures.index, device),
        optimiser=make_optimiser(model, recipe.optim),
        precision=Precision(recipe.machine.precision, device),
        average=Average(model, decay=recipe.train.ema, tail=recipe.train.swa),
        plan=_plan(recipe, loader, transform),
        world=world,
    )


def _loader(recipe: Recipe, pictures: Pictures, device: torch.device) -> Loader:
    """The training part in batches."""
    return Loader(
        pictures=pictures,
        rows=pictures.index.rows("train"),
        batch_size=recipe.train.batch_size * recipe.train.accumulate,
        device=device,
        seed=recipe.train.seed,
        shuffle=recipe.train.shuffle,
        drop_last=recipe.train.drop_last,
        workers=recipe.machine.workers,
        share=(0, 1) if _mixes(recipe) else here().share,
    )


def _mixes(recipe: Recipe) -> bool:
    """Whether pictures are mixed with others of the whole batch, which all processes then need."""
    return bool({"mixup", "cutmix"} & recipe.augment.changes().keys())


def _loss(recipe: Recipe, index: Index, device: torch.device) -> LossFunction:
    """The loss, for classes that every training label is one of."""
    rows = index.rows("train")
    labels = torch.from_numpy(index.labels[rows])
    check_targets(labels, num_classes=len(index.classes), key=lambda row: index.keys[int(rows[row])])
    return make_loss(recipe.loss, index, l2=recipe.optim.weight_decay, device=device)


def _settled(
    prepared: Prepared, model: nn.Module, architecture: Architecture, seen: Look, device: torch.device
) -> Settled:
    """What only the network can tell: a batch of `auto`, the learning rate, the threads."""
    settled = prepared.settled
    refuse_sharded(settled.recipe, here().size)
    if settled.recipe.train.batch_size is None:
        shape = (architecture.channels, architecture.size, architecture.size)
        free = memory_budget() // sharing()
        largest = largest_batch(model, shape, device=device, activations=seen.activations, memory=free)
        settled = settle_batch(settled, largest=largest, num_train=prepared.counts["train"])
    each = max(1, cores() // sharing())
    settled = settle_network(settled, multiply_adds=seen.multiply_adds, normalised=seen.normalised, cores=each)
    return settle_processes(settled, here().size)


def _plan(recipe: Recipe, loader: Loader, transform: Transform | None) -> Plan:
    steps = recipe.train.epochs * len(loader)
    transform = transform or (chained(recipe.augment.steps) if recipe.augment.steps else None)
    ours = augmenter(recipe.augment, len(loader.pictures.index.classes))
    if _mixes(recipe):
        whole, share = ours, here().share
        ours = lambda batch: whole(batch).shared(*share)  # noqa: E731
    return Plan(
        epochs=recipe.train.epochs,
        max_steps=min(steps, recipe.train.max_steps or steps),
        patience=recipe.train.patience,
        clip=recipe.optim.clip,
        drop_after=recipe.optim.plateau_after if recipe.optim.schedule == "plateau" else 0,
        drop_factor=recipe.optim.step_factor,
        target=recipe.train.target or math.inf,
        target_loss=recipe.train.target_loss,
        accumulate=recipe.train.accumulate,
        log_every=recipe.train.log_every,
        seed=recipe.train.seed,
        augment=ours if transform is None else per_sample(transform),
        channels_last=recipe.machine.channels_last,
    )
