"""What was asked of the labels, and what the ways that read files one by one have in common: listing, parts, Index."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Ignored, Index, Strings
from tellapart.data.sources.assembled import UNSHOWN, Coded, classes_of
from tellapart.data.sources.folder import FileStore
from tellapart.data.sources.layout import place_of
from tellapart.data.sources.listing import Walk, few, shown
from tellapart.errors import DataError, UsageError
from tellapart.names import PARTS


@dataclass(frozen=True)
class Labels:
    """How pictures get their labels: a way of `names.LABELS`, the pattern of file names, the columns of a table.

    several: the sign between the classes in a cell of a table, where a picture may have several or none, else ''.
    """

    way: str = "auto"
    pattern: str = ""
    columns: str = ""
    several: str = ""


AUTO = Labels()
"""Find out how the pictures are labelled."""


def pairs(text: str, *, flag: str) -> dict[str, str]:
    """What a flag such as `a=x,b=y` says. Raises UsageError where an `=` or a name is missing, or a name comes twice.

    >>> pairs('path=file, label=breed', flag="--columns")
    {'path': 'file', 'label': 'breed'}
    """
    found: dict[str, str] = {}
    for entry in listed(text):
        left, equals, right = (word.strip() for word in entry.partition("="))
        unnamed = (not right or "=" in right) and flag != "--columns"  # there an empty name leaves a role out
        if not left or not equals or unnamed or left in found:
            why = "comes twice" if left in found else "is not of the form a=b"
            raise UsageError(f"{flag}: {entry!r} {why}.", f"For example {flag} 'a=x,b=y'.")
        found[left] = right
    return found


def listed(text: str) -> list[str]:
    """The names in a text, parted by commas; a name with a comma stands in double quotes. Raises UsageError.

    >>> listed('a, "b, c"')
    ['a', 'b, c']
    """
    if UNSHOWN.search(text) or len(text) > csv.field_size_limit():
        raise UsageError(
            f"{text[:40]!a} holds a control character, or is too long.", "Give names on one line, parted by commas."
        )
    return [name.strip() for row in csv.reader([text], skipinitialspace=True) for name in row if name.strip()]


def every_file(root: str) -> tuple[Walk, list[str]]:
    """The keys of all pictures below `root` in natural order; the walk names everything else in `ignored`."""
    walk = Walk(root)
    return walk, list(walk.class_folder("", walk.root))


def placed(keys: Sequence[str]) -> NDArray[np.uint8]:
    """The part (N) of each key: its first or second folder is called train, val, test …; NO_PART with one such part.

    Raises DataError when some keys lie in parts and others do not, or when none is training.
    """
    above = [[place_of(name) for name in key.split("/")[:-1][:2]] for key in keys]
    places = [next((place for place in places if place != NO_PART), NO_PART) for places in above]
    found = set(places) - {NO_PART}
    if len(found) < 2:
        return np.full(len(keys), NO_PART, np.uint8)
    if NO_PART in places:
        outside = [key for key, place in zip(keys, places, strict=True) if place == NO_PART]
        raise DataError(
            f"{len(outside):,} pictures lie outside the part folders, such as {few(outside)}.",
            f"Put them into one of the parts that are there: {', '.join(PARTS[place] for place in sorted(found))}.",
        )
    if 0 not in found:
        raise DataError("There are validation and test folders and no train/ folder.", "Add the folder train/.")
    return np.array(places, np.uint8)


def labelled(
    walk: Walk, keys: Sequence[str], names: Sequence[str], *, said: str, groups: Sequence[str] | None = None
) -> Index:
    """The Index of these keys with one class name each, and one group: in natural order of part, class and path.

    Raises DataError for class names that cannot be told apart or printed, and for fewer than two.
    """
    texts, parts = Coded(), placed(keys)
    for name in names:
        texts.add(name)
    classes, labels, _ = classes_of(texts, lambda row: shown(keys[row]))
    order = np.lexsort((labels, parts))
    column = Strings.of(keys).take(order)
    return Index(
        name=os.path.basename(walk.root) or "pictures",
        classes=classes,
        keys=column,
        labels=labels[order],
        parts=parts[order],
        store=FileStore(walk.root, column),
        groups=None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)[order],
        ignored=tuple(Ignored(key=key, reason=why) for key, why in sorted(walk.ignored)),
        said=(said,),
    )
