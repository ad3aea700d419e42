"""Bursts: pictures with consecutive numbers in their names that also look alike, suggested as one group."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.duplicates import FALSE_ALARMS
from tellapart.audit.facts import Facts
from tellapart.audit.findings import KEEPING, Finding, some
from tellapart.audit.near import components, spectrum
from tellapart.data.sources.layout import PART
from tellapart.data.split import grouped
from tellapart.errors import DataError

PLACED = re.compile(rf"^((validation|test)-from/)?({PART.pattern}/)?", re.I)
"""What in front of a key only says which part it is."""
NUMBERED = re.compile(r"(.*?)([0-9]{1,15})([^0-9/]*)", re.S)
FEWEST = 3
ALIKE, DRAWS = 0.25, 20
"""Distance of neighbours in a burst, as a share of that of random pairs; shuffles that show the runs of chance."""
PATTERNS = "folder", r"^(.*)[0-9]{1}[^0-9/]*$", r"^(.*)[0-9]{2}[^0-9/]*$"
ANEW = 0.9
"""Numbers are counted through train/, val/ and test/ when this share of them is in one of these only."""
LARGEST = 0.25
"""Share of the pictures that a pattern may put into one group."""


def runs_of(facts: Facts) -> list[NDArray[np.int64]]:
    """Runs of rows, numbered one after the other, each like the one before; longer than runs that chance makes."""
    rows = facts.whole()
    waves = np.zeros((len(facts), 64), np.float32)
    waves[rows] = spectrum(facts.table["thumb"][rows])
    listed = sorted(_numbered(facts, rows))
    if len(listed) < 20:
        return []
    order = np.array([row for *_, row in listed])
    follows = np.array([b[:3] == (a[0], a[1] + 1, a[2]) for a, b in pairwise(listed)])
    rng = np.random.default_rng(0)
    one, two = rng.choice(order, (2, 5_000))
    alike = ALIKE * float(np.median(np.linalg.norm(waves[one] - waves[two], axis=1)))
    found = _runs(order, follows, waves, alike)
    labels = facts.index.labels[order]
    by_class = np.argsort(labels, kind="stable")
    for _ in range(DRAWS):
        shuffled = order.copy()
        shuffled[by_class] = order[np.lexsort((rng.random(len(order)), labels))]
        longest = max((len(run) for run in _runs(shuffled, follows, waves, alike)), default=0)
        found = [run for run in found if len(run) > longest]
    return found


def _runs(
    order: NDArray[np.int64], follows: NDArray[np.bool_], waves: NDArray, alike: float
) -> list[NDArray[np.int64]]:
    near = np.linalg.norm(waves[order[1:]] - waves[order[:-1]], axis=1) < alike
    runs = np.split(order, np.flatnonzero(~(follows & near)) + 1)
    return [run for run in runs if len(run) >= FEWEST]


def _numbered(facts: Facts, rows: NDArray[np.int64]) -> Iterator[tuple[str, int, str, int]]:
    """What stands before the last number of a key, the number, what stands behind it, and the row.

    The folder of the part is left out of it, unless the numbers begin anew in each part.
    """
    matches = [(NUMBERED.fullmatch(facts.index.keys[row]), row) for row in rows.tolist()]
    found = [(PLACED.sub("", one[1], 1), int(one[2]), one[3], one[1], row) for one, row in matches if one]
    every = Counter((stem, behind) for stem, _, behind, *_ in found)
    different = Counter((stem, behind) for stem, _, behind in {one[:3] for one in found})
    for stem, number, behind, whole, row in found:
        yield stem if different[stem, behind] >= ANEW * every[stem, behind] else whole, number, behind, row


def bursts(facts: Facts, units: NDArray[np.int64]) -> Iterator[Finding]:
    """Bursts as groups to be kept in one part. Runs of copies of one picture are told as duplicates, not here."""
    kept = np.arange(len(facts)) if facts.index.groups is None else facts.index.groups
    runs = [run for run in runs_of(facts) if len(np.unique(units[run])) >= FEWEST]
    runs = [run for run in runs if len(np.unique(kept[run])) > 1 or len(np.unique(facts.index.parts[run])) > 1]
    across = [len(set(facts.index.parts[run].tolist())) > 1 for run in runs]
    for torn, kind in ((True, "bursts-across-parts"), (False, "bursts")):
        chosen = [run for run, several in zip(runs, across, strict=True) if several is torn]
        if not chosen:
            continue
        rows = np.concatenate(chosen)
        yield Finding(
            kind=kind,
            severity="serious" if torn and len(rows) > FALSE_ALARMS * len(facts) else "warning",
            title=f"{some(len(rows), 'picture', len(facts))} in {some(len(chosen), 'run')} look like bursts: numbered "
            f"one after the other, and alike{', and they stand in two parts' * torn}",
            detail="Pictures of one burst in two parts make a score too good.",
            files=tuple(
                (facts.index.keys[row], f"run {number} · {facts.place(row)}")
                for number, run in enumerate(chosen, 1)
                for row in run.tolist()
            ),
            fix=_fix(facts, chosen, "--split new" * torn),
            numbers={"pictures": len(rows), "runs": len(chosen), "of": len(facts)},
        )


def _fix(facts: Facts, runs: list[NDArray[np.int64]], anew: str) -> str:
    """A pattern that keeps every run whole and the groups small, when there is one; else a file of groups."""
    for pattern in PATTERNS:
        try:
            groups = grouped(facts.index, pattern).groups
        except DataError:  # it does not fit every key
            continue
        assert groups is not None  # noqa: S101 - every pattern makes groups
        whole = all(len(np.unique(groups[run])) == 1 for run in runs)
        if whole and np.bincount(groups).max() <= LARGEST * len(facts):
            return f"Keep each run in one part: train with {shlex.join(('--group-by', pattern))} {anew}".rstrip()
    return KEEPING


def kept_together(facts: Facts, units: NDArray[np.int64]) -> list[str]:
    """(N): whom each picture should share a part with, as the key of the first; '' for those that may go anywhere.

    Together are copies of one picture (`units`), the pictures of a run, and those of a group that the source brings.
    """
    groups = units if facts.index.groups is None else facts.index.groups
    _, first, back = np.unique(groups, return_index=True, return_inverse=True)
    rows = np.arange(len(facts))
    pairs = [np.stack([run[:-1], run[1:]], axis=1) for run in runs_of(facts)]
    home = components(
        len(facts), np.concatenate([np.stack([rows, units], 1), np.stack([rows, first[back]], 1), *pairs])
    )
    many = np.bincount(home, minlength=len(facts))[home] > 1
    return [facts.index.keys[row] if several else "" for row, several in zip(home.tolist(), many, strict=True)]
