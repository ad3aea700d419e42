"""Courses: how runs went from epoch to epoch, raw and smoothed, as one figure or as numbers. No torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tellapart.errors import MismatchError, UsageError
from tellapart.figures.grid import save_picture
from tellapart.figures.lines import COLOURS, Line, Panel, lines
from tellapart.figures.plot import smoothed
from tellapart.figures.sheet import Sheet, as_image, as_svg
from tellapart.files import csv_text, write_result
from tellapart.workflow.contender import Contender, contender, in_a_row

KINDS = (".png", ".svg", ".csv")
WORDS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "val_mean_average_precision": "validation mean average precision",
}
ONE_EACH, MARKED = ("train_loss", "val_loss", "val_accuracy"), ("train_loss", "val_loss", "val_mean_average_precision")
"""What is drawn where each picture has one class, and where it may have several."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One number by epoch, from 1: of one training, or the mean of several with its standard deviation `sd`."""

    name: str
    quantity: str
    trainings: int
    epochs: list[int]
    values: list[float]
    sd: list[float]
    smoothed: list[float]


def draw_courses(runs: Path, names: Sequence[str], path: Path, *, smooth: float) -> str:
    """Write the curves of some runs to a .png, .svg or .csv; gives what to say of it.

    Raises UsageError for another kind of file, for a run without an epoch, or more runs than there are colours.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"{path} is no kind of figure that is drawn.", f"Let it end in {', '.join(KINDS)}.")
    every = [contender(runs, name) for name in names]
    if len(every) > len(COLOURS) and path.suffix != ".csv":
        many = f"{len(every)} runs in one figure cannot be told apart."
        raise UsageError(many, f"Name {len(COLOURS)} at most, or write a .csv.")
    quantities = MARKED if _marked(every) else ONE_EACH
    found = [[_course(one, quantity, smooth) for quantity in quantities] for one in every]
    if path.suffix == ".csv":
        columns = ("run", "trainings", "quantity", "epoch", "value", "sd", "smoothed")
        write_result(path, csv_text(columns, (row for three in found for one in three for row in _rows(one))))
    else:
        sheet = _drawn(found, smooth)
        save_picture(as_image(sheet), path) if path.suffix == ".png" else write_result(path, as_svg(sheet))
    return f"curves of {in_a_row([one.name for one in every])}, smoothed by {smooth:g}: {path.absolute()}"


def _course(one: Contender, quantity: str, weight: float) -> Course:
    """The mean over trainings as far as all of them went; an epoch that was repeated counts as it went last."""
    every = [
        {record["epoch"] + 1: record[quantity] for _, record in run.records() if record.get("kind") == "epoch"}
        for run in one.trainings
    ]
    epochs = [epoch for epoch in every[0] if all(epoch in course for course in every)]
    if not epochs:
        hint = "A head that is fitted at once has none; a training that was just begun has none yet."
        raise UsageError(f"{one.name} has no epoch to draw.", hint)
    table = np.array([[math.nan if course[at] is None else course[at] for at in epochs] for course in every])
    values = table.mean(axis=0).tolist()
    return Course(
        name=one.name,
        quantity=quantity,
        trainings=len(every),
        epochs=epochs,
        values=values,
        sd=table.std(axis=0, ddof=1).tolist() if len(every) > 1 else [],
        smoothed=smoothed(values, weight),
    )


def _marked(every: Sequence[Contender]) -> bool:
    """Whether the pictures of all runs may have several classes. Raises MismatchError where those of some have one."""
    kinds = {one.recipe.get("data.several", '""') != '""' for one in every}
    if len(kinds) > 1:
        raise MismatchError(
            "The pictures of some runs may have several classes each, those of others have one.", "Draw them apart."
        )
    return kinds == {True}


def _rows(one: Course) -> Iterator[tuple[object, ...]]:
    for n, (epoch, value, smooth) in enumerate(zip(one.epochs, one.values, one.smoothed, strict=True)):
        yield one.name, one.trainings, one.quantity, epoch, value, one.sd[n] if one.sd else "", smooth


def _drawn(found: Sequence[Sequence[Course]], weight: float) -> Sheet:
    """Validation loss and accuracy of every run; of one alone, its training loss as well."""

    def line(one: Course, number: int) -> Line:
        return Line(number=number, xs=one.epochs, ys=one.values, smooth=one.smoothed if weight else (), band=one.sd)

    names = [f"{of.name} (mean ± sd of {of.trainings})" if of.trainings > 1 else of.name for of, *_ in found]
    title = f"from epoch to epoch{f', smoothed by {weight:g} (light: as measured)' if weight else ''}"
    if len(found) == 1:
        train, loss, accuracy = found[0]
        panels = [
            Panel(across="epoch", up="mean loss", lines=[line(train, 0), line(loss, 1)]),
            Panel(across="epoch", up=WORDS[accuracy.quantity].removeprefix("validation "), lines=[line(accuracy, 1)]),
        ]
        return lines(f"{names[0]}: {title}", panels, ["training", "validation"])
    panels = [
        Panel(across="epoch", up=WORDS[of[0].quantity], lines=[line(one, n) for n, one in enumerate(of)])
        for of in list(zip(*found, strict=True))[1:]
    ]
    return lines(f"{len(found)} runs {title}", panels, names)
