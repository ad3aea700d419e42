"""The split as a file that can be read, edited and used again: key, class, part, group, digest, and fold if dealt."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Ignored, Index
from tellapart.data.split import TRAIN, VALIDATION
from tellapart.errors import DataError, UsageError, did_you_mean
from tellapart.files import csv_text, read_text
from tellapart.names import PARTS
from tellapart.recipe import printable

COLUMNS = ("key", "class", "part", "group", "digest")
OUT = "out"
"""What is written. Only `key` and `part` (or `fold`) are needed to read. A row with an empty part is placed anew; one
whose part is `out` leaves."""


def text_of(index: Index, *, folds: NDArray[np.int64] | None = None, of: Sequence[str] = ()) -> str:
    """The split of an index as CSV, one picture a row, then those of the keys `of` that are no longer in it, as `out`.

    The fold (N) of each picture is a last column when it is given.
    """
    groups = [""] * len(index) if index.groups is None else index.groups.tolist()
    classes, parts = map(index.called, range(len(index))), [PARTS[p] for p in index.parts.tolist()]
    columns: list[Iterable] = [index.keys, classes, parts, groups, index.hexes()]
    if folds is not None:
        columns.append(["" if fold < 0 else fold for fold in folds.tolist()])
    left = set(of).difference(index.keys) if len(of) > len(index) else ()
    gone = ([key, "", OUT, "", ""] for key in of if key in left)
    return csv_text([*COLUMNS, *(["fold"] if folds is not None else [])], chain(zip(*columns, strict=True), gone))


def read(path: Path, index: Index, *, folds: int = 0, fold: int | None = None) -> Index:
    """The index with the parts and groups that a split file gives it: found by key, else by digest.

    `fold`: the rows of this fold validate, the others train; `folds` is how many there should be.
    Raises DataError for a file that is no split, for pictures that it does not name, and for equal pictures in two
    parts; UsageError when it holds no folds, or another number of them.
    """
    try:
        rows = list(_rows(path, fold))
    except csv.Error as error:
        hint = "Is a double quote left open, or is the line end of another system?"
        raise DataError(f"{path} cannot be read as CSV: {error}.", hint) from error
    _refuse_other_folds(path, rows, folds)
    by_key, by_digest = {row["key"]: row for row in rows}, {row["digest"]: row for row in rows if row.get("digest")}
    digests = index.hexes()
    found = [by_key.get(key) or by_digest.get(digest) for key, digest in zip(index.keys, digests, strict=True)]
    _refuse_strangers(path, index, found, digests)
    known = [row for row in found if row is not None]
    gone = len(rows) - len({id(row) for row in known})
    said = [f"Split as in {path}{f', where {gone} more pictures are named' if gone else ''}."]
    labels = [index.called(n) for n, row in enumerate(found) if row is not None]
    other = sum(row.get("class", name) not in ("", name) for row, name in zip(known, labels, strict=True))
    said += [f"{other} pictures have another class there, which is not taken: --overlay changes labels."] * bool(other)
    parts = np.array([_part(row, fold) for row in known], np.uint8)
    groups = _groups(known)
    placed = replace(index, parts=parts, groups=index.groups if groups is None else groups, said=(*index.said, *said))
    return _without(placed, np.array([row.get("part") == OUT for row in known]), f"left out by {path.name}")


def _groups(rows: Sequence[Mapping[str, str]]) -> NDArray[np.int64] | None:
    """The groups (N) as numbers; a row without one is a group of its own. None when no row names one."""
    if not any(row.get("group") for row in rows):
        return None
    names = [row.get("group") or f"\0{n}" for n, row in enumerate(rows)]
    # by length first: what was written as 0 to 10 is then read as 0 to 10, and a split has one identity
    number = {name: n for n, name in enumerate(sorted(set(names), key=lambda name: (len(name), name)))}
    return np.array([number[name] for name in names], np.int64)


def _without(index: Index, leave: NDArray[np.bool_], reason: str) -> Index:
    if not leave.any():
        return index
    named = [Ignored(key=index.keys[int(row)], reason=reason) for row in np.flatnonzero(leave)]
    return replace(index.take(np.flatnonzero(~leave)), ignored=(*index.ignored, *named))


def _rows(path: Path, fold: int | None) -> Iterator[dict[str, str]]:
    """The rows of the file, once they are proved to be readable."""
    reader = csv.DictReader(io.StringIO(read_text(path, errors="surrogateescape").removeprefix("\ufeff")))
    columns = set(reader.fieldnames or ())
    if "key" not in columns or not columns & {"part", "fold"}:
        raise DataError(
            f"{path} is not a split: its first line is {','.join(reader.fieldnames or ())!r}.",
            f"A split has the columns {', '.join(COLUMNS)}. `tellapart split SOURCE` writes one.",
        )
    if fold is not None and "fold" not in columns:
        raise UsageError(f"{path} has no column 'fold'.", "Make it with `tellapart split SOURCE --folds 5`.")
    parts: dict[str, str] = {}
    keys: set[str] = set()
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        part, name = row.get("part") or "", row.get("digest") or row["key"]
        if row["key"] in keys:
            raise DataError(f"{where}: {printable(row['key'])} stands there twice.", "Keep one of the two lines.")
        keys.add(row["key"])
        if part not in ("", OUT, *PARTS):
            raise DataError(f"{where}: there is no part '{part}'.", did_you_mean(part, (*PARTS, OUT)))
        if fold is not None and not (row.get("fold") or "0").isdecimal():
            raise DataError(f"{where}: the fold '{row['fold']}' is not a number.", "Folds are counted from 0.")
        if part != OUT and parts.setdefault(name, part) != part:
            raise DataError(
                f"{where}: {row['key']} is in {part or 'no part'}, and an equal picture in {parts[name] or 'none'}.",
                "Equal pictures must not straddle parts: put them into one.",
            )
        yield row


def _refuse_other_folds(path: Path, rows: Sequence[Mapping[str, str]], folds: int) -> None:
    """A fold out of five is no fold out of two."""
    dealt = len({row["fold"] for row in rows if row.get("fold")}) if folds else 0
    if dealt != folds:
        raise UsageError(
            f"{path} deals {dealt} folds, and data.folds is {folds}.", f"Say --set data.folds={dealt}, or deal anew."
        )


def _part(row: Mapping[str, str], fold: int | None) -> int:
    if fold is not None and row.get("fold"):
        return VALIDATION if int(row["fold"]) == fold else TRAIN
    part = row.get("part")
    return PARTS.index(part) if part in PARTS else NO_PART


def _refuse_strangers(path: Path, index: Index, found: list, digests: list[str]) -> None:
    """Every picture must be named, and be the picture that was meant."""
    missing = [key for key, row in zip(index.keys, found, strict=True) if row is None]
    if missing:
        raise DataError(
            f"{path} does not name {len(missing)} of the {len(index)} pictures, such as {missing[0]}.",
            "Add them to it, with an empty part to have them placed, or make a new one: `tellapart split SOURCE`.",
        )
    for key, row, digest in zip(index.keys, found, digests, strict=True):
        if digest and row.get("digest") and row["digest"] != digest:
            raise DataError(
                f"{key} is not the picture that {path} was made with: its pixels are others.",
                "Bring back the old one, or empty its digest there to accept it.",
            )
