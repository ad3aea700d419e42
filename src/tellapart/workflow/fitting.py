"""Fitting: the loop run over the pieces of one training, its records written down, its model kept whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from tellapart.data.loader import Loader
from tellapart.errors import DivergedError, TellapartError, UsageError
from tellapart.evaluation.metrics import headline
from tellapart.evaluation.predict import logits_of_part
from tellapart.models.build import Architecture
from tellapart.models.bundle import Bundle, save_bundle
from tellapart.reporting.diagnosis import ended_badly
from tellapart.run import Run
from tellapart.training.average import Average
from tellapart.training.checkpoint import Checkpoint, Position
from tellapart.training.fit import Asked, Epoch, Judge, Keep, Plan, Step, fit
from tellapart.training.losses import LossFunction
from tellapart.training.optim import Optimiser
from tellapart.training.precision import Precision
from tellapart.training.schedule import rate_of
from tellapart.training.watch import is_finite
from tellapart.workflow.begin import origin_of
from tellapart.workflow.board import Boarded
from tellapart.workflow.diagnosing import Watching, about_of
from tellapart.workflow.events import Begun, Event
from tellapart.workflow.keeping import Keeper
from tellapart.workflow.prepare import Prepared

FROM_THE_START = Position()


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The pieces of one training, put together and ready to run."""

    prepared: Prepared
    model: nn.Module
    architecture: Architecture
    device: torch.device
    train: Loader
    loss: LossFunction
    optimiser: Optimiser
    precision: Precision
    average: Average
    plan: Plan
    remarks: list[str]


def fitted(
    run: Run, pieces: Pieces, asked: Asked, *, start: Position = FROM_THE_START, best: Checkpoint | None = None
) -> Iterator[Event]:
    """Run the loop and write the model file: of the best epoch, or of the last finite weights when it ends early."""
    plan, keeper = pieces.plan, Keeper(run, save_every=pieces.prepared.recipe.train.save_every, best=best)
    yield Begun(run=run.name, total_steps=plan.max_steps, epochs=plan.epochs, first_step=start.step)
    run.set_status(state="running", step=start.step, total_steps=plan.max_steps)
    try:
        with memory_in_words(pieces):
            yield from recorded(run, pieces, keeper, asked, start)
    except TellapartError as error:
        go_on = f"`tellapart resume {run.called}` goes on from here." if error.exit_code in (130, 143) else ""
        if isinstance(error, DivergedError):
            found = ended_badly(error.message, about_of(pieces.prepared, pieces.model, pieces.device))
            run.set_status(diagnosis=[asdict(found)])
        error.hint = " ".join([error.hint, _kept(run, pieces, keeper), go_on]).strip()
        raise
    if keeper.best is None:
        raise DivergedError(
            "No epoch ended with a validation loss that is a number, so there is no model to judge.",
            "Try a lower learning rate, such as --lr with a tenth of this one.",
        )
    _save_model(run, pieces, keeper)


@contextmanager
def memory_in_words(pieces: Pieces) -> Iterator[None]:
    """Turn a lack of memory into a sentence that names the batch size."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        size = pieces.train.batch_size
        raise UsageError(
            f"{pieces.device} has too little memory for a batch of {size} pictures.",
            f"Use --batch-size {max(1, size // 2)}, with --set train.accumulate=2 to keep the same steps.",
        ) from error


def recorded(run: Run, pieces: Pieces, keeper: Keeper, asked: Asked, start: Position) -> Iterator[Event]:
    """The records of the loop, as they go to metrics.jsonl, to TensorBoard, and to whoever watches."""
    records = loop(pieces, judge=lambda model: validated(model, pieces), keep=keeper.keep, asked=asked, start=start)
    earlier = [line for _, line in run.records()] if start.step else []
    about = about_of(pieces.prepared, pieces.model, pieces.device)
    watching = Watching(about, [line for line in earlier if line["kind"] == "epoch"])
    with Boarded(run.folder / "tensorboard") as board:
        board.pictures(pieces.prepared.pictures)
        for line in earlier:
            board.record(line)
        for record in records:
            if isinstance(record, Epoch) or record.loss is not None:
                line = as_json(record)
                if isinstance(record, Step):
                    line["penalty"] = pieces.loss.penalty(pieces.model)
                run.record(line)
                board.record(line)
            yield record
            if isinstance(record, Epoch):
                yield from watching.after(as_json(record))
        board.graph(pieces.model, pieces.train.pictures.preprocess, pieces.device)


def loop(pieces: Pieces, *, judge: Judge, keep: Keep, asked: Asked, start: Position) -> Iterator[Step | Epoch]:
    """`fit` over the pieces, with the loss and the schedule of their recipe."""
    recipe, plan = pieces.prepared.recipe, pieces.plan
    return fit(
        pieces.model,
        pieces.train,
        loss_function=pieces.loss,
        optimiser=pieces.optimiser,
        precision=pieces.precision,
        average=pieces.average,
        rate=rate_of(recipe.optim, total_steps=plan.max_steps, steps_per_epoch=len(pieces.train)),
        judge=judge,
        plan=plan,
        keep=keep,
        asked=asked,
        start=start,
    )


def validated(model: nn.Module, pieces: Pieces) -> tuple[float, float, int]:
    """Mean loss, accuracy and n of the validation part."""
    pictures = pieces.prepared.pictures
    labels = pictures.index.labels[pictures.index.rows("validation")]
    logits = logits_of_part(model, pictures, "validation", device=pieces.device)
    figures = {figure.name: figure for figure in headline(logits, labels, "validation")}
    return figures["loss"].value, figures["accuracy"].value, figures["loss"].n


def as_json(record: Step | Epoch) -> dict[str, float | int | bool | str | None]:
    """A record as one object of metrics.jsonl: plain numbers, no tensor."""
    kind = "epoch" if isinstance(record, Epoch) else "step"
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {"kind": kind, **{k: (v if not isinstance(v, float) or np.isfinite(v) else None) for k, v in fields.items()}}


def _save_model(run: Run, pieces: Pieces, keeper: Keeper) -> None:
    """Write the model file from the best weights, or from those in memory when no epoch was finished."""
    state = keeper.best.model if keeper.best is not None else pieces.model.state_dict()
    index = pieces.prepared.pictures.index
    save_bundle(
        Bundle(
            architecture=pieces.architecture,
            preprocess=pieces.prepared.pictures.preprocess,
            classes=index.classes,
            state=dict(state),
            origin=origin_of(run, pieces.prepared),
        ),
        run.bundle,
    )


def _kept(run: Run, pieces: Pieces, keeper: Keeper) -> str:
    """Keep what there is after an early end, and say what it is."""
    if keeper.best is None and not is_finite(pieces.model):
        return f"No finite model was reached; the log is in {run.folder}."
    _save_model(run, pieces, keeper)
    if keeper.best is None:
        return f"No epoch was finished; the weights as they stood are in {run.bundle}."
    at = keeper.best.position
    return f"The best model so far (epoch {at.best_epoch + 1}, validation {at.best_accuracy:.1%}) is in {run.bundle}."
