"""What is said of a training that is put together, before its first step."""

from collections.abc import Iterator
from pathlib import Path

from tellapart.models.pretrained import placed
from tellapart.recipe import Recipe
from tellapart.training.losses import loss_words
from tellapart.workflow import devices
from tellapart.workflow.curves import write_schedule
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import Pieces

ALSO = ("optim.clip", "train.accumulate", "train.ema", "train.swa", "machine.precision")
"""Settings that change what is learned, and are said when they are not the usual ones."""


def described(pieces: Pieces, *, schedule: Path | None = None) -> Iterator[Event]:
    """Stages 2 to 6, one line each; `schedule` is where the learning rate of every step is drawn or listed."""
    recipe, plan = pieces.prepared.recipe, pieces.plan
    weights = sum(p.numel() for p in pieces.model.parameters())
    yield Said(
        stage=2,
        text=f"batches: {len(pieces.train)} of {pieces.train.batch_size}, {pieces.train.pictures.preprocess.words()}",
    )
    yield Said(stage=3, text=f"network: {recipe.model.name}, {weights:,} parameters, on {devices.words(pieces.device)}")
    if recipe.model.weights:
        yield Said(stage=-1, text=f"weights: {placed(Path(recipe.model.weights))}")
    for remark in pieces.remarks:
        yield Said(stage=-1, text=remark)
    yield Said(stage=4, text=f"loss: {loss_words(recipe.loss)}")
    yield Said(
        stage=5,
        text=f"optimiser: {recipe.optim.name}, rate {recipe.optim.lr:g} ({recipe.optim.schedule}), "
        f"weight decay {recipe.optim.weight_decay:g}",
    )
    values, plain = recipe.values(), Recipe().values()
    also = "".join(f", {path.partition('.')[2]} {values[path]}" for path in ALSO if values[path] != plain[path])
    yield Said(
        stage=6, text=f"settings: epochs {plan.epochs}, steps {plan.max_steps:,}, seed {recipe.train.seed}{also}"
    )
    yield Said(stage=7, text=f"training: the loss every {plan.log_every} steps, validation after every epoch")
    if schedule is not None:
        yield Said(text=write_schedule(pieces, schedule))
