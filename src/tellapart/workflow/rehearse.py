"""Before a training: what it would cost (dry run), whether its whole path works (smoke run). Neither leaves a run."""

import math
import re
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tellapart.data.cache import key_of
from tellapart.errors import TellapartError
from tellapart.evaluation.predict import THUMBNAIL
from tellapart.recipe import Recipe
from tellapart.recipe_values import AUTO
from tellapart.run import Run
from tellapart.training.checkpoint import load_checkpoint
from tellapart.workflow.assemble import put_together
from tellapart.workflow.compiling import at_its_pace
from tellapart.workflow.curves import ON_VALIDATION, in_letters, rates_of_steps
from tellapart.workflow.described import described
from tellapart.workflow.events import Event, Said, Verdict
from tellapart.workflow.fitting import Pieces, lacks_memory, memory_in_words
from tellapart.workflow.pace import Pace, measured
from tellapart.workflow.train import Asking, accepted, pictures_of, train


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a training would take. Seconds, their range by the spread of the steps, those of an epoch; bytes of memory
    (None: not known) and of the disk; the rate of every step; the settings that were found out, with the reasons.
    """

    steps: int
    epochs: int
    seconds: float
    between: tuple[float, float]
    epoch: float
    pace: Pace
    memory: int | None
    memory_of: str
    disk: dict[str, int]
    schedule: str
    rates: list[float]
    settled: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers and words."""
        return {"format": 1, **asdict(self)}

    def lines(self) -> list[str]:
        """Everything for a person."""
        low, high = self.between
        disk = ", ".join(f"{what} {_bytes(size)}" for what, size in self.disk.items())
        rate = f"rate ({self.schedule}{', ' + ON_VALIDATION if self.schedule == 'plateau' else ''})"
        return [
            f"steps   {self.steps:,} in {self.epochs} epochs",
            f"time    about {words_of_time(self.seconds)}, {words_of_time(low)} to {words_of_time(high)}: "
            f"an epoch {words_of_time(self.epoch)}, a step {self.pace.words()}, by {self.pace.steps} of them",
            f"memory  {'not known here' if self.memory is None else _bytes(self.memory)} of {self.memory_of}",
            f"disk    {disk}",
            f"{rate}, from {self.rates[0]:.4g} to {self.rates[-1]:.4g}:",
            *in_letters(self.rates),
            "settled by itself:",
            *(f"  {path} = {why}" for path, why in self.settled.items() if "auto: preset" not in why),
        ]


@dataclass(frozen=True)
class Passed:
    """A smoke run has gone through."""

    seconds: float

    def to_json(self) -> dict[str, Any]:
        """That, as plain values."""
        return {"format": 1, "works": True, "seconds": round(self.seconds, 3)}

    def lines(self) -> list[str]:
        """That, for a person."""
        works = "step, validation, checkpoint, model file, reading both back, judging"
        return [f"it works: {works} ({self.seconds:.1f} s); nothing of it is kept"]


def ready(recipe: Recipe, asking: Asking) -> Generator[Event, None, Pieces]:
    """The pieces of the training that would begin, without a run folder."""
    began = time.monotonic()
    settled, device = accepted(recipe, asking)
    prepared = yield from pictures_of(settled, None, asking)
    put = partial(put_together, device=device, transform=asking.transform)
    return (yield from at_its_pace(put(prepared), put, began=began))


def dry_run(recipe: Recipe, asking: Asking) -> Iterator[Event | Estimate]:
    """Everything up to the first step, and a few steps to measure; the last event is the Estimate.

    Nothing is kept but decoded pictures, in the cache. The test part stays sealed. Raises TellapartError.
    """
    began = time.monotonic()
    pieces = yield from ready(recipe, asking)
    before = time.monotonic() - began
    yield from described(pieces, schedule=asking.schedule)
    try:
        pace = measured(pieces)
    except RuntimeError as error:
        raise (memory_in_words(pieces) if lacks_memory(error) else error) from None
    steps, settled = pieces.plan.max_steps, pieces.prepared.settled
    low, middle, high = (before + pace.seconds(pieces, steps=steps, step=s) for s in (pace.low, pace.step, pace.high))
    values = settled.recipe.values()
    memory, memory_of = _peak(pieces.device)
    yield Estimate(
        steps=steps,
        epochs=pieces.plan.epochs,
        seconds=middle,
        between=(low, high),
        epoch=len(pieces.train) * pace.step + pieces.prepared.counts["validation"] * pace.judging,
        pace=pace,
        memory=memory,
        memory_of=memory_of,
        disk=_disk(pieces, pace),
        schedule=settled.recipe.optim.schedule,
        rates=rates_of_steps(pieces),
        settled={p: f"{values[p]}  ({why})" for p, why in settled.origins.items() if why.startswith(AUTO)},
    )


def _peak(device: torch.device) -> tuple[int | None, str]:
    """The most bytes so far: of the GPU, else of this process; and of what."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device), str(device)
    try:
        import resource
    except ImportError:  # Windows
        return None, "this process"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "this process"


def _disk(pieces: Pieces, pace: Pace) -> dict[str, int]:
    """Bytes: of the run folder at its largest, of the checkpoints in it, of decoded pictures, which lie elsewhere."""
    index, recipe = pieces.prepared.pictures.index, pieces.prepared.recipe
    model = sum(tensor.nbytes for tensor in pieces.model.state_dict().values())
    kept = pieces.plan.epochs // recipe.train.save_every if recipe.train.save_every else 0
    checkpoints = (2 + kept) * pace.checkpoint + 2 * model  # last, the one being written, the best ones
    size, counts = recipe.input.size, pieces.prepared.counts
    thumbnail = math.ceil(size / math.ceil(size / THUMBNAIL)) ** 2 * recipe.input.channels
    judged = (counts["validation"] + counts["test"]) * (4 * len(index.classes) + thumbnail)
    preprocess = pieces.train.pictures.preprocess
    cached = len(index) * (preprocess.side**2 * preprocess.channels + 16)
    cache = {"cache of pictures": cached} if recipe.machine.cache and key_of(index, preprocess) else {}
    return {"run folder": checkpoints + model + judged, "of it checkpoints": checkpoints, **cache}


def smoke(recipe: Recipe, asking: Asking) -> Iterator[Event | Passed]:
    """One step through the whole path, in a temporary place: step, validation, checkpoint, model file, judgement.

    Raises what a training would raise.
    """
    began = time.monotonic()
    recipe = recipe.replaced({"train.max_steps": 1, "train.epochs": 1, "train.budget": ""})
    with tempfile.TemporaryDirectory(prefix="tellapart-") as place:
        try:
            for event in train(recipe, replace(asking, runs=Path(place), name="smoke", open_test=False)):
                if not isinstance(event, Verdict) and not (isinstance(event, Said) and place in event.text):
                    yield event
            run = Run.open(Path(place), "smoke")
            load_checkpoint(run.folder / "checkpoints" / run.status()["checkpoints"]["last"])
            yield Passed(time.monotonic() - began)
        except TellapartError as error:
            sentences = re.split(r"(?<=\.) ", error.hint)
            error.hint = " ".join(sentence for sentence in sentences if place not in sentence)
            raise


def _bytes(size: float) -> str:
    """A size for a person: 6.3 MB."""
    unit = next(unit for unit in (1e9, 1e6, 1e3) if size >= unit or unit == 1e3)
    return f"{size / unit:,.3g} {({1e9: 'GB', 1e6: 'MB', 1e3: 'kB'})[unit]}"


def words_of_time(seconds: float) -> str:
    """A time for a person: 3.2 s, 12 min, 4.5 h."""
    size, unit = next((n, word) for n, word in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= 2 * n or n == 1)
    return f"{seconds / size:.3g} {unit}"
