"""What pictures are sliced by: their brightness, size, aspect or group, or a column of a table."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tellapart.data.pictures import size_of
from tellapart.data.sources.rows import CSV
from tellapart.errors import DataError, UsageError, did_you_mean, refuse_marks
from tellapart.evaluation.metrics import top_k_hits
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.slices import Slice, slices
from tellapart.run import Run
from tellapart.workflow.begin import recipe_of
from tellapart.workflow.choose import open_for

KEYS = ("key", "path", "file", "filename", "image", "picture")
"""Columns that may name the picture of a row, the first that is there."""


def sliced(run: Run, predictions: Predictions, by: str) -> list[Slice]:
    """The slices of a run's judged pictures, the worst first.

    `by` is brightness, size, aspect, group, or FILE.csv:COLUMN. Raises UsageError for anything else, DataError for a
    table that does not name the pictures.
    """
    refuse_unknown(by)
    refuse_marks(predictions.marks is not None, "--slice")
    table, _, column = by.rpartition(":")
    values = WAYS[by](run, predictions) if by in WAYS else _of_table(Path(table), column, predictions)
    hits = top_k_hits(predictions.logits, predictions.labels, 1)
    return slices(hits, values, predictions.part, groups=predictions.groups)


def refuse_unknown(by: str) -> None:
    """Raises UsageError, or DataError, for what pictures cannot be sliced by, before any is judged."""
    if by in WAYS:
        return
    table, colon, column = by.rpartition(":")
    if not colon:
        raise UsageError(f"Pictures are not sliced by '{by}'.", f"By {', '.join(WAYS)}, or FILE.csv:COLUMN.")
    if not Path(table).is_file():
        raise UsageError(
            f"There is no table '{table}'.", "Name a CSV file with a header and a column: FILE.csv:COLUMN."
        )
    header = CSV.header(Path(table))
    if column not in header:
        raise UsageError(f"{Path(table).name} has no column '{column}'.", did_you_mean(column, header))
    if not set(KEYS) & set(header):
        raise DataError(f"No column of {Path(table).name} names the pictures.", f"Call it {' or '.join(KEYS[:2])}.")


def _brightness(run: Run, predictions: Predictions) -> list[str]:
    """The mean of the small copy, from 0 to 1."""
    if predictions.thumbnails is None:
        raise DataError(f"The predictions of {run.name} hold no small copies to see the brightness of.")
    return [f"{one.mean() / 255:.3f}" for one in predictions.thumbnails]


def _sizes(run: Run, predictions: Predictions) -> list[tuple[int, int]]:
    """Height and width of each file, by its header."""
    recipe = recipe_of(run)
    index = open_for(recipe, recipe.data.source)
    rows = {key: row for row, key in enumerate(index.keys)}
    if missing := [key for key in predictions.keys if key not in rows]:
        said = f"{len(missing):,} of {len(predictions):,} pictures are no longer in {recipe.data.source}: {missing[0]}."
        raise DataError(said, "Slice by brightness or group, which need no files.")
    return [size_of(index, rows[key])[:2] for key in predictions.keys]


def _groups(run: Run, predictions: Predictions) -> list[str]:
    if predictions.groups is None:
        raise DataError(f"The pictures of {run.name} have no groups.", "`train SOURCE --group-by …` makes them.")
    first = {}  # a group has a number only: one of its pictures tells which it is
    for group, key in zip(predictions.groups.tolist(), predictions.keys, strict=True):
        first.setdefault(group, f"group {group}, of {Path(key).name}")
    return [first[group] for group in predictions.groups.tolist()]


WAYS: Mapping[str, Callable[[Run, Predictions], list[str]]] = {
    "brightness": _brightness,
    "size": lambda run, predictions: [str(min(size)) for size in _sizes(run, predictions)],
    "aspect": lambda run, predictions: [f"{wide / high:.3f}" for high, wide in _sizes(run, predictions)],
    "group": _groups,
}


def _of_table(table: Path, column: str, predictions: Predictions) -> list[str]:
    """The cells of a column, by the key of the picture, or the name of its file where that is told apart by it."""
    header = CSV.header(table)
    name = next(one for one in KEYS if one in header)
    cells = {key: value for _, (key, value) in CSV.rows(table, [name, column])}
    once = all(len({Path(key).name for key in keys}) == len(keys) for keys in (cells, predictions.keys))
    short = {Path(key).name: value for key, value in cells.items()} if once else {}
    found = [cells.get(key, short.get(Path(key).name, "")) for key in predictions.keys]
    if not any(found):
        raise DataError(f"{table.name} names none of the {len(found):,} pictures, such as {predictions.keys[0]}.")
    return found
