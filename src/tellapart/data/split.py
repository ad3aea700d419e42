"""Who is trained on, who validates, who is sealed: stratified, seeded, decided by content, groups kept together."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Index
from tellapart.data.select import refuse_empty
from tellapart.errors import DataError, UsageError
from tellapart.names import PARTS

TRAIN, VALIDATION, TEST = range(3)
_Unit = tuple[int, Mapping[int, int]]
"""The hash of what must stay together, and its pictures by class."""


def grouped(index: Index, pattern: str) -> Index:
    """The index with groups: keys for which `pattern` matches the same text (or the same first group) stay together.

    The word `folder` groups by the folders below the class; '' keeps the groups that the source brings.
    """
    if not pattern:
        return index
    if pattern == "folder":
        return replace(index, groups=_numbered(_folders(index)))
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"data.group_by is not a regular expression: {error}. Received: {pattern!r}.") from error
    found = [compiled.search(key) for key in index.keys]
    missing = [key for key, match in zip(index.keys, found, strict=True) if match is None]
    if missing:
        raise DataError(
            f"data.group_by {pattern!r} matches nothing in {len(missing)} keys, such as {missing[0]}.",
            "Change the pattern so that every key has a group.",
        )
    names = [match.group(match.re.groups and 1) for match in found if match is not None]
    return replace(index, groups=_numbered(names))


def _numbered(names: list[str]) -> NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _folders(index: Index) -> list[str]:
    """The folders of each key without the file, its part and its class: equal ones of two classes are one group."""
    found = []
    for row, (key, part) in enumerate(zip(index.keys, index.parts.tolist(), strict=True)):
        folders, own = key.split("/")[int(part != NO_PART) : -1], index.called(row)
        found.append("/".join(n for n in folders if unicodedata.normalize("NFC", n) != own))
    if "" in found:
        key = index.keys[found.index("")]
        raise DataError(f"--group-by folder: {key} lies in no folder below its class.", "Give a pattern instead.")
    return found


def divided(
    index: Index,
    *,
    validation: float,
    test: float,
    seed: int,
    anew: bool = False,
    folds: int = 0,
    fold: int = 0,
    partial: Collection[str] = (),
) -> Index:
    """The index with every row placed in train, validation or test.

    Parts that the data bring are kept (unless `anew`); what is missing is made from the training rows, class by class,
    by a hash of seed and content, so that adding pictures moves few others and equal pictures never straddle parts.
    Data that bring train and validation only get no test: none is invented. With `folds`, all that is not sealed is
    dealt into so many, and fold number `fold`, from 0, validates; the test part is the same with and without.
    `partial` is that of `complete`.
    """
    parts = np.full(len(index), NO_PART, np.uint8) if anew else index.parts.copy()
    has = {part: bool((parts == number).any()) for number, part in enumerate(PARTS)}
    if not any(has.values()):
        shares = {VALIDATION: validation, TEST: test}
    else:
        parts = _beside(None if partial else index.groups, parts)  # a part from elsewhere is as it came
        shares = {} if has["validation"] else {VALIDATION: validation}
    if shares:
        open_rows = np.flatnonzero((parts == NO_PART) | (parts == TRAIN))
        parts[open_rows] = _placed(index.take(open_rows), shares, seed)
    if folds:
        dealt = folded(replace(index, parts=parts), folds, seed)
        parts[dealt >= 0] = np.where(dealt[dealt >= 0] == fold, VALIDATION, TRAIN)
    return complete(replace(index, parts=parts), partial=partial)


def _beside(groups: NDArray[np.int64] | None, parts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The parts (N) with every row that has none beside its group (in test before validation), else in training."""
    placed = parts != NO_PART
    same = np.arange(len(parts)) if groups is None else np.unique(groups, return_inverse=True)[1]
    home = np.full(len(parts), TRAIN, np.uint8)
    np.maximum.at(home, same[placed], parts[placed])
    return np.where(placed, parts, home[same])


def folded(index: Index, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row (N), from 0; -1 for sealed rows. Every class is spread evenly, what belongs together stays.

    A unit goes to the fold that its hash prefers while that has room, so that adding pictures moves few others.
    """
    dealt = np.full(len(index), -1, np.int64)
    open_rows = np.flatnonzero(index.parts != TEST)
    chosen = index.take(open_rows)
    counts = _strata(chosen)
    room, extra = [(counts // folds).tolist() for _ in range(folds)], (counts % folds).tolist()
    homes, (rows, sizes, units) = [], _units(chosen, seed)
    for drawn, has in units:
        ahead = (*range(drawn % folds, folds), *range(drawn % folds))
        fits = (f for f in ahead if all(count <= room[f][k] + (extra[k] > 0) for k, count in has.items()))
        home = next(fits, max(ahead, key=lambda f: sum(room[f][k] for k in has)))
        for k, count in has.items():
            room[home][k] -= count
            extra[k] -= room[home][k] < 0 < extra[k]
        homes.append(home)
    dealt[open_rows[rows]] = np.repeat(homes, sizes)
    return dealt


def leaking(index: Index) -> NDArray[np.int64]:
    """The training rows with the pixels of a validation or test row, and the validation rows with those of a test row.

    They are to leave: a picture that is learned, or chosen by, says nothing when it is judged again. Test rows stay.
    """
    if index.digests is None or not len(index):
        return np.zeros(0, np.int64)
    same = _same(index.digests)
    highest = np.zeros(same.max() + 1, np.uint8)
    np.maximum.at(highest, same, index.parts)  # test is above validation, and validation above training
    return np.flatnonzero(index.parts < highest[same])


def _placed(index: Index, shares: dict[int, float], seed: int) -> NDArray[np.uint8]:
    """Parts (N) for the rows of `index`: units in the order of their hash fill each part's quota of each class."""
    wanted = {part: _quota(_strata(index), share) for part, share in shares.items() if share > 0}
    full = {part: list(left) for part, left in wanted.items()}
    for left in full.values() if index.marks is not None else ():
        left[-1] = -1  # a part may do without pictures of none of the classes
    rank = np.argsort(np.argsort(_strata(index), kind="stable")).tolist()
    rows, sizes, units = _units(index, seed)
    placed, parts = np.full(len(sizes), TRAIN, np.uint8), np.empty(len(index), np.uint8)
    for number, (_, has) in enumerate(units):
        by = has
        if index.marks is not None:  # by its rarest class: two common ones would take the last of a rare one
            rarest = min(has, key=rank.__getitem__)
            by = {rarest: has[rarest]}
        part = next((p for p, left in wanted.items() if _fits(by, left, full[p])), TRAIN)
        if part != TRAIN:
            placed[number] = part
            for label, count in has.items():
                wanted[part][label] -= count
            wanted = {part: left for part, left in wanted.items() if max(left) > 0}
        if not wanted:  # no unit fits any more
            break
    parts[rows] = np.repeat(placed, sizes)
    return parts


def _strata(index: Index) -> NDArray[np.int64]:
    """Pictures per class (K); where they may have several, also those without any (K + 1)."""
    none = [] if index.marks is None else [(index.labels == len(index.classes)).sum()]
    return np.append(index.counts(), none).astype(np.int64)


def _fits(has: Mapping[int, int], left: list[int], full: list[int]) -> bool:
    """Whether a part takes a unit: it fills more gaps than it exceeds, or brings a class that is not there yet."""
    gain = sum(min(count, 2 * left[k] - count) for k, count in has.items())
    return gain > 0 or any(left[k] == full[k] > 0 for k in has)


def _quota(counts: NDArray[np.int64], share: float) -> list[int]:
    """How many of each class a part should get: its share, at least one where the class has three or more."""
    return [max(round(count * share), int(count >= 3)) for count in counts.tolist()]


def _units(index: Index, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Iterator[_Unit]]:
    """Groups, or equal pictures, in the order of a hash of seed and name: rows (N), sizes (U), and the units."""
    prefix, (names, named) = b"%d:" % seed, _names(index)
    hashes = b"".join(hashlib.blake2b(prefix + name, digest_size=8).digest() for name in names)
    hashed = np.frombuffer(hashes, ">u8")[named]
    if index.marks is not None:
        return _marked_units(index, index.marks, hashed)
    rows = np.argsort(hashed, kind="stable")
    drawn, sizes = np.unique(hashed, return_counts=True)
    labels = index.labels[rows].tolist()
    each = zip(drawn.tolist(), sizes.tolist(), np.cumsum(sizes).tolist(), strict=True)
    return rows, sizes, ((d, {labels[e - 1]: 1} if n == 1 else Counter(labels[e - n : e])) for d, n, e in each)


def _marked_units(
    index: Index, marks: NDArray[np.int8], hashed: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Iterator[_Unit]]:
    """The same of pictures that may have several classes: those of the rarest class come first, while there is room for
    it in every part (K. Sechidis and others, ECML 2011); within it they are in the order of the hash.
    """
    drawn, home, sizes = np.unique(hashed, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(_strata(index), kind="stable"))[index.labels]
    least = np.full(len(drawn), len(index.classes) + 1)
    np.minimum.at(least, home, rank)
    order, rows = np.argsort(least, kind="stable"), np.lexsort((home, least[home]))
    every = [np.flatnonzero(row).tolist() or [len(index.classes)] for row in marks[rows] > 0]
    each = zip(drawn[order].tolist(), sizes[order].tolist(), np.cumsum(sizes[order]).tolist(), strict=True)
    return rows, sizes[order], ((d, Counter(chain.from_iterable(every[e - n : e]))) for d, n, e in each)


def _names(index: Index) -> tuple[list[bytes], NDArray[np.int64]]:
    """Names, and which (N) is that of each row: of its content, or its group; groups that share a picture are one."""
    contents: list[bytes] = [] if index.digests is None else [row.tobytes() for row in index.digests]
    contents = contents or [key.encode("utf-8", "surrogateescape") for key in index.keys]
    if index.groups is None:
        return contents, np.arange(len(index))
    groups, named = np.unique(index.groups, return_inverse=True)
    above, home = {group: group for group in groups.tolist()}, {}

    def root(group: int) -> int:
        while above[group] != group:
            group = above[group]
        return group

    for group, content in zip(index.groups.tolist(), contents, strict=True):
        if home.setdefault(content, group) != group:
            above[root(group)] = root(home[content])
    return [b"%d" % root(group) for group in above], named


def _same(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number (N) for each picture that equal pictures share."""
    return np.unique(np.ascontiguousarray(digests).view("V16").ravel(), return_inverse=True)[1]


def _several(names: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int64]:
    """The names that stand beside more than one value."""
    found, counts = np.unique(np.unique(np.stack([names, values.astype(np.int64)]), axis=1)[0], return_counts=True)
    return found[counts > 1]


def torn(index: Index) -> NDArray[np.int64]:
    """The groups of which rows stand in more than one part; rows that are not placed count for none."""
    placed = index.parts != NO_PART
    return np.zeros(0, np.int64) if index.groups is None else _several(index.groups[placed], index.parts[placed])


def twins(index: Index) -> list[str]:
    """What has to be said of groups in two parts, and of equal pictures: those in two parts, and with two labels."""
    count = len(torn(index))
    said = [f"{count:,} group{'s' * (count > 1)} with pictures in more than one part"] if count else []
    if index.digests is None or not len(index):
        return said
    same = _same(index.digests)
    copies = np.flatnonzero(np.bincount(same)[same] > 1)
    same, parts, labels = same[copies], index.parts[copies], index.kinds(copies)
    pictures, places = np.unique(np.stack([same, parts]), axis=1)
    across = Counter(tuple(one.tolist()) for one in np.split(places, np.flatnonzero(np.diff(pictures)) + 1))
    said += [
        f"{count} picture{'s' * (count > 1)} with equal pixels in {' and '.join(PARTS[p] for p in places)}"
        for places, count in across.items()
        if len(places) > 1
    ]
    doubled = len(_several(same, labels))
    two = f"{doubled} picture{'s' * (doubled > 1)} with equal pixels under more than one class"
    return said + [two] * bool(doubled)


def complete(index: Index, *, partial: Collection[str] = ()) -> Index:
    """The index, unless a part that is needed is empty, or a class has no picture in a part that the others have.

    `partial`: parts that may lack classes, because they come from elsewhere, where that is said.
    """
    if not (index.parts == VALIDATION).any():
        raise DataError(
            f"There is no validation picture among {len(index)}, so no epoch could be judged.",
            "Add pictures, or raise --set data.validation above 0.",
        )
    refuse_empty(index, partial)
    return index
