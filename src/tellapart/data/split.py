"""Who is trained on, who validates, who is sealed: stratified, seeded, decided by content, groups kept together."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NO_PART, Index
from tellapart.errors import DataError, UsageError
from tellapart.names import PARTS

TRAIN, VALIDATION, TEST = range(3)


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
    for key, label, part in zip(index.keys, index.labels.tolist(), index.parts.tolist(), strict=True):
        folders = key.split("/")[int(part != NO_PART) : -1]
        found.append("/".join(n for n in folders if unicodedata.normalize("NFC", n) != index.classes[label]))
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
    labels, counts = chosen.labels.tolist(), chosen.counts()
    room, extra = [(counts // folds).tolist() for _ in range(folds)], (counts % folds).tolist()
    for drawn, rows in _units(chosen, seed):
        has = Counter(labels[row] for row in rows)
        ahead = [(drawn + n) % folds for n in range(folds)]
        fits = (f for f in ahead if all(count <= room[f][k] + (extra[k] > 0) for k, count in has.items()))
        home = next(fits, max(ahead, key=lambda f: sum(room[f][k] for k in has)))
        for k, count in has.items():
            room[home][k] -= count
            extra[k] -= room[home][k] < 0 < extra[k]
        dealt[open_rows[rows]] = home
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
    parts = np.full(len(index), TRAIN, np.uint8)
    wanted = {part: _quota(index.counts(), share) for part, share in shares.items() if share > 0}
    labels = index.labels.tolist()
    full = {part: list(left) for part, left in wanted.items()}
    for _, rows in _units(index, seed):
        has = Counter(labels[row] for row in rows)
        part = next((p for p, left in wanted.items() if _fits(has, left, full[p])), TRAIN)
        if part != TRAIN:
            parts[rows] = part
            for label, count in has.items():
                wanted[part][label] -= count
    return parts


def _fits(has: Counter[int], left: list[int], full: list[int]) -> bool:
    """Whether a part takes a unit: it fills more gaps than it exceeds, or brings a class that is not there yet."""
    gain = sum(min(count, 2 * left[k] - count) for k, count in has.items())
    return gain > 0 or any(left[k] == full[k] > 0 for k in has)


def _quota(counts: NDArray[np.int64], share: float) -> list[int]:
    """How many of each class a part should get: its share, at least one where the class has three or more."""
    return [max(round(count * share), int(count >= 3)) for count in counts.tolist()]


def _units(index: Index, seed: int) -> list[tuple[int, list[int]]]:
    """Rows that must stay together (a group, or equal pictures), in the order of a hash of seed and name."""
    rows: dict[bytes, list[int]] = {}
    for row, name in enumerate(_joined(index)):
        rows.setdefault(name, []).append(row)
    prefix = b"%d:" % seed
    drawn = {name: hashlib.blake2b(prefix + name, digest_size=8).digest() for name in rows}
    return [(int.from_bytes(drawn[name]), rows[name]) for name in sorted(rows, key=drawn.__getitem__)]


def _joined(index: Index) -> list[bytes]:
    """A name for the unit of each row: its group, or its content; groups that share a picture are one unit."""
    contents = (
        [row.tobytes() for row in index.digests]
        if index.digests is not None
        else [key.encode("utf-8", "surrogateescape") for key in index.keys]
    )
    if index.groups is None:
        return contents
    groups, home = index.groups.tolist(), {}
    above = {group: group for group in groups}

    def root(group: int) -> int:
        while above[group] != group:
            group = above[group]
        return group

    for group, content in zip(groups, contents, strict=True):
        above[root(group)] = root(home.setdefault(content, group))
    return [b"%d" % root(group) for group in groups]


def _same(digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number (N) for each picture that equal pictures share."""
    return np.unique(np.ascontiguousarray(digests).view("V16").ravel(), return_inverse=True)[1]


def torn(index: Index) -> NDArray[np.int64]:
    """The groups of which rows stand in more than one part; rows that are not placed count for none."""
    if index.groups is None:
        return np.zeros(0, np.int64)
    placed = index.parts != NO_PART
    pairs = np.unique(np.stack([index.groups[placed], index.parts[placed].astype(np.int64)]), axis=1)
    groups, parts = np.unique(pairs[0], return_counts=True)
    return groups[parts > 1]


def twins(index: Index) -> list[str]:
    """What has to be said of groups in two parts, and of equal pictures: those in two parts, and with two labels."""
    count = len(torn(index))
    torn_groups = [f"{count:,} group{'s' * (count > 1)} with pictures in more than one part"] if count else []
    if index.digests is None or not len(index):
        return torn_groups
    same = _same(index.digests)
    several = np.flatnonzero(np.bincount(same)[same] > 1)
    seen: dict[int, tuple[set[int], set[int]]] = {}
    columns = same[several].tolist(), index.parts[several].tolist(), index.labels[several].tolist()
    for picture, part, label in zip(*columns, strict=True):
        parts, labels = seen.setdefault(picture, (set(), set()))
        parts.add(part)
        labels.add(label)
    across = Counter(tuple(sorted(parts)) for parts, _ in seen.values() if len(parts) > 1)
    said = [
        f"{count} picture{'s' * (count > 1)} with equal pixels in {' and '.join(PARTS[p] for p in parts)}"
        for parts, count in across.items()
    ]
    doubled = sum(len(labels) > 1 for _, labels in seen.values())
    two = f"{doubled} picture{'s' * (doubled > 1)} with equal pixels under more than one class"
    return torn_groups + said + [two] * bool(doubled)


def complete(index: Index, *, partial: Collection[str] = ()) -> Index:
    """The index, unless a part that is needed is empty, or a class has no picture in a part that the others have.

    `partial`: parts that may lack classes, because they come from elsewhere, where that is said.
    """
    if not (index.parts == VALIDATION).any():
        raise DataError(
            f"There is no validation picture among {len(index)}, so no epoch could be judged.",
            "Add pictures, or raise --set data.validation above 0.",
        )
    for part in PARTS:
        counts = index.counts(part)
        empty = [name for name, count in zip(index.classes, counts, strict=True) if count == 0]
        if part == "train" or (counts.any() and part not in partial):
            _refuse_empty(index, part, empty)
    return index


def _refuse_empty(index: Index, part: str, empty: list[str]) -> None:
    if empty:
        total = index.counts()[index.classes.index(empty[0])]
        raise DataError(
            f"Class '{empty[0]}' has no picture in the {part} part ({total} in all).",
            "Add pictures of it, remove the class, or change --set data.validation and data.test.",
        )
