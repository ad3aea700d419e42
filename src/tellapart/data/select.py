"""Choose among what was found: rename and merge classes, leave some out, limit them, take a part from elsewhere."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.data.chance import Purpose, words
from tellapart.data.index import NO_PART, Ignored, Index, Store, Strings, with_marks
from tellapart.data.sources.folder import alike
from tellapart.data.sources.labels import listed, pairs
from tellapart.data.sources.layout import place_of
from tellapart.data.sources.listing import few
from tellapart.errors import DataError, UsageError, did_you_mean, refuse_marks
from tellapart.names import PARTS
from tellapart.recipe import printable


def relabelled(index: Index, text: str) -> Index:
    """The index with classes renamed as `a=x,b=x` says; classes of one new name are merged into the first of them.

    Raises UsageError for an unknown class, and for a new name that differs from another by case only; DataError when
    fewer than two classes are left.
    """
    new = pairs(unicodedata.normalize("NFC", text), flag="--label-map")
    refuse_unknown(index, list(new), "--label-map")
    names = [new.get(name, name) for name in index.classes]
    if not new:
        return index
    classes = tuple(dict.fromkeys(names))
    _refuse_new_twins(new, classes)
    _refuse_alone(classes)
    table = np.array([classes.index(name) for name in names], np.int64)
    at_once = ", all at once" * any(name in new and new[name] != name for name in new.values())  # as in a swap
    said = f"Classes renamed{at_once}: {few([f'{old} is now {name}' for old, name in new.items()], 8)}."
    index = replace(index, said=(*index.said, said))
    if index.marks is not None:
        return with_marks(index, classes, _moved(index.marks, table, len(classes)))
    return replace(index, classes=classes, labels=table[index.labels])


def _moved(marks: NDArray[np.int8], table: NDArray[np.int64], classes: int) -> NDArray[np.int8]:
    """The marks (N K) in the columns that `table` (K) names, of so many."""
    found = np.zeros((classes, len(marks)), np.int8)
    np.maximum.at(found, table, marks.T)
    return found.T


def _refuse_new_twins(new: Mapping[str, str], classes: Sequence[str]) -> None:
    for old, name, other in ((old, name, other) for old, name in new.items() for other in classes):
        if other != name and alike(other) == alike(name):
            raise UsageError(
                f"--label-map makes the classes '{name}' and '{other}', which differ only by upper and lower case.",
                f"Merge them with '{old}={other}', or give '{old}' another name.",
            )


def chosen(index: Index, *, include: str = "", exclude: str = "") -> Index:
    """The index of the classes that `include` names ('' is all) less those of `exclude`; both are parted by commas.
    Where a picture may have several, those of a class that is left out stay, without it.

    Raises UsageError for an unknown class, DataError when fewer than two classes are left.
    """
    wanted, unwanted = (listed(unicodedata.normalize("NFC", text)) for text in (include, exclude))
    refuse_unknown(index, wanted, "--include")
    refuse_unknown(index, unwanted, "--exclude")
    kept = [n for n in index.classes if (n in wanted or not wanted) and n not in unwanted]
    if len(kept) == len(index.classes):
        return index
    _refuse_alone(kept)
    gone = [f"{n} ({k:,})" for n, k in zip(index.classes, index.counts().tolist(), strict=True) if n not in kept]
    number = np.array([kept.index(name) if name in kept else -1 for name in index.classes], np.int64)
    said = (*index.said, f"Classes left out: {few(gone, 8)}.")
    if index.marks is not None:
        said = (*said, "Their pictures stay, without these classes.")
        return replace(with_marks(index, tuple(kept), index.marks[:, number >= 0]), said=said)
    left = index.take(np.flatnonzero(number[index.labels] >= 0))
    return replace(left, classes=tuple(kept), labels=number[left.labels], said=said)


def limited_per_class(index: Index, most: int | None, seed: int) -> Index:
    """At most `most` pictures of each class in each part (None is all), chosen by a hash of the seed and the row.

    Raises UsageError where pictures may have several classes.
    """
    refuse_marks(most is not None and index.marks is not None, "--limit-per-class", "Use --limit.")
    return index if most is None else index.take(np.flatnonzero(_ranks(index, seed)[0] < most))


def limited(index: Index, most: int | None, seed: int) -> Index:
    """At most `most` pictures of each part (None is all), keeping the shares of the classes; by the same hash."""
    if most is None:
        return index
    rank, count = _ranks(index, seed)
    order = np.lexsort(((rank + 0.5) / count, index.parts))
    first = np.searchsorted(index.parts[order], index.parts[order])  # where the part of each row begins
    return index.take(np.sort(order[np.arange(len(index)) - first < most]))


def _ranks(index: Index, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of each row (N) among those of its class in its part, by a hash of the seed and the row; how many."""
    drawn = words(seed, Purpose.LIMIT, 0, np.arange(len(index)))[0]
    order = np.lexsort((drawn, index.labels, index.parts))
    unit = index.parts[order].astype(np.int64) * (len(index.classes) + 1) + index.labels[order]
    first, behind = np.searchsorted(unit, unit), np.searchsorted(unit, unit, side="right")
    rank, count = np.empty_like(order), np.empty_like(order)
    rank[order], count[order] = np.arange(len(index)) - first, behind - first
    return rank, count


def joined(first: Index, second: Index, part: str) -> Index:
    """The rows of both, those of `second` as the validation or test part; classes are matched by name.

    Of a second that brings that part itself, that part is taken; else all of it. Classes that only the second has come
    last; `refuse_untrained` is for when all choosing is done. Raises UsageError when the first brings that part too.
    """
    if count := len(first.rows(part)):
        raise UsageError(
            f"{first.name} brings a {part} part of its own ({count:,} pictures).", f"Leave --{part}-from out."
        )
    rows = second.rows(part)
    taken = second.take(rows if len(rows) else np.arange(len(second)))
    said = [f"{part}: {line}" for line in second.said]
    said += [f"The {part} part: {len(taken):,} pictures, {'its own part' if len(rows) else 'all'} of {second.name}."]
    marked = replace(taken, parts=np.full(len(taken), PARTS.index(part), np.uint8))
    return stacked(first, replace(marked, said=tuple(said)), prefix=f"{part}-from/")


def stacked(first: Index, second: Index, *, prefix: str = "") -> Index:
    """The rows of one index after those of another, each with its part; `prefix` is put before the second's keys.

    Raises DataError where only in one of them a picture may have several classes.
    """
    if (first.marks is None) != (second.marks is None):
        one, many = (first.name, second.name) if first.marks is None else (second.name, first.name)
        said = f"In {many} a picture may have several classes (multi-label), in {one} it has one."
        raise DataError(said, "Give both as tables whose cells name several.")
    classes = tuple(dict.fromkeys((*first.classes, *second.classes)))
    table = np.array([classes.index(name) for name in second.classes], np.int64)
    groups = None
    if first.groups is not None or second.groups is not None:
        low, high = _groups(first), _groups(second)
        groups = np.concatenate([low, high + low.max(initial=-1) + 1])
    ignored = [Ignored(key=prefix + one.key, reason=one.reason) for one in second.ignored]
    both = replace(
        first,
        classes=classes,
        keys=Strings.of([*first.keys, *(prefix + key for key in second.keys)]),
        labels=np.concatenate([first.labels, second.labels if first.marks is not None else table[second.labels]]),
        parts=np.concatenate([first.parts, second.parts]),
        store=Stacked(first.store, second.store, len(first)),
        groups=groups,
        ignored=(*first.ignored, *ignored),
        said=(*first.said, *second.said),
    )
    if first.marks is None or second.marks is None:
        return both
    own = np.arange(len(first.classes))
    wide = [_moved(first.marks, own, len(classes)), _moved(second.marks, table, len(classes))]
    return with_marks(both, classes, np.concatenate(wide))


def _groups(index: Index) -> NDArray[np.int64]:
    return np.arange(len(index)) if index.groups is None else index.groups


@dataclass(frozen=True)
class Stacked:
    """Two stores as one: the first has the rows below `size`."""

    first: Store
    second: Store
    size: int

    def read(self, row: int, most: int = -1) -> bytes | NDArray[np.uint8]:
        return self.first.read(row, most) if row < self.size else self.second.read(row - self.size, most)

    def stamps(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        below = rows < self.size
        stamps = np.zeros((len(rows), 3), np.int64)
        for store, which, first in ((self.first, below, 0), (self.second, ~below, self.size)):
            found = store.stamps(rows[which] - first)
            if found is None:  # pixels in memory beside files: decoded anew, like the pixels
                return None
            stamps[which] = found
        return stamps


def absent(index: Index, parts: Sequence[str]) -> list[str]:
    """What has to be said of classes that have no picture in one of these parts, each of which was brought.

    Raises DataError for one of which nothing is left: other pictures would take its place.
    """
    if lost := next((part for part in parts if not len(index.rows(part))), ""):
        raise DataError(
            f"Nothing is left of the pictures that --{lost}-from brings.", "Name a class of theirs, or leave it out."
        )
    named = {part: [name for name, n in zip(index.classes, index.counts(part), strict=True) if not n] for part in parts}
    return [f"The {part} part has no picture of {few(names, 8)}." for part, names in named.items() if names]


def refuse_untrained(index: Index, flag: str) -> None:
    """Raises DataError when a class has pictures, and none that could be trained on; `flag` brought them."""
    open_rows = (index.parts == PARTS.index("train")) | (index.parts == NO_PART)
    seen = index.take(np.flatnonzero(open_rows)).counts()
    strangers = [n for n, here, k in zip(index.classes, seen, index.counts(), strict=True) if k and not here]
    if strangers:
        raise DataError(
            f"{flag} brings classes that have no training picture: {few(strangers, 8)}.",
            f"Add training pictures of them, leave them out with --exclude '{','.join(strangers)}', or say with "
            f"--label-map '{strangers[0]}=…' which class they are.",
        )


def empty_classes(index: Index, partial: Collection[str] = ()) -> list[tuple[str, str, list[Ignored]]]:
    """Each class without a picture: name, the part without it ('' is all), and the files there that are not read.

    partial: parts that may lack classes. Parts count when every picture is placed already.
    """
    placed = [part for part in PARTS if (part == "train" or len(index.rows(part))) and part not in partial]
    parts = [] if (index.parts == NO_PART).any() else placed
    counts = [(n, part, k) for part in parts or [""] for n, k in zip(index.classes, index.counts(part), strict=True)]
    return [(n, part, [one for one in index.ignored if _is_of(one, n, part)]) for n, part, k in counts if not k]


def _is_of(one: Ignored, name: str, part: str) -> bool:
    folders = unicodedata.normalize("NFC", one.key).split("/")[:-1]
    return name in folders and (not part or PARTS.index(part) in map(place_of, folders))


def refuse_empty(index: Index, partial: Collection[str] = ()) -> None:
    """Raises DataError for the first of `empty_classes`, with what lies there instead."""
    for name, part, files in empty_classes(index, partial)[:1]:
        where = f" in the {part} part ({index.counts()[index.classes.index(name)]} in all)" * bool(part)
        why = f"; not read there: {few([one.key for one in files])}" * bool(files)
        listed = [line for line in index.said if "--several '" in line]  # a name that is rare for it is a list
        hint = "Add some, change --limit, --set data.validation or data.test, or leave the class out: --exclude"
        raise DataError(f"Class '{name}' has no picture{where}{why}.", " ".join([*listed, f"{hint} '{name}'"]))


def refuse_unknown(index: Index, names: list[str], flag: str) -> None:
    """Raises UsageError for a name that is not a class; `flag` is where it was said."""
    for name in names:
        if name not in index.classes:
            known = [printable(one) for one in index.classes]
            several = [one for one in known if one in name]  # 'cat;dog', 'cat dog'
            hint = f"Part names by commas: {','.join(several)}" if len(several) > 1 else did_you_mean(name, known)
            raise UsageError(f"{flag}: there is no class '{printable(name)}'.", hint)


def _refuse_alone(classes: list[str] | tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise DataError(
            f"1 class is left: {classes[0]}." if classes else "No class is left.", "Telling apart needs two or more."
        )
