"""A folder of class folders, flat or with train, validation and test folders beside each other, as an Index.

What is refused stands here; `listing` walks the tree and `layout` tells parts from classes.
"""

import os
import shlex
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data import saved
from tellapart.data.index import Ignored, Index, Strings, naturally
from tellapart.data.sources.layout import Part, parts_of
from tellapart.data.sources.listing import PICTURES, Walk, archive_stem, few, shown, stamp
from tellapart.errors import DataError, StorageError, nearest


@dataclass(frozen=True)
class FileStore:
    """The bytes of files below a root folder. They are opened for reading only; nothing is ever written."""

    root: str
    keys: Strings

    def read(self, row: int, most: int = -1) -> bytes:
        """The bytes of one file, or its first ones. Raises StorageError when it cannot be read."""
        key = self.keys[row]
        try:
            # O_BINARY exists on Windows only, where a file would otherwise be read as text
            descriptor = os.open(os.path.join(self.root, key), os.O_RDONLY | getattr(os, "O_BINARY", 0))
            with os.fdopen(descriptor, "rb") as file:
                return file.read(most)
        except OSError as error:
            raise StorageError(
                f"{shown(key)} below {shown(self.root)} cannot be read: {error.strerror}.",
                "It was there when the folder was listed.",
            ) from error

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Size, time of the content and time of the inode of each file (n, 3); -1 for one that is gone."""
        found = [stamp(os.path.join(self.root, self.keys[int(row)])) for row in rows]
        return np.array(found, np.int64).reshape(-1, 3)


def folder(root: Path) -> Index:
    """The pictures below `root`, one class for each folder name; keys are paths below `root` with `/`.

    Rows are in natural order of part, class and path. Without part folders every row is unplaced (NO_PART).
    Files that are not pictures are named in `ignored`. No picture is opened. The listing of a large folder is kept
    and taken again while no folder in it changes.
    Raises DataError when the tree is not a set of classes, with the folder and what would work; StorageError when a
    folder cannot be read.
    """
    refuse_no_folder(root)
    real, begun = os.path.realpath(root), time.time_ns()
    if index := saved.opened(real, FileStore):
        return index
    walk = Walk(real)
    listed, said = parts_of(walk)
    names = _class_names(listed)
    _refuse_strangers(listed, names)
    _refuse_empty(listed, walk)
    keys, labels, parts = _columns(listed, names)
    index = Index(
        name=os.path.basename(walk.root) or "pictures",
        classes=tuple(unicodedata.normalize("NFC", n) for n in names),
        keys=keys,
        labels=labels,
        parts=parts,
        store=FileStore(walk.root, keys),
        ignored=tuple(Ignored(key=key, reason=why) for key, why in sorted(walk.ignored)),
        said=said,
    )
    if not walk.linked:  # what a link leads to can change without any of these folders changing
        saved.keep(index, real, walk.changed, begun=begun)
    return index


def _columns(parts: Sequence[Part], names: Sequence[str]) -> tuple[Strings, np.ndarray, np.ndarray]:
    """The keys, labels (N) int64 and parts (N) uint8, in the order of the index."""
    cells = [(part, label) for part in parts for label in range(len(names))]
    listed = [part.classes.get(names[label], Strings.of(())) for part, label in cells]
    sizes = [len(pictures) for pictures in listed]
    labels = np.repeat(np.array([label for _, label in cells], np.int64), sizes)
    return Strings.joined(listed), labels, np.repeat(np.array([part.place for part, _ in cells], np.uint8), sizes)


def refuse_no_folder(root: Path) -> None:
    """Raises DataError when there is no folder there, with the nearest name."""
    if root.is_dir():
        return
    if root.exists():
        stem = archive_stem(root.name)
        get = f"Unpack it with `{shlex.join(('tellapart', 'data', 'get', '--from', str(root), '--to', stem))}`, then"
        raise DataError(
            f"{shown(root)} is {'an archive' if stem else 'a file'}, not a folder.",
            f"{shown(get)} name that folder." if stem else "Name the folder that holds the class folders.",
        )
    if not root.parent.is_dir():
        raise DataError(f"There is no folder {shown(root)}.", f"{shown(root.parent)} is not there either.")
    guess = nearest(root.name, [entry.name for entry in root.parent.iterdir() if entry.is_dir()])
    raise DataError(
        f"There is no folder {shown(root)}.",
        f"Did you mean '{root.parent / guess}'?" if guess else "Check the path, or name a known data set.",
    )


def _class_names(parts: Sequence[Part]) -> list[str]:
    """The class names of the first part (training, or all), sorted naturally, once they are proved to be distinct."""
    refuse_twins([name for part in parts for name in part.classes])
    return naturally(parts[0].classes)


def refuse_twins(names: Sequence[str], where: Callable[[str], str] = lambda name: "") -> None:
    """Raises DataError when two names are one to a file system or a reader: they differ by case or by normalisation."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(alike(name), name)
        if first != name:
            same = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", name)
            how = "by how an accent is encoded (Unicode normalisation)" if same else "by upper and lower case"
            raise DataError(
                f"{where(name)}The classes {first!a} and {name!a} differ only {how}.",
                "Rename where they stand: one spelling everywhere, or two names that differ. --label-map is read "
                "later, and does not help.",
            )


def alike(name: str) -> str:
    """The same for names that are one to a file system or a reader."""
    return unicodedata.normalize("NFC", name).casefold()


def _refuse_strangers(parts: Sequence[Part], names: Sequence[str]) -> None:
    def quoted(texts: Sequence[str]) -> str:
        return few([f"'{name}'" for name in texts], 8)

    for part in parts[1:]:
        if strangers := naturally(set(part.classes) - set(names)):
            raise DataError(
                f"{shown(part.name)} has the class {quoted(strangers)}, which {shown(parts[0].name)} does not have.",
                f"{shown(parts[0].name)} has {quoted(names)}. A class that was never trained cannot be told apart.",
            )


def _refuse_empty(parts: Sequence[Part], walk: Walk) -> None:
    """A part without any picture; one class without pictures is for `select.refuse_empty`, or for a finding."""
    for part in parts:
        if not any(map(len, part.classes.values())):
            others = f"; not read are {few([key for key, _ in walk.ignored])}" if walk.ignored else ""
            raise DataError(
                f"{shown(part.name)} holds class folders and no pictures{others}.", f"Read are {' '.join(PICTURES)}."
            )
