"""From the texts in the columns of a source to classes, parts and groups, with the place of whatever cannot be used."""

import re
import unicodedata
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Ignored, Index, Store, Strings, naturally
from tellapart.data.sources.folder import refuse_twins
from tellapart.data.sources.layout import PART_NAMES
from tellapart.data.sources.listing import shown
from tellapart.errors import DataError
from tellapart.names import PARTS

UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no class name may hold: control characters, line ends, halves of characters."""
Place = Callable[[int], str]
"""From a row to where it stands, in words."""


@dataclass
class Coded:
    """A column of few different texts: each text once, and its number for every row (N)."""

    codes: array = field(default_factory=lambda: array("q"))
    texts: dict[str, int] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Append the text of one row."""
        self.codes.append(self.texts.setdefault(text, len(self.texts)))

    def text(self, row: int) -> str:
        """The text of one row."""
        return next(text for text, code in self.texts.items() if code == self.codes[row])

    def take(self, rows: Sequence[int]) -> "Coded":
        """The column of some rows, in their order; texts that none of them has are gone."""
        if len(rows) == len(self.codes):
            return self
        texts, column = list(self.texts), Coded()
        for row in rows:
            column.add(texts[self.codes[row]])
        return column

    def numbers(self) -> NDArray[np.int64]:
        """The number of each row's text (N)."""
        return np.array(self.codes, np.int64)

    def where(self, text: str, at: Place) -> str:
        """The place of the first row that holds a text, and how many more do."""
        rows = np.flatnonzero(self.numbers() == self.texts[text])
        return at(int(rows[0])) + (f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else "")


def assembled(
    name: str,
    keys: Strings,
    columns: Mapping[str, Coded],
    store: Store,
    at: Callable[[str], Place],
    *,
    known: Sequence[str] = (),
    ignored: Sequence[Ignored] = (),
    said: Sequence[str] = (),
) -> Index:
    """The Index of the texts in the columns label, split and group. at: from the role of a column to its places."""
    classes, labels, of_classes = classes_of(columns["label"], at("label"), known)
    parts, of_parts = parts_of(columns.get("split"), len(labels), at("split"))
    groups, of_groups = groups_of(columns.get("group"))
    return Index(
        name=name,
        classes=classes,
        keys=keys,
        labels=labels,
        parts=parts,
        groups=groups,
        store=store,
        ignored=tuple(ignored),
        said=(*said, *of_classes, *of_parts, *of_groups),
    )


def classes_of(
    column: Coded, at: Place, known: Sequence[str] = ()
) -> tuple[tuple[str, ...], NDArray[np.int64], list[str]]:
    """The class names, the labels (N), and what is to be said of them.

    known: the names that numbers stand for, in the order to keep; without them the texts are names, sorted naturally.
    Raises DataError for an empty label, one that cannot be shown or has no name, texts that differ by case only, and
    when there is one class only.
    """
    known = [unicodedata.normalize("NFC", name) for name in known]
    names = [_class_name(text, known, column, at) for text in column.texts]
    classes = naturally(set(names)) if not known else [name for name in dict.fromkeys(known) if name in set(names)]
    text_of = dict(zip(names, column.texts, strict=True))
    if not known:  # names that a schema lists are meant so; those that someone typed are hardly
        refuse_twins(classes, lambda name: f"{column.where(text_of[name], at)}: ")
    if len(classes) < 2:
        raise DataError(f"There is only one class, '{classes[0]}'.", "Telling apart needs two or more.")
    number = {name: n for n, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], np.int64)[column.numbers()]
    return tuple(classes), labels, _remarks(classes, known)


def _class_name(text: str, known: Sequence[str], column: Coded, at: Place) -> str:
    name = text
    if known and text:
        if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < len(known)):
            raise DataError(
                f"{column.where(text, at)}: {text[:40]!a} is none of the class numbers 0 to {len(known) - 1}.",
                "Give each picture a class, or remove the rows that have none.",
            )
        name = known[int(text)]
    if not name:
        raise DataError(f"{column.where(text, at)}: the label is empty.", "Give it a class, or remove the row.")
    if UNSHOWN.search(name):
        raise DataError(
            f"{column.where(text, at)}: the label {name[:40]!a} holds a control character.", "Repair the label."
        )
    return unicodedata.normalize("NFC", name)


def _remarks(classes: Sequence[str], known: Sequence[str]) -> list[str]:
    """What is to be said of names without a picture."""
    absent = [shown(name) for name in known if name not in classes]
    listed = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
    return [f"{len(absent)} of {len(known)} class names have no picture: {listed}."] if absent else []


def parts_of(column: Coded | None, count: int, at: Place) -> tuple[NDArray[np.uint8], list[str]]:
    """The parts (N), and what is to be said of them. An empty text is a row that is not placed; one part alone is none.

    Raises DataError for a text that is no part's name.
    """
    parts = np.full(count, NO_PART, np.uint8)
    if column is None or not any(column.texts):
        return parts, []
    for text in column.texts:
        if text and text.casefold() not in PART_NAMES:
            raise DataError(
                f"{column.where(text, at)}: {text[:40]!a} is not the name of a part.",
                f'Write one of: {", ".join(PART_NAMES)}; or leave the column out with --columns "split=".',
            )
    places = np.array([PART_NAMES.get(text.casefold(), NO_PART) for text in column.texts], np.uint8)
    if len(set(places.tolist())) == 1:
        return parts, [f"Only the part {next(iter(column.texts))} is there: its pictures are split anew."]
    parts = places[column.numbers()]
    counts = [(name, int((parts == n).sum())) for n, name in [*enumerate(PARTS), (NO_PART, "not placed")]]
    return parts, [f"Parts as given: {', '.join(f'{n:,} {name}' for name, n in counts if n)}."]


def groups_of(column: Coded | None) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The groups (N), and what is to be said of them. A row with an empty text is a group of its own."""
    if column is None:
        return None, []
    groups = column.numbers()
    alone = np.flatnonzero(groups == column.texts.get("", -1))
    groups[alone] = len(column.texts) + np.arange(len(alone))
    said = f"{len(column.texts) - bool(len(alone)):,} groups of pictures are named"
    return groups, [f"{said}; {len(alone):,} pictures have none and stand alone." if len(alone) else f"{said}."]
