"""Pace: what a step, a validation and a checkpoint of a training cost here, measured; the steps that a budget buys."""

import math
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tellapart.data.loader import Loader
from tellapart.errors import UsageError
from tellapart.evaluation.predict import BATCH, logits_of
from tellapart.recipe_values import AUTO, seconds_of
from tellapart.training.checkpoint import Position, save_checkpoint
from tellapart.training.fit import Step
from tellapart.training.world import ALONE
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import FROM_THE_START, Pieces, loop, state_of
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.settle import Settled

WARM, FEWEST, MOST, SECONDS = 2, 5, 60, 3.0
"""Steps that are taken and not counted; then so many are timed, until these seconds are over."""
MARGIN = 0.1
"""Share of a budget that is kept back: steps are not all alike, and the schedule should come to rest before the end."""
MOST_EPOCHS = 100
"""Epochs of a budget when no number of them was asked for."""

Put = Callable[[Prepared], Pieces]
"""Puts the pieces of a training together."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of the first step, of a later one (mean, and where nine in ten of them end and begin), of judging one
    picture, and of writing one checkpoint, with its bytes.
    """

    first: float
    step: float
    low: float
    high: float
    steps: int
    judging: float
    saving: float
    checkpoint: int

    def words(self) -> str:
        """The time of a step with its range."""
        return f"{1000 * self.step:.3g} ms ({1000 * self.low:.3g} to {1000 * self.high:.3g})"

    def seconds(self, pieces: Pieces, *, steps: int, step: float | None = None) -> float:
        """The time of so many steps with all that belongs to them, the final judgement included."""
        counts, epochs = pieces.prepared.counts, math.ceil(steps / len(pieces.train))
        judged = counts["validation"] * (epochs + 1) + counts["test"]
        stepping = steps * (step or self.step)
        return stepping + judged * self.judging + self.saving * (2 + stepping // 60)


def trial(pieces: Pieces, *, most: int, rate: Callable[[int], float] | None = None) -> Iterator[Step]:
    """At most so many real steps, which no one judges or keeps. The pieces are of no use for training afterwards."""
    endless = replace(pieces.plan, target=math.inf, target_loss=0.0, drop_after=0, log_every=1)
    tried = replace(pieces, plan=replace(endless, epochs=most, max_steps=most, patience=most), world=ALONE)
    records = loop(
        tried, judge=lambda _: (0.0, 0.0, 1), keep=lambda *_: None, asked=lambda: None, start=FROM_THE_START, rate=rate
    )
    yield from (record for record in records if isinstance(record, Step))


def measured(pieces: Pieces) -> Pace:
    """What things cost, measured. The pieces are of no use for training afterwards."""
    times: list[float] = []
    last = time.monotonic()
    for _ in trial(pieces, most=WARM + MOST):
        if pieces.device.type == "cuda":
            torch.cuda.synchronize(pieces.device)
        now = time.monotonic()
        times, last = [*times, now - last], now
        if len(times) >= WARM + FEWEST and sum(times[WARM:]) > SECONDS:
            break
    steady = np.array(times[WARM:])
    low, high = np.quantile(steady, (0.1, 0.9)).tolist()
    saving, size = _saving(pieces)
    mean, judging = float(steady.mean()), _judging(pieces)
    spread = {"low": low, "high": high, "steps": len(steady)}
    return Pace(first=times[0], step=mean, **spread, judging=judging, saving=saving, checkpoint=size)


def _judging(pieces: Pieces) -> float:
    """Seconds for one validation picture, over at most four batches after a first one."""
    pictures = pieces.prepared.pictures
    rows = pictures.index.rows("validation")[: 4 * BATCH]
    loader = Loader(pictures=pictures, rows=rows, batch_size=BATCH, device=pieces.device, shuffle=False)
    list(logits_of(pieces.model, [next(loader.epoch(0))], pictures.preprocess))
    began = time.monotonic()
    list(logits_of(pieces.model, loader.epoch(0), pictures.preprocess))
    return (time.monotonic() - began) / len(rows)


def _saving(pieces: Pieces) -> tuple[float, int]:
    """Seconds and bytes of one checkpoint, written to a place of its own and removed."""
    checkpoint = state_of(pieces, Position())
    with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
        began = time.monotonic()
        written = save_checkpoint(Path(folder), checkpoint)
        return time.monotonic() - began, sum(file.stat().st_size for file in written.iterdir())


def within_budget(pieces: Pieces, put: Put, *, began: float) -> Generator[Event, None, Pieces]:
    """The pieces with as many steps as the budget of their recipe has room for, counted from `began`.

    Steps and epochs that were asked for are not exceeded. Raises UsageError for a budget without room for one step.
    """
    prepared, budget = pieces.prepared, pieces.prepared.recipe.train.budget
    if not budget:
        return pieces
    pace = measured(pieces)
    left = (1 - MARGIN) * seconds_of(budget) - (time.monotonic() - began)
    asked = any(not _open(prepared.settled, f"train.{key}") for key in ("epochs", "max_steps"))
    most = pieces.plan.max_steps if asked else MOST_EPOCHS * len(pieces.train)
    steps = _room(left, pieces, pace, most)
    if steps < 1:
        raise UsageError(
            f"The budget of {budget} has no room for one step: pictures and network took "
            f"{time.monotonic() - began:.1f} s, a step takes {1000 * pace.step:.3g} ms, "
            f"the judging {pace.seconds(pieces, steps=0):.1f} s.",
            "Give it more time with --budget; a second time, pictures are read from the cache.",
        )
    found, epochs = prepared.settled, math.ceil(steps / len(pieces.train))
    why = f"{AUTO}: {budget} at {1000 * pace.step:.3g} ms a step"
    values = {"train.max_steps": steps, "train.epochs": epochs}
    if steps == pieces.plan.max_steps:  # all that was asked for, or what was chosen anyway
        values = {}
    elif _open(found, "train.patience") and found.recipe.optim.schedule not in ("constant", "plateau"):
        values["train.patience"] = epochs
    reasons = {path: why for path in values if path != "train.patience"}
    settled = Settled(found.recipe.replaced(values), {**found.origins, **reasons})
    yield Said(text=f"budget {budget}: room for {steps:,} steps of {pace.words()}, with validation and saving")
    del pieces  # its memory is wanted for the ones to come
    return put(replace(prepared, settled=settled))


def _open(settled: Settled, path: str) -> bool:
    """Whether a value was found out, not asked for."""
    return settled.origins.get(path, AUTO).startswith(AUTO)


def _room(left: float, pieces: Pieces, pace: Pace, most: int) -> int:
    """The most steps, of at most `most`, whose time is no more than is left; 0 when there is none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = pace.seconds(pieces, steps=middle) <= left
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
