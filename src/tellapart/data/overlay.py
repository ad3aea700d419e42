"""The overlay: a reviewed list of doubtful labels, laid over the training part. Files stay as they are."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tellapart.data.index import Ignored
from tellapart.errors import DataError, did_you_mean, refuse_marks
from tellapart.files import read_text
from tellapart.names import PARTS
from tellapart.recipe import printable

if TYPE_CHECKING:
    from tellapart.data.pictures import Pictures

COLUMNS = ("key", "digest", "given", "suggested", "score", "decision")
"""What `check --labels-out` writes; `decision` is empty (keep), drop, or the name of a class."""


class _Decision(NamedTuple):
    line: int
    key: str
    digest: str
    decision: str


def overlaid(pictures: "Pictures", file: str) -> tuple["Pictures", list[str]]:
    """The pictures with the decisions of an overlay applied to the training part, and what has to be said.

    A row counts when a picture has its key and its pixels. Validation and test pictures are never dropped or
    relabelled: they are named. Raises DataError for a table that is none, an unknown class, or a changed picture,
    UsageError where pictures may have several classes.
    """
    if not file:
        return pictures, []
    refuse_marks(pictures.index.marks is not None, "An overlay")
    index, where = pictures.index, {key: row for row, key in enumerate(pictures.index.keys)}
    labels, digests, dropped, left = index.labels.copy(), index.hexes(), [], []
    for one in _decisions(Path(file)):
        row = where.get(one.key)
        if row is None:
            left.append(f"{one.key} (no such picture)")
        elif digests[row] != one.digest:
            raise DataError(
                f"{file}, line {one.line}: {printable(one.key)} has other pixels than when it was reviewed.",
                "Look at it again: `tellapart check` writes a new list with --labels-out.",
            )
        elif (label := _class(one, index.classes, file)) is not None and index.parts[row] == PARTS.index("train"):
            labels[row] = label
        elif index.parts[row] == PARTS.index("train"):
            dropped.append(row)
        else:
            left.append(f"{one.key} ({PARTS[index.parts[row]]} part)")
    changed = int((labels != index.labels).sum())
    ignored = tuple(Ignored(key=index.keys[row], reason=f"dropped by {file}") for row in dropped)
    relabelled = replace(pictures, index=replace(index, labels=labels, ignored=(*index.ignored, *ignored)))
    from tellapart.data.pictures import only  # here, so that a check, which writes overlays, loads no torch

    kept = only(relabelled, np.setdiff1d(np.arange(len(index)), dropped))
    for name, count in zip(index.classes, kept.index.counts("train").tolist(), strict=True):
        if not count:
            raise DataError(f"{file} leaves class '{name}' without a training picture.", "Keep one, or add pictures.")
    more = f", … ({len(left)} in all)" if len(left) > 3 else ""
    untouched = f"; left as they are: {', '.join(left[:3])}{more}" if left else ""
    return kept, [printable(f"{file}: {len(dropped)} training pictures dropped, {changed} relabelled{untouched}")]


def _decisions(file: Path) -> list[_Decision]:
    """The rows that decide something."""
    reader = csv.DictReader(io.StringIO(read_text(file, errors="surrogateescape"), newline=""), strict=True)
    found: dict[str, _Decision] = {}
    try:
        missing = {"key", "digest", "decision"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{file} has no column {' or '.join(sorted(missing))}.", f"An overlay has {', '.join(COLUMNS)}."
            )
        for row in reader:
            one = _Decision(reader.line_num, row["key"], row["digest"] or "", (row["decision"] or "").strip())
            if one.decision and found.setdefault(one.key, one).decision != one.decision:
                raise DataError(f"{file}, line {one.line}: {printable(one.key)} is decided twice, in two ways.")
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} is not CSV: {error}.") from error
    return list(found.values())


def _class(one: _Decision, classes: Sequence[str], file: str) -> int | None:
    """The class that is decided on; None to drop the picture."""
    if one.decision == "drop":
        return None
    if one.decision not in classes:
        raise DataError(
            f"{file}, line {one.line}: '{printable(one.decision)}' is not a decision.",
            f"Write drop, the name of a class, or nothing. {did_you_mean(one.decision, ['drop', *classes])}",
        )
    return classes.index(one.decision)
