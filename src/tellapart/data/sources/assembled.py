"""From the texts in the columns of a source to classes, parts and groups, with the place of whatever cannot be used."""

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Ignored, Index, Store, Strings, naturally, rarest
from tellapart.data.sources.folder import refuse_twins
from tellapart.data.sources.layout import PART_NAMES, parts_among
from tellapart.data.sources.listing import few, shown
from tellapart.data.sources.rows import ENTRY
from tellapart.errors import DataError
from tellapart.names import PARTS

UNSHOWN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no class name may hold: control characters, line ends, halves of characters."""
NOTHING = {"null", "none", "nan", "n/a", "na"}
"""How programs write that there is nothing."""
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
    several: str = "",
) -> Index:
    """The Index of the texts in the columns label, split and group. at: from the role of a column to its places;
    several: the sign between the classes of a label, where a picture may have several or none.
    """
    marks = None
    if several:
        classes, marks, of_classes = marks_of(columns["label"], at("label"), several, known)
        labels = rarest(marks)
    else:
        classes, labels, of_classes = classes_of(columns["label"], at("label"), known)
    parts, of_parts = parts_of(columns.get("split"), len(labels), at("split"))
    if "split" not in columns:
        of_parts = _folders_like_parts(keys)
    groups, of_groups = groups_of(columns.get("group"))
    return Index(
        name=name,
        classes=classes,
        keys=keys,
        labels=labels,
        parts=parts,
        groups=groups,
        marks=marks,
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
    when there is no class.
    """
    known = [unicodedata.normalize("NFC", name) for name in known]
    names = [_class_name(text, known, lambda at_=text: column.where(at_, at)) for text in column.texts]
    classes = _in_order(dict(zip(names, column.texts, strict=True)), known, column, at)
    number = {name: n for n, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], np.int64)[column.numbers()]
    return tuple(classes), labels, _remarks(classes, known)


def marks_of(
    column: Coded, at: Place, several: str, known: Sequence[str] = ()
) -> tuple[tuple[str, ...], NDArray[np.int8], list[str]]:
    """The class names, which of them each row has (N K), and what is to be said of them.

    several: the sign between the names in a text; an empty text, or none at all, is a picture of none of the classes, a
    list brings its own signs. Raises DataError as `classes_of` does, but for empty labels.
    """
    known = [unicodedata.normalize("NFC", name) for name in known]
    cells = [
        [_class_name(one, known, lambda at_=text: column.where(at_, at)) for one in entries(text, several)]
        for text in column.texts
    ]
    text_of = {name: text for text, cell in zip(column.texts, cells, strict=True) for name in cell}
    classes = _in_order(text_of, known, column, at)
    number, table = {name: n for n, name in enumerate(classes)}, np.zeros((len(cells), len(classes)), np.int8)
    for row, cell in enumerate(cells):
        table[row, [number[name] for name in cell]] = 1
    twice = np.array([len(set(cell)) < len(cell) for cell in cells], bool)[column.numbers()]
    marks = table[column.numbers()]
    bare = int((column.numbers() == column.texts.get("", -1)).sum())
    said = [*_of_marks(marks, several, int(twice.sum()), bare), *_like_nothing(classes, marks)]
    return tuple(classes), marks, [*_remarks(classes, known), *said]


def entries(text: str, several: str) -> list[str]:
    """The names in the text of a cell: the entries of a list, or what stands between the signs; of an empty one, none.

    >>> entries("cat; dog", ";"), entries("", ";")
    (['cat', 'dog'], [])
    """
    parts = text.split(ENTRY) if text.startswith(ENTRY) else text.split(several.strip() or None)
    return [part.strip() for part in parts if part.strip()]


def _of_marks(marks: NDArray[np.int8], several: str, twice: int, bare: int) -> list[str]:
    each = marks.sum(axis=1)
    said = f"{int((each > 1).sum()):,} of {len(marks):,} pictures have several classes, {int((each == 0).sum()):,} none"
    said += f" ({bare:,} for want of a label: an empty cell, or null)" * bool(bare)
    said = [f"Each picture may have several classes, or none (multi-label): {said}."]
    if not (each > 1).any():
        said.append(f"Is {several!r} the sign between them? No label holds it.")
    return said + [f"{twice:,} labels name a class twice: it counts once."] * bool(twice)


def _like_nothing(classes: Sequence[str], marks: NDArray[np.int8]) -> list[str]:
    """What is to be said of classes that are called as some programs write an empty cell."""
    counts = marks.sum(axis=0).tolist()
    found = [(name, n) for name, n in zip(classes, counts, strict=True) if name.casefold() in NOTHING]
    have = {True: "picture has", False: "pictures have"}
    return [f"{n:,} {have[n == 1]} the class '{name}'; a cell for none of the classes is empty." for name, n in found]


def lists_noted(texts: Iterable[str]) -> list[str]:
    """What is to be said of labels that look as if they named several classes each."""
    for sign, least in ((";", 1), ("|", 1), (",", 1), (" ", 3)):  # names of two words are no lists
        cells = {text: entries(text, sign) for text in texts}
        lists = [text for text, cell in cells.items() if len(cell) > 1]
        if lists and least * len({name for cell in cells.values() for name in cell}) < len(cells):
            like = few([repr(shown(text)) for text in lists])
            return [f"Do labels such as {like} name several classes? --several '{sign}' reads them so."]
    return []


def _in_order(text_of: Mapping[str, str], known: Sequence[str], column: Coded, at: Place) -> list[str]:
    """The names, each of which is in a text, in the order of the classes."""
    classes = naturally(text_of) if not known else [name for name in dict.fromkeys(known) if name in text_of]
    if not known:  # names that a schema lists are meant so; those that someone typed are hardly
        refuse_twins(classes, lambda name: f"{column.where(text_of[name], at)}: ")
    if not classes:
        raise DataError("No label names a class.", "Telling apart needs two or more.")
    return classes


def _class_name(text: str, known: Sequence[str], where: Callable[[], str]) -> str:
    name = text
    if known and text and ENTRY not in text:
        if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) < len(known)):
            raise DataError(
                f"{where()}: {text[:40]!a} is none of the class numbers 0 to {len(known) - 1}.",
                "Give each picture a class, or remove the rows that have none.",
            )
        name = known[int(text)]
    if not name:
        hint = "Give it a class, or remove the row; --several ';' is for pictures of several classes, or none."
        raise DataError(f"{where()}: the label is empty.", hint)
    if name.startswith(ENTRY):
        raise DataError(f"{where()}: the label is a list.", "--several ';' takes each entry as a class of the picture.")
    if UNSHOWN.search(name):
        raise DataError(f"{where()}: the label {name[:40]!a} holds a control character.", "Repair the label.")
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


def _folders_like_parts(keys: Sequence[str]) -> list[str]:
    """What is to be said where pictures lie in folders called as parts, and no column says which part they are of."""
    folders = {key.rpartition("/")[0] for key in keys}
    named = parts_among({name for folder in folders for name in folder.split("/")})
    said = f"The pictures lie in {named}, but no column says their part: they are split anew."
    return [f"{said} A column split keeps them."] if named else []


def groups_of(column: Coded | None) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The groups (N), and what is to be said of them. A row with an empty text is a group of its own."""
    if column is None:
        return None, []
    groups = column.numbers()
    alone = np.flatnonzero(groups == column.texts.get("", -1))
    groups[alone] = len(column.texts) + np.arange(len(alone))
    said = f"{len(column.texts) - bool(len(alone)):,} groups of pictures are named"
    return groups, [f"{said}; {len(alone):,} pictures have none and stand alone." if len(alone) else f"{said}."]
