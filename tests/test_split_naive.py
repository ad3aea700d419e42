"""The split against a naive one that takes row by row, as it was first written: the same parts and folds."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from tellapart.data import split
from tellapart.data.index import ArrayStore, Index, Strings


def some_index(seed: int) -> Index:
    """An index of up to 80 rows with copies, with or without digests, groups and a sealed part."""
    rng = np.random.default_rng(seed)
    n, classes = int(rng.integers(4, 80)), int(rng.integers(2, 6))
    pictures = rng.integers(0, 256, (max(1, int(n * rng.uniform(0.3, 3))), 16), np.uint8)
    return Index(
        name="some",
        classes=tuple(map(str, range(classes))),
        keys=Strings.of(f"é/{seed}/{row}.png" for row in range(n)),
        labels=rng.integers(0, classes, n),
        parts=rng.choice(np.array([0, 0, 2], np.uint8), n),
        store=ArrayStore(np.zeros((n, 1, 1, 1), np.uint8)),
        digests=None if seed % 5 == 0 else pictures[rng.integers(0, len(pictures), n)],
        groups=rng.integers(-3, max(1, n // int(rng.integers(1, 6))), n) if seed % 3 else None,
    )


def units_of(index: Index, seed: int) -> list[tuple[int, list[int]]]:
    keys = [key.encode() for key in index.keys]
    names = keys if index.digests is None else [row.tobytes() for row in index.digests]
    if index.groups is not None:
        groups, home = index.groups.tolist(), {}
        above = {group: group for group in groups}

        def root(group: int) -> int:
            return group if above[group] == group else root(above[group])

        for group, name in zip(groups, names, strict=True):
            above[root(group)] = root(home.setdefault(name, group))
        names = [b"%d" % root(group) for group in groups]
    rows: dict[bytes, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    drawn = {name: hashlib.blake2b(b"%d:" % seed + name, digest_size=8).digest() for name in rows}
    return [(int.from_bytes(drawn[name]), rows[name]) for name in sorted(rows, key=drawn.__getitem__)]


def placed(index: Index, shares: dict[int, float], seed: int) -> list[int]:
    parts = [0] * len(index)
    wanted = {
        part: [max(round(count * share), int(count >= 3)) for count in index.counts().tolist()]
        for part, share in shares.items()
    }
    full = {part: list(left) for part, left in wanted.items()}
    for _, rows in units_of(index, seed):
        has = Counter(int(index.labels[row]) for row in rows)
        for part, left in wanted.items():
            gain = sum(min(count, 2 * left[k] - count) for k, count in has.items())
            if gain > 0 or any(left[k] == full[part][k] > 0 for k in has):
                for row in rows:
                    parts[row] = part
                for k, count in has.items():
                    left[k] -= count
                break
    return parts


def folded(index: Index, folds: int, seed: int) -> list[int]:
    open_rows = [row for row, part in enumerate(index.parts.tolist()) if part != 2]
    chosen, dealt = index.take(np.array(open_rows)), [-1] * len(index)
    room = [[count // folds for count in chosen.counts().tolist()] for _ in range(folds)]
    extra = [count % folds for count in chosen.counts().tolist()]
    for drawn, rows in units_of(chosen, seed):
        has = Counter(int(chosen.labels[row]) for row in rows)
        ahead = [(drawn + n) % folds for n in range(folds)]
        fits = [f for f in ahead if all(count <= room[f][k] + (extra[k] > 0) for k, count in has.items())]
        home = fits[0] if fits else max(ahead, key=lambda f: sum(room[f][k] for k in has))
        for k, count in has.items():
            room[home][k] -= count
            extra[k] -= room[home][k] < 0 < extra[k]
        for row in rows:
            dealt[open_rows[row]] = home
    return dealt


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_the_same_parts_and_folds_as_row_by_row(first):
    for seed in range(first, first + 100):
        index = some_index(seed)
        shares = {split.VALIDATION: 0.15 + seed % 4 / 10, split.TEST: 0.15}
        assert split._placed(index, shares, seed).tolist() == placed(index, shares, seed)
        assert split.folded(index, 2 + seed % 4, seed).tolist() == folded(index, 2 + seed % 4, seed)


def test_a_choice_of_texts_is_that_of_a_list():
    texts = ["", "a", "é\udcff", "long one", "", "z"]
    rows = np.array([3, 0, 5, 2, 2, 4])
    assert list(Strings.of(texts).take(rows)) == [texts[row] for row in rows]
    assert list(Strings.of(texts).take(rows[:0])) == []
