"""Tell part folders from class folders: train, validation and test beside each other, or classes at once."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tellapart.data.index import NO_PART, Strings, naturally
from tellapart.data.sources.listing import Walk, few, is_picture, shown
from tellapart.errors import DataError
from tellapart.names import PARTS

PART_NAMES = {
    "train": 0, "training": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip
_AFFIX = "(?:[0-9_ -]|set|data|seg|split|images?|imgs?)*"
PART = re.compile(f"{_AFFIX}({'|'.join(PART_NAMES)}){_AFFIX}", re.I | re.A)
"""What part folders are called: one of these names, with or without a usual affix."""
_LIKE_PART = re.compile("(?<![a-z])(train|valid|test|(val|dev)(?![a-z]))")
EXAMPLE = (
    "For example: flowers/daisy/1.jpg and flowers/rose/1.jpg, "
    "or flowers/train/daisy/1.jpg and flowers/test/daisy/1.jpg."
)


@lru_cache(1 << 12)
def place_of(folder: str) -> int:
    """The number of the part that the name of a folder tells; NO_PART for other names."""
    return PART_NAMES[found[1].lower()] if (found := PART.fullmatch(folder)) else NO_PART


@dataclass(frozen=True)
class Part:
    """One part: the name to show, its number (NO_PART: not placed), and the keys of the pictures of each class."""

    name: str
    place: int
    classes: dict[str, Strings]


@dataclass(frozen=True)
class _Level:
    """One folder seen from above: its key with a final `/` ('' for the root), sub-folders, pictures, other entries."""

    key: str
    folders: dict[str, str]
    pictures: list[str]


def parts_of(walk: Walk) -> tuple[list[Part], tuple[str, ...]]:
    """The parts and classes below the root of `walk`, and what to say of them.

    Raises DataError when the tree cannot be read in one way.
    """
    top = _level(walk, "", walk.root)
    named = {name: place_of(name) for name in naturally(top.folders) if place_of(name) != NO_PART}
    levels = {name: _level(walk, f"{name}/", top.folders[name]) for name in named}
    if not top.folders:
        _refuse_no_classes(top, walk)
    if not _are_parts(levels, others=len(top.folders) - len(named)):
        return [_part(walk, top, shown(walk.root), NO_PART)], _alike_inside(top, walk)
    _refuse_unclear_parts(named, levels, walk)
    _name_strays(walk, top, f"beside the parts {', '.join(named)}", [n for n in top.folders if n not in named])
    if len(named) == 1:
        (name,) = named
        said = f"Only {name}/ is there, without another part: its pictures are split anew."
        return [_part(walk, levels[name], f"{name}/", NO_PART)], (said,)
    ordered = sorted(named, key=lambda name: named[name])
    said = f"Parts as given: {', '.join(f'{name}/ is {PARTS[named[name]]}' for name in ordered)}."
    return [_part(walk, levels[name], f"{name}/", named[name]) for name in ordered], (said,)


def _level(walk: Walk, key: str, real: str) -> _Level:
    folders, files, _ = walk.folders_and_files(os.path.join(walk.root, key), real)
    return _Level(key, dict(folders), [name for name in files if is_picture(name)])


def _are_parts(levels: dict[str, _Level], *, others: int) -> bool:
    """Whether these folders are parts and not classes that happen to be called so (a `train` beside a `bus`).

    They are when there are two and nothing but them, or when they hold folders and are two or alone.
    """
    several = len(set(map(place_of, levels))) > 1
    if any(level.folders for level in levels.values()):
        return several or not others
    return several and not others


def _part(walk: Walk, level: _Level, name: str, place: int) -> Part:
    _name_strays(walk, level, "outside the class folders", [])
    classes = {}
    for folder in naturally(level.folders):
        key = level.key + folder
        if shown(key) != key:  # halves of characters stand for bytes that are no text
            raise DataError(f"The name of the class folder {shown(key)} is not UTF-8.", "Rename the folder.")
        classes[folder] = walk.class_folder(f"{key}/", level.folders[folder])
    return Part(name, place, classes)


def _name_strays(walk: Walk, level: _Level, where: str, folders: Iterable[str]) -> None:
    walk.ignored.extend((level.key + name, f"a picture {where}") for name in level.pictures)
    walk.ignored.extend((f"{level.key}{name}/", f"a folder {where}") for name in folders)


def _refuse_no_classes(level: _Level, walk: Walk) -> None:
    where = shown(os.path.join(walk.root, level.key).rstrip("/"))
    if level.pictures:
        raise DataError(
            f"{where} holds pictures directly ({len(level.pictures):,}) and no class folders, so none has a class.",
            f"Put each picture in a folder named after its class. {EXAMPLE}",
        )
    raise DataError(
        f"{where} holds no class folders and no pictures.", f"Name the folder that holds the class folders. {EXAMPLE}"
    )


def _refuse_unclear_parts(named: dict[str, int], levels: dict[str, _Level], walk: Walk) -> None:
    first: dict[int, str] = {}
    for name, place in named.items():
        if place in first:
            raise DataError(f"{first[place]}/ and {name}/ are both the {PARTS[place]} part.", "Keep one of them.")
        first[place] = name
    if 0 not in first:
        has = " and ".join(f"{name}/" for name in named)
        raise DataError(f"{shown(walk.root)} has {has} and no train/ folder.", f"Add the folder train/. {EXAMPLE}")
    for name in sorted(named, key=lambda name: named[name]):
        if not levels[name].folders:
            _refuse_no_classes(levels[name], walk)


def _alike_inside(top: _Level, walk: Walk) -> tuple[str, ...]:
    """What is to be said of folders inside the class folders, once all were walked: parts, or names that come again.

    Raises DataError where one is called like a part and holds what another holds too: a part with a mistyped sister.
    """
    inside = _folders_inside(walk)
    every = Counter(name for names in inside.values() for name in names)
    if parts := parts_among(every):
        return (f"The pictures lie in {parts} below their classes: they are split anew. Parts above classes are kept.",)
    again = {name for name, count in every.items() if count > 1}
    alike = [name for name in naturally(inside) if len(inside[name] & again) > (place_of(name) == NO_PART)]
    alike = [n for n in alike if place_of(n) != NO_PART or not _level(walk, f"{n}/", top.folders[n]).pictures]
    for name in (name for name in alike if _LIKE_PART.search(name.casefold())):
        other = next(other for other in naturally(inside) if other != name and inside[other] & inside[name])
        odd, other = (name, other) if place_of(name) == NO_PART else (other, name)
        raise DataError(
            f"{shown(other)}/ and {shown(odd)}/ hold the same class folders, but {shown(odd)}/ is not a part's name.",
            f"Call it one of: {', '.join(PART_NAMES)}. Or, if it is a class, give a list of PATH, TAB, CLASS.",
        )
    said = f"The classes are {few(alike)}, and not the folders of the same names in them ({few(naturally(again))})."
    return (said,) if len(alike) > 1 else ()


def parts_among(names: Iterable[str]) -> str:
    """Those of some folders that are called as parts, in words; '' where fewer than two parts are named."""
    parts = [name for name in naturally(names) if place_of(name) != NO_PART]
    return " and ".join(shown(f"{name}/") for name in parts) if len(set(map(place_of, parts))) > 1 else ""


def _folders_inside(walk: Walk) -> dict[str, set[str]]:
    """The names of the folders in each folder below the root that was walked."""
    inside: dict[str, set[str]] = {}
    keys = (path[len(os.path.join(walk.root, "")) :].strip("/") for path in walk.changed)
    for above, _, name in (key.partition("/") for key in keys if key.count("/") == 1):
        inside.setdefault(above, set()).add(name)
    return inside
