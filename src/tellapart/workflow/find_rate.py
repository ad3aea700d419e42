"""Find a learning rate: it rises step by step on a network that is thrown away, until the loss runs off."""

import shlex
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tellapart.errors import DivergedError, UsageError
from tellapart.figures.curve import Axis, curve
from tellapart.figures.grid import save_picture
from tellapart.files import csv_text, write_result
from tellapart.recipe import Recipe
from tellapart.training.finder import Rise, rising
from tellapart.training.fit import Step
from tellapart.workflow.events import Begun, Event
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.pace import trial
from tellapart.workflow.rehearse import ready
from tellapart.workflow.settle import DEFAULT_RATES
from tellapart.workflow.train import Asking

STEPS = 120
BELOW, ABOVE = 1e-4, 100.0
"""Where the rates begin and end, as factors of the optimiser's default rate."""
BEFORE = 3.0
"""The rate of the least smoothed loss is divided by this: about as far the rate has risen while the mean took notice.
Among the rules tried on three data sets one of the cheapest, and on the safe side of the others (docs/log.md).
"""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A rate, the one it rests on, and what happened while the rate rose. `files`: the plot and the numbers."""

    rate: float
    command: str
    rise: Rise
    diverged: bool
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain numbers and words."""
        return {"format": 1, **asdict(self)}

    def lines(self) -> list[str]:
        """Everything for a person."""
        end = "ran off at" if self.diverged else "had not run off at the last,"
        return [
            f"suggested learning rate: {self.rate:.2g}",
            f"the loss {end} {self.rise.rates[-1]:.2g}, and was least at {self.rise.best:.2g}, of which it is a third",
            f"this rests on {len(self.rise.rates)} steps over training pictures only; that network was thrown away",
            *(f"written: {file}" for file in self.files),
            f"next: {self.command}",
        ]


def find_rate(recipe: Recipe, asking: Asking, *, file: Path | None = None) -> Iterator[Event | Suggestion]:
    """Raise the rate until the loss runs off; the last event is the Suggestion. `file` is drawn, and a .csv written
    beside it.

    The same recipe gives the same suggestion on one machine. Nothing else is kept, and no picture of validation or test
    has a say. Raises UsageError when a rate was asked for, too.
    """
    if "optim.lr" in asking.origins:
        raise UsageError("Asked for --find-lr and for a learning rate together.", "Leave the rate out.")
    pieces = yield from ready(recipe.replaced({"train.budget": "", "optim.lr": None}), asking)
    yield Begun(run="", total_steps=STEPS, epochs=1)
    found = yield from rise(pieces)
    rate = float(f"{found.best / BEFORE:.2g}")
    yield Suggestion(
        rate=rate,
        command=_command(asking.command or f"tellapart train {shlex.quote(recipe.data.source)}", rate, file),
        rise=found,
        diverged=len(found.losses) < STEPS,
        files=_written(found, rate, file),
    )


def rise(pieces: Pieces) -> Generator[Step, None, Rise]:
    """Steps with rising rates, until the loss runs off. The pieces are of no use for training afterwards."""
    usual = DEFAULT_RATES[pieces.prepared.recipe.optimiser]
    rates = rising(BELOW * usual, ABOVE * usual, STEPS)
    found = Rise(rates=rates, losses=[])
    try:
        for step in trial(pieces, most=STEPS, rate=lambda step: rates[min(step, STEPS - 1)]):
            found.losses.append(step.loss or 0.0)
            yield step
            if found.diverged:
                break
    except DivergedError:  # what it looks for, after the first step
        if not found.losses:
            raise
    return replace(found, rates=rates[: len(found.losses)])


def _command(asked: str, rate: float, file: Path | None) -> str:
    """The command that was typed, with the rate in the place of the search."""
    dropped = ("--find-lr", f"--find-lr={file}", "--json", str(file))
    return shlex.join([*(word for word in shlex.split(asked) if word not in dropped), "--lr", f"{rate:g}"])


def _written(found: Rise, rate: float, file: Path | None) -> list[str]:
    """Draw what happened, and list it beside; gives the files."""
    if file is None:
        return []
    smooth = found.smooth
    low, high = min(smooth), max(smooth[0], *smooth[: len(smooth) // 2])
    up = Axis("loss, smoothed; of each step, faint", max(0.0, low - 0.1 * (high - low)), high + 0.5 * (high - low))
    across = Axis("learning rate", found.rates[0], found.rates[-1], "log")
    title = "The loss while the learning rate rises"
    mark = (rate, f"suggested: {rate:g}")
    save_picture(curve(found.rates, smooth, across=across, up=up, title=title, under=found.losses, mark=mark), file)
    rows = zip(found.rates, found.losses, smooth, strict=True)
    numbers = file.with_suffix(".csv")
    write_result(numbers, csv_text(("lr", "loss", "smoothed"), rows))
    return [str(file), str(numbers)]
