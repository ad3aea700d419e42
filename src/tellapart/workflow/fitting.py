"""Fitting: the loop run over the pieces of one training, its records written down, its model kept whatever happens."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from tellapart.data.loader import Loader
from tellapart.errors import DivergedError, StorageError, TellapartError, UsageError
from tellapart.evaluation.metrics import judge
from tellapart.evaluation.predict import logits_of_rows, spans
from tellapart.evaluation.predictions import Predictions
from tellapart.models.build import Architecture
from tellapart.models.bundle import Bundle, save_bundle
from tellapart.reporting.diagnosis import ended_badly
from tellapart.run import Run
from tellapart.training.average import Average
from tellapart.training.checkpoint import Checkpoint, Position, load_checkpoint
from tellapart.training.fit import Asked, Epoch, Judge, Keep, Plan, Step, fit
from tellapart.training.losses import LossFunction
from tellapart.training.optim import Optimiser
from tellapart.training.precision import Precision
from tellapart.training.schedule import rate_of
from tellapart.training.shards import spread
from tellapart.training.watch import LOWER_RATE, is_finite
from tellapart.training.world import ALONE, World
from tellapart.workflow.begin import origin_of
from tellapart.workflow.board import TRACE, Boarded, profiled
from tellapart.workflow.clock import clocked
from tellapart.workflow.diagnosing import Watching, about_of
from tellapart.workflow.events import Begun, Event, Said, as_json
from tellapart.workflow.keeping import Keeper, Wanted, joint
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.stoppable import to_judge

FROM_THE_START = Position()
SPENT = "the budget of {} was spent after step {:,} of {:,}, before the learning rate had come to rest"


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The pieces of one training, put together and ready to run. `first`: the step at which its schedule begins."""

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
    first: int = 0
    world: World = ALONE


def fitted(
    run: Run,
    pieces: Pieces,
    asked: Asked,
    *,
    start: Position = FROM_THE_START,
    best: Checkpoint | None = None,
    wanted: Wanted = lambda: False,
) -> Iterator[Event]:
    """Run the loop and write the model file: of the best epoch, or of the last finite weights when it ends early."""
    plan, keeper = pieces.plan, Keeper(run, pieces.prepared.recipe, start=start, best=best, wanted=wanted)
    yield Begun(run=run.name, total_steps=plan.max_steps, epochs=plan.epochs, first_step=start.step)
    run.set_status(state="running", step=start.step, total_steps=plan.max_steps)
    try:
        with clocked(run, plan, pieces.prepared.recipe.train.budget) as timed:
            yield from in_parts_that_fit(run, replace(pieces, plan=timed), keeper, asked, start)
            if timed.spent() and (step := run.status()["step"]) < plan.max_steps:
                yield Said(stage=-1, text=SPENT.format(pieces.prepared.recipe.train.budget, step, plan.max_steps))
    except TellapartError as error:
        if isinstance(error, DivergedError):
            found = ended_badly(error.message, about_of(pieces.prepared, pieces.model, pieces.device))
            run.set_status(diagnosis=[asdict(found)])
        error.hint = f"{error.hint} {_kept(run, pieces, keeper)}".strip()
        raise
    if keeper.best is None:
        said = "No epoch ended with a validation loss that is a number, so there is no model to judge."
        raise DivergedError(said, LOWER_RATE)
    _save_model(run, pieces, keeper.best.model)


def in_parts_that_fit(run: Run, pieces: Pieces, keeper: Keeper, asked: Asked, start: Position) -> Iterator[Event]:
    """The records of the loop. When memory lacks, the step is taken again in twice as many parts, where `machine.retry`
    lets it; the step that failed has changed no weight.
    """
    while True:
        try:
            yield from recorded(run, pieces, keeper, asked, start)
            return
        except RuntimeError as error:
            parts = 2 * pieces.plan.accumulate
            if not lacks_memory(error):
                raise
            if parts > pieces.train.batch_size or not _may_retry(pieces):
                raise memory_in_words(pieces) from error
        start = start if keeper.midway is None else keeper.midway().position
        pieces = replace(pieces, plan=replace(pieces.plan, accumulate=parts))
        if pieces.device.type == "cuda":
            torch.cuda.empty_cache()
        why = drawn_by_part(pieces.model)
        same = f"not the same result, as the network {why}" if why else "the same result up to rounding"
        lack = f"{pieces.device} has too little memory; from step {start.step + 1} on a step is {parts} parts ({same})"
        yield Said(stage=-1, text=lack)


def _may_retry(pieces: Pieces) -> bool:
    """Whether the recipe lets a step be computed in more parts than it says."""
    retry = pieces.prepared.recipe.machine.retry
    alone = pieces.world.size == 1  # the others would wait
    return alone and (retry == "always" or (retry == "exact" and not drawn_by_part(pieces.model)))


def drawn_by_part(model: nn.Module) -> str:
    """What of this network depends on the parts of a batch, in words; "" when its gradients do not."""
    kinds = {type(module).__name__ for module in model.modules() if module.training and getattr(module, "p", 1)}
    if any("BatchNorm" in kind for kind in kinds):
        return "normalises over each part"
    return "draws its dropout for each part" if any("Drop" in k or k == "StochasticDepth" for k in kinds) else ""


def lacks_memory(error: RuntimeError) -> bool:
    """Whether this is what torch raises when a device, or the processor, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def memory_in_words(pieces: Pieces) -> UsageError:
    """A lack of memory as a sentence that names the batch size."""
    parts = pieces.plan.accumulate
    size = pieces.train.batch_size // parts
    hint = f"Use --batch-size {size // 2}, with --set train.accumulate={2 * parts} to keep the same steps."
    if size < 2:
        hint = "Use a smaller --set input.size, or another --model."
    elif why := drawn_by_part(pieces.model):
        hint += f" By itself that is done with --set machine.retry=always only, as the network {why}."
    return UsageError(f"{pieces.device} has too little memory for a batch of {size} pictures.", hint)


def recorded(run: Run, pieces: Pieces, keeper: Keeper, asked: Asked, start: Position) -> Iterator[Event]:
    """The records of the loop, as they go to metrics.jsonl, to TensorBoard, and to whoever watches."""
    earlier = [line for _, line in run.records()] if start.step else []
    about = about_of(pieces.prepared, pieces.model, pieces.device)
    watching = Watching(about, [line for line in earlier if line["kind"] == "epoch"])
    shown, level = (pieces.prepared.pictures, pieces.device), pieces.prepared.recipe.train.board
    at = run.folder / "tensorboard"
    with Boarded(at) as board, profiled(at, asked=level == "profile") as stepped:
        board.began(run, pieces.prepared.pictures)
        for line in earlier:
            board.record(line)
        if level != "curves":
            board.inside(pieces.model, *shown, epoch=start.epoch)
        kept = replace(pieces, plan=replace(pieces.plan, augment=board.keeping(pieces.plan.augment)))
        for record in _records(kept, keeper, asked, start):
            board.batch(shown[0], record.step)
            if isinstance(record, Epoch) or record.loss is not None:
                line = as_json(record)
                if isinstance(record, Step):
                    line["penalty"] = pieces.loss.penalty(pieces.model)
                run.record(line)
                board.record(line)
            if isinstance(record, Step):
                stepped()
            elif level != "curves":
                board.inside(pieces.model, *shown, epoch=record.epoch + 1)
            yield record
            if isinstance(record, Epoch):
                yield from watching.after(as_json(record))
        if level != "curves":
            board.projected(pieces.model, *shown)
        if not pieces.world.sharded:  # a forward pass that the others do not take
            board.graph(pieces.model, pieces.train.pictures.preprocess, pieces.device)
    if level == "profile" and not (at / TRACE).is_file():
        yield Said(stage=-1, text="there is no trace: it begins after the fifth step, and fewer were taken here")


def _records(pieces: Pieces, keeper: Keeper, asked: Asked, start: Position) -> Iterator[Step | Epoch]:
    """The loop, in step with those of the other processes, where there are any."""
    judge: Judge = lambda model: validated(model, pieces, asked)  # noqa: E731
    if pieces.world.size == 1:
        return loop(pieces, judge=judge, keep=keeper.keep, asked=asked, start=start)
    agreed = pieces.world.agreeing(asked, pieces.plan.spent, keeper.wanted)
    pieces, keeper.wanted = replace(pieces, plan=replace(pieces.plan, spent=agreed.other(0))), agreed.other(1)
    keep = joint(pieces.world, keeper.keep)
    return pieces.world.watched(loop(pieces, judge=judge, keep=keep, asked=agreed.asked, start=start))


def loop(
    pieces: Pieces,
    *,
    judge: Judge,
    keep: Keep,
    asked: Asked,
    start: Position,
    rate: Callable[[int], float] | None = None,
) -> Iterator[Step | Epoch]:
    """`fit` over the pieces, with the loss of their recipe, and with its schedule when no `rate` is given."""
    plan = pieces.plan
    return fit(
        pieces.model,
        pieces.train,
        loss_function=pieces.loss,
        optimiser=pieces.optimiser,
        precision=pieces.precision,
        average=pieces.average,
        rate=rate or _rate(pieces),
        judge=judge,
        plan=plan,
        keep=keep,
        asked=asked,
        start=start,
        world=pieces.world,
    )


def _rate(pieces: Pieces) -> Callable[[int], float]:
    """The schedule of the recipe, from the step at which it begins."""
    optim, steps = pieces.prepared.recipe.optim, pieces.plan.max_steps
    return rate_of(optim, total_steps=steps, steps_per_epoch=len(pieces.train), first=pieces.first)


def validated(model: nn.Module, pieces: Pieces, asked: Asked = lambda: None) -> tuple[float, float, int]:
    """Mean loss, score (see `Plan.scored`) and n of the validation part. Raises the ending that `asked` returns."""
    pictures, device = to_judge(pieces.prepared.pictures, asked), pieces.device
    rows, index = pictures.index.rows("validation"), pictures.index
    some = lambda span: logits_of_rows(model, pictures, rows[span], device=device, read=pieces.world.read)  # noqa: E731
    logits = pieces.world.rows(some, spans(len(rows)), columns=len(pictures.index.classes))
    own = {"labels": index.labels[rows], "marks": index.marked(rows)}
    score, *_, loss = judge(Predictions(part="validation", classes=index.classes, keys=(), logits=logits, **own))
    return loss.value, score.value, loss.n


def state_of(pieces: Pieces, at: Position) -> Checkpoint:
    """All that a training remembers."""
    return Checkpoint(
        position=at,
        model=pieces.model.state_dict(),
        optimiser=pieces.optimiser.state(),
        average=pieces.average.state(),
        scale=pieces.precision.state(),
    )


def taken_up(pieces: Pieces, last: Checkpoint | None) -> Position:
    """Put a checkpoint into model and optimiser; without one the run starts over."""
    if last is None:
        return Position()
    own = pieces.model.state_dict()
    pieces.model.load_state_dict({name: spread(t, own.get(name, t)) for name, t in last.model.items()})
    pieces.optimiser.load(dict(last.optimiser))
    pieces.average.load(dict(last.average))
    pieces.precision.load(dict(last.scale))
    return last.position


def _save_model(run: Run, pieces: Pieces, state: Mapping[str, torch.Tensor]) -> None:
    """Write the model file with these weights."""
    index = pieces.prepared.pictures.index
    save_bundle(
        Bundle(
            architecture=pieces.architecture,
            preprocess=pieces.prepared.pictures.preprocess,
            classes=index.classes,
            state=dict(state),
            origin=origin_of(run, pieces.prepared),
            thresholds=() if index.marks is None else (0.5,) * len(index.classes),
        ),
        run.bundle,
    )


def _kept(run: Run, pieces: Pieces, keeper: Keeper) -> str:
    """Keep what there is after an early end, and say what it is."""
    state, what = pieces.model.state_dict(), "No epoch was finished; the weights as they stood are in"
    if keeper.best is not None:
        at, state = keeper.best.position, keeper.best.model
        what = f"The best model so far (epoch {at.best_epoch + 1}, validation {at.best_accuracy:.1%}) is in"
    elif pieces.world.sharded or not is_finite(pieces.model):
        if not keeper.recent:
            reached = "kept" if pieces.world.sharded else "reached"
            return f"No finite model was {reached}; the log is in {run.folder}."
        saved = load_checkpoint(keeper.folder / list(keeper.recent)[-1])
        state, what = saved.model, f"The weights after step {saved.position.step}, saved while they were finite, are in"
    try:
        _save_model(run, pieces, state)
    except StorageError:  # the disk that ended the training; its message says so
        return ""
    return f"{what} {run.bundle}."
