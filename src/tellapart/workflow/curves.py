"""Curves of the learning rate: of a training's schedule, step by step, and of the search for a rate."""

from collections.abc import Sequence
from pathlib import Path

from tellapart.figures.curve import Axis, curve
from tellapart.figures.grid import save_picture
from tellapart.files import csv_text, write_result
from tellapart.training.schedule import rate_of
from tellapart.workflow.fitting import Pieces

ROWS, COLUMNS = 4, 60
BARS = " ▁▂▃▄▅▆▇█"
ON_VALIDATION = "dropped when validation stops improving, which is not drawn"


def rates_of_steps(pieces: Pieces) -> list[float]:
    """The learning rate of every step, as far as it is known before the training: not what `plateau` learns."""
    steps = pieces.plan.max_steps
    rate = rate_of(
        pieces.prepared.recipe.optim, total_steps=steps, steps_per_epoch=len(pieces.train), first=pieces.first
    )
    return [rate(step) for step in range(steps)]


def write_schedule(pieces: Pieces, path: Path) -> str:
    """Draw the learning rate of every step, or list it in a .csv; gives what to say of it."""
    rates, optim = rates_of_steps(pieces), pieces.prepared.recipe.optim
    note = f" ({ON_VALIDATION})" if optim.schedule == "plateau" else ""
    if path.suffix == ".csv":
        rows = ((n + 1, n // len(pieces.train) + 1, rate) for n, rate in enumerate(rates))
        write_result(path, csv_text(("step", "epoch", "lr"), rows))
    else:
        steps = [n + 1 for n in range(len(rates))]
        across, up = Axis("step", 0, len(rates)), Axis("learning rate", 0, 1.05 * max(rates))
        title = f"{optim.schedule}: {len(rates):,} steps, {pieces.plan.epochs} epochs{note}"
        save_picture(curve(steps, rates, across=across, up=up, title=title), path)
    return f"schedule: the rate of {len(rates):,} steps is in {path}{note}"


def in_letters(values: Sequence[float]) -> list[str]:
    """The values from 0 to their largest as a small curve of block letters, with the ends written beside it.

    >>> in_letters([0.0, 0.25, 0.5, 1.0])
    ['       1    █', '            █', '           ██', '       0  ███']
    """
    shown = [values[n * len(values) // COLUMNS] for n in range(COLUMNS)] if len(values) > COLUMNS else values
    top = max(values)
    lines = []
    for row in range(ROWS - 1, -1, -1):
        eighths = [round(value / top * ROWS * 8) - 8 * row for value in shown]
        label = f"{top:.4g}" if row == ROWS - 1 else "0" if not row else ""
        lines.append(f"{label:>8} " + "".join(BARS[min(8, max(0, n))] for n in eighths).rstrip())
    return lines
