"""Putting a training together: network, loader, loss, optimiser and plan from a prepared recipe."""

import math
from dataclasses import replace

import torch
from torch import nn

from tellapart.data.augment import augmenter
from tellapart.data.index import Index
from tellapart.data.loader import Loader
from tellapart.data.per_sample import Transform, chained, per_sample
from tellapart.data.pictures import Pictures, memory_budget
from tellapart.models.build import Architecture
from tellapart.models.look import Look, look
from tellapart.models.start import freeze
from tellapart.recipe import Recipe
from tellapart.run import cores, sharing
from tellapart.training.average import Average
from tellapart.training.finder import largest_batch
from tellapart.training.fit import Plan
from tellapart.training.losses import LossFunction, check_targets, make_loss
from tellapart.training.optim import make_optimiser
from tellapart.training.precision import Precision
from tellapart.training.shards import sharded
from tellapart.training.sync_norm import synced
from tellapart.training.world import World, here
from tellapart.workflow import devices
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.models import architecture_of, network_of
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.settle import Settled, refuse_sharded, settle_batch, settle_network, settle_processes
from tellapart.workflow.settle_marks import score_of


def put_together(
    prepared: Prepared, device: torch.device, *, transform: Transform | None = None, anew: bool = True
) -> Pieces:
    """Network, loader, optimiser and plan of a prepared recipe. The network is on its device before the optimiser, and
    has its pretrained weights unless it is not to begin `anew`.
    """
    recipe, pictures = prepared.recipe, prepared.pictures
    architecture = architecture_of(recipe, len(pictures.index.classes))
    world = replace(here(), sharded=recipe.machine.parallel == "fsdp" and here().size > 1)
    model = network_of(recipe, len(pictures.index.classes), anew=anew)
    freeze(model, recipe.model.freeze)
    model = model.to("cpu" if world.sharded else device)
    seen = look(model, architecture)
    settled = _settled(prepared, model, architecture, seen, device)
    recipe = settled.recipe
    torch.set_num_threads(recipe.machine.threads)
    devices.same_every_time(recipe.machine.deterministic)
    model = _laid_out(model, recipe, world, device)
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


def _laid_out(model: nn.Module, recipe: Recipe, world: World, device: torch.device) -> nn.Module:
    """The network as it lies in memory, here and in other processes."""
    if recipe.machine.sync_norm and world.size > 1:
        model = synced(model)
    if world.sharded:  # which takes weights in their usual order only; pictures keep theirs
        return sharded(model, device)
    if recipe.machine.channels_last:
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


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
    """The loss, for classes that every training label is one of, or some of."""
    rows, total = index.rows("train"), 1.0 if index.marks is None else None
    labels = torch.from_numpy(index.targets(rows))
    check_targets(labels, num_classes=len(index.classes), key=lambda row: index.keys[int(rows[row])], total=total)
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
    ours = whole = augmenter(recipe.augment, len(loader.pictures.index.classes))
    if _mixes(recipe):
        ours = lambda batch: whole(batch).shared(*here().share)  # noqa: E731
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
        keep_norms=bool(recipe.model.keep_norms),
        unfreeze_every=recipe.optim.unfreeze_every,
        scored=score_of(recipe),
        compiled=loader.batch_size // here().size if recipe.machine.compile else 0,
    )
