"""The pictures that several models judged, found in the predictions of each; what none of them may be compared on."""

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import MismatchError
from tellapart.workflow.contender import Contender, in_a_row, names_of

Rows = NDArray[np.int64]


def common_rows(every: Sequence[Contender], part: str) -> tuple[list[Rows], list[str]]:
    """The rows of each contender's predictions that all judged, in one order, and what has to be known about that.

    A picture is known by its pixels, where all have their digests, else by its key. What any of them trained on is left
    out, and so is what has another class in another run.
    """
    if not all(one.has_digests for one in every):
        every = [one.by_key() for one in every]
    named = [one.named(one.said[0].keys) for one in every]
    places = [_numbered(names) for names in named]
    trained = [set(one.named(one.trained)) for one in every] if len(every) > 1 else []
    shared = [name for name in places[0] if all(name in place for place in places)]
    kept = [name for name in shared if not any(name[0] in learned for learned in trained)]
    rows = [np.array([place[name] for name in kept], np.int64) for place in places]
    labels = np.array([names_of(one.said[0], of) for one, of in zip(every, rows, strict=True)]).reshape(len(every), -1)
    same = (labels == labels[0]).all(axis=0)
    notes = []
    if any(len(place) != len(shared) for place in places):
        counts = in_a_row([f"{len(place):,} of {one.name}" for one, place in zip(every, places, strict=True)])
        notes.append(f"the splits differ: {counts} were judged, {len(shared):,} by all")
    for j, k in permutations(range(len(every)), 2):
        if leaked := sum(name in trained[k] for name in named[j]):
            said = f"{one_part(every[j], part)} pictures of {every[j].name}"
            notes.append(f"{said} that are training pictures of {every[k].name}: {leaked:,}, left out")
    if changed := _changed(every, named[0]):
        notes.append(f"pictures with one name and other pixels: {changed:,}, not compared")
    if not same.all():
        notes.append(f"pictures with another class in another run: {int((~same).sum()):,}, left out")
    if not same.any():
        reasons = f" {notes[0][0].upper()}{'; '.join(notes)[1:]}." if notes else ""
        raise MismatchError(
            f"No picture can be compared between {in_a_row([one.name for one in every])}.{reasons}",
            "Train both with one split: the same data.split_seed, or --split runs/NAME/split.csv.",
        )
    return [of[same] for of in rows], notes


def one_part(one: Contender, part: str) -> str:
    """What to call the pictures that a contender was judged by."""
    return "out-of-fold" if one.folds else part


def _numbered(names: Sequence[str]) -> dict[tuple[str, int], int]:
    """The row of each picture; equal ones are told apart by their order."""
    seen: Counter[str] = Counter()
    found = {}
    for row, name in enumerate(names):
        found[name, seen[name]] = row
        seen[name] += 1
    return found


def _changed(every: Sequence[Contender], named: Sequence[str]) -> int:
    """How many keys of the first have other pixels in another."""
    pairs = list(zip(every[0].said[0].keys, named, strict=True))
    return sum(any(key in one.rows and one.named([key]) != [name] for one in every[1:]) for key, name in pairs)


def groups_of(every: Sequence[Contender], common: Sequence[Rows]) -> tuple[Rows | None, list[str]]:
    """The group of each common picture as a number, by the first run that knows of groups, and what to say of them."""
    for one, rows in zip(every, common, strict=True):
        if of := one.groups():
            keys = [one.said[0].keys[row] for row in rows.tolist()]
            names, number = np.unique([str(of.get(key, key)) for key in keys], return_inverse=True)
            told = f"the pictures come in {len(names):,} groups, and are judged by whole groups"
            return number.astype(np.int64), [told]
    return None, []
