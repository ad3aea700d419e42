"""Train: the whole path, from a recipe to a verdict, as one generator of events.

for event in train(Recipe.from_values({"data.source": "digits"})):
    print(event)
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tellapart.data.loader import Loader
from tellapart.errors import TellapartError
from tellapart.evaluation.metrics import judge as judged
from tellapart.evaluation.predict import predict_part
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle, save_bundle
from tellapart.models.look import look
from tellapart.recipe import Recipe
from tellapart.run import RUNS, Run
from tellapart.training.checkpoint import Position
from tellapart.training.fit import Epoch, Plan, Step, fit
from tellapart.training.losses import make_loss
from tellapart.training.optim import Optimiser, make_optimiser
from tellapart.training.schedule import rate_of
from tellapart.workflow import devices
from tellapart.workflow.begin import origin_of, written
from tellapart.workflow.board import Boarded
from tellapart.workflow.events import Begun, Event, Said, Working
from tellapart.workflow.final import verdict
from tellapart.workflow.keeping import Keeper
from tellapart.workflow.prepare import Prepared, prepare
from tellapart.workflow.settle import Origins, Settled, check_names, settle_network

Asked = Callable[[], TellapartError | None]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The pieces of one training, put together and ready to run."""

    prepared: Prepared
    model: nn.Module
    architecture: Architecture
    device: torch.device
    train: Loader
    optimiser: Optimiser
    plan: Plan
    remarks: list[str]


def train(
    recipe: Recipe,
    *,
    runs: Path = RUNS,
    name: str = "",
    open_test: bool = True,
    origins: Origins | None = None,
    command: str = "",
    asked: Asked = lambda: None,
) -> Iterator[Event]:
    """Train as the recipe says, in a new run folder; the last event is the Verdict.

    The sealed test part is opened once, after every choice is made, unless `open_test` is false. `asked` is called
    after each step and may return the ending to stop with. Raises TellapartError; what was reached is saved by then.
    """
    began = time.monotonic()
    check_names(recipe)
    device = devices.choose(recipe.machine.device)
    run = Run.create(runs, name, about=f"{Path(recipe.data.source).name}-{recipe.model.name}")
    run.set_status(state="preparing", command=command)
    try:
        prepared = yield from _prepared(Settled(recipe, origins or {}), run)
        pieces = put_together(prepared, device)
        written(run, pieces.prepared, command=command, device=devices.words(device))
        yield from _described(pieces)
        yield from _fitted(run, pieces, asked)
        save_bundle(best_bundle(run, pieces), run.bundle)
        yield from verdict(run, pieces.prepared, device, open_test=open_test, runs=runs, began=began)
    except TellapartError as error:
        run.set_status(state=_state(error), error=str(error))
        raise
    except KeyboardInterrupt:
        run.set_status(state="interrupted")
        raise


def _state(error: TellapartError) -> str:
    return "interrupted" if error.exit_code in (130, 143) else "diverged" if error.exit_code == 5 else "failed"


def _prepared(settled: Settled, run: Run) -> Generator[Event, None, Prepared]:
    """Stage 1, told as it goes."""
    waiting: list[Working] = []
    source = settled.recipe.data.source
    prepared = prepare(
        settled,
        threads=settled.recipe.machine.workers or 1,
        progress=lambda done, total: waiting.append(Working(what="decoding", done=done, total=total)),
    )
    yield from waiting
    index, counts = prepared.pictures.index, prepared.counts
    parts = ", ".join(f"{counts[part]:,} {part}" for part in counts if counts[part])
    yield Said(stage=1, text=f"data: {source}, {len(index):,} pictures of {len(index.classes)} classes ({parts})")
    for line in index.said:
        yield Said(text=line)
    for one in index.ignored[:5]:
        yield Said(stage=-1, text=f"left out: {one.key}: {one.reason}")
    if len(index.ignored) > 5:
        yield Said(
            stage=-1, text=f"left out: {len(index.ignored)} files in all; they are listed in {run.folder / 'log.txt'}"
        )
    for one in index.ignored:
        run.append("log.txt", f"left out: {one.key}: {one.reason}")
    return prepared


def put_together(prepared: Prepared, device: torch.device) -> Trained:
    """Network, loader, optimiser and plan of a prepared recipe. The network is on its device before the optimiser."""
    recipe, pictures = prepared.recipe, prepared.pictures
    own = {"width": recipe.model.width} if recipe.model.name == "small" else {}
    architecture = Architecture(
        name=recipe.model.name,
        num_classes=len(pictures.index.classes),
        channels=recipe.input.channels,
        size=recipe.input.size,
        args=own,
    )
    model = build(architecture, seed=recipe.train.seed).to(device)
    seen = look(model, architecture)
    settled = settle_network(
        prepared.settled, multiply_adds=seen.multiply_adds, normalised=seen.normalised, cores=devices.cores()
    )
    recipe = settled.recipe
    torch.set_num_threads(settled.recipe.machine.threads)
    if recipe.machine.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = Loader(
        pictures=pictures,
        rows=pictures.index.rows("train"),
        batch_size=recipe.train.batch_size,
        device=device,
        seed=recipe.train.seed,
        shuffle=recipe.train.shuffle,
        drop_last=recipe.train.drop_last,
        workers=recipe.machine.workers,
    )
    return Trained(
        prepared=replace(prepared, settled=settled),
        model=model,
        architecture=architecture,
        device=device,
        train=loader,
        remarks=seen.remarks(architecture.name),
        optimiser=make_optimiser(model, recipe.optim),
        plan=_plan(recipe, len(loader)),
    )


def _plan(recipe: Recipe, steps_per_epoch: int) -> Plan:
    steps = recipe.train.epochs * steps_per_epoch
    return Plan(
        epochs=recipe.train.epochs,
        max_steps=min(steps, recipe.train.max_steps or steps),
        patience=recipe.train.patience,
        log_every=recipe.train.log_every,
        seed=recipe.train.seed,
        shift=recipe.input.shift,
        flip=recipe.input.flip,
        channels_last=recipe.machine.channels_last,
    )


def _described(pieces: Trained) -> Iterator[Event]:
    """Stages 2 to 6, one line each."""
    recipe, plan = pieces.prepared.recipe, pieces.plan
    weights = sum(p.numel() for p in pieces.model.parameters())
    yield Said(
        stage=2,
        text=f"batches: {len(pieces.train)} of {recipe.train.batch_size}, {pieces.train.pictures.preprocess.words()}",
    )
    yield Said(stage=3, text=f"network: {recipe.model.name}, {weights:,} parameters, on {devices.words(pieces.device)}")
    for remark in pieces.remarks:
        yield Said(stage=-1, text=remark)
    yield Said(stage=4, text=f"loss: {recipe.loss.name}, label smoothing {recipe.loss.label_smoothing:g}")
    yield Said(
        stage=5,
        text=f"optimiser: {recipe.optim.name}, rate {recipe.optim.lr:g} ({recipe.optim.schedule}), "
        f"weight decay {recipe.optim.weight_decay:g}",
    )
    yield Said(stage=6, text=f"settings: {plan.epochs} epochs, {plan.max_steps:,} steps, seed {recipe.train.seed}")


def _fitted(run: Run, pieces: Trained, asked: Asked) -> Iterator[Event]:
    """Stage 7: the loop, its records written down and passed on; TensorBoard gets the same records."""
    recipe, plan = pieces.prepared.recipe, pieces.plan
    yield Said(stage=7, text="training")
    yield Begun(run=run.name, total_steps=plan.max_steps, epochs=plan.epochs)
    run.set_status(state="running", step=0, total_steps=plan.max_steps)
    rate = rate_of(recipe.optim, total_steps=plan.max_steps, steps_per_epoch=len(pieces.train))
    records = fit(
        pieces.model,
        pieces.train,
        loss_function=make_loss(recipe.loss),
        optimiser=pieces.optimiser,
        rate=rate,
        judge=lambda model: validated(model, pieces),
        plan=plan,
        keep=(keeper := Keeper(run, save_every=recipe.train.save_every)).keep,
        asked=asked,
        start=Position(),
    )
    with Boarded(run.folder / "tensorboard") as board:
        board.pictures(pieces.prepared.pictures)
        for record in records:
            if isinstance(record, Epoch) or record.loss is not None:
                run.record(as_json(record))
                board.record(record)
            yield record
        board.graph(pieces.model, pieces.train.pictures.preprocess, pieces.device)
    pieces.model.load_state_dict(dict(keeper.best.model) if keeper.best else pieces.model.state_dict())


def validated(model: nn.Module, pieces: Trained) -> tuple[float, float, int]:
    """Mean loss, accuracy and n of the validation part."""
    predictions = predict_part(model, pieces.prepared.pictures, "validation", device=pieces.device)
    figures = {figure.name: figure for figure in judged(predictions)}
    return figures["loss"].value, figures["accuracy"].value, figures["loss"].n


def as_json(record: Step | Epoch) -> dict[str, float | int | bool | str | None]:
    """A record as one object of metrics.jsonl: plain numbers, no tensor."""
    kind = "epoch" if isinstance(record, Epoch) else "step"
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {"kind": kind, **{k: (v if not isinstance(v, float) or np.isfinite(v) else None) for k, v in fields.items()}}


def best_bundle(run: Run, pieces: Trained) -> Bundle:
    """The model file of this run: the best weights with everything needed to use them."""
    return Bundle(
        architecture=pieces.architecture,
        preprocess=pieces.prepared.pictures.preprocess,
        classes=pieces.prepared.pictures.index.classes,
        state=pieces.model.state_dict(),
        origin=origin_of(run, pieces.prepared),
    )
