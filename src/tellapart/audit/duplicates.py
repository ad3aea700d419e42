"""Findings about pictures that are there more than once: equal pixels, and copies that were changed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.facts import Facts
from tellapart.audit.findings import KEEPING, Finding, some
from tellapart.audit.near import components, near_pairs
from tellapart.data.split import torn

FALSE_ALARMS = 0.001
"""Share of the pictures that may look like copies and be none: so few are a warning, more are serious."""

MOST_GROUPS = 1000
"""Torn groups whose pictures are named; all are counted."""

Rows = NDArray[np.int64]
Groups = list[Rows]


def exact_units(facts: Facts) -> NDArray[np.int64]:
    """(N): the first row with the same pixels; a row that is no whole picture stands alone."""
    units, whole = np.arange(len(facts)), facts.whole()
    if len(whole):
        names = np.ascontiguousarray(facts.table["digest"][whole]).view("V16").ravel()
        _, first, back = np.unique(names, return_index=True, return_inverse=True)
        units[whole] = whole[first[back]]
    return units


def near_units(facts: Facts) -> NDArray[np.int64]:
    """(N): the first row that shows the same picture, be it recompressed, resized, mirrored or made grey."""
    exact = exact_units(facts)
    rows = np.intersect1d(np.unique(exact), facts.whole())
    thumbs = facts.table["thumb"][rows]
    sizes = np.stack([facts.table["height"][rows], facts.table["width"][rows]], axis=1).astype(np.int64)
    pairs = np.concatenate([near_pairs(thumbs, sizes, mirrored=mirrored) for mirrored in (False, True)])
    return components(len(facts), rows[pairs])[exact]


def groups_of(units: NDArray[np.int64]) -> Groups:
    """The rows of each unit that has more than one, in the order of their first row."""
    order = np.argsort(units, kind="stable")
    cuts = np.flatnonzero(np.diff(units[order])) + 1
    return [rows for rows in np.split(order, cuts) if len(rows) > 1]


def exact_duplicates(facts: Facts, units: NDArray[np.int64]) -> Iterator[Finding]:
    """Equal pixels: across parts, under two classes, or twice in one class."""
    yield from _findings(facts, groups_of(units), "duplicates", ("serious", "serious", "warning"), "two parts")


def near_duplicates(facts: Facts, units: Rows, exact: Rows, parts: NDArray[np.uint8]) -> Iterator[Finding]:
    """Copies that are not equal: groups that hold more than one exact unit. parts (N): as training has them.

    Those that only a split still to be made puts into two parts are a warning.
    """
    groups = [rows for rows in groups_of(units) if len(np.unique(exact[rows])) > 1]
    across = sum(len(rows) for rows in groups if len(set(facts.index.parts[rows].tolist())) > 1)
    first = "serious" if across > FALSE_ALARMS * len(facts) else "warning"
    where = "two parts" if across else "two parts, as training would divide them"
    made = replace(facts, index=replace(facts.index, parts=parts))
    yield from _findings(made, groups, "near-duplicates", (first, "warning", "info"), where)


def torn_groups(facts: Facts) -> Iterator[Finding]:
    """Groups (a patient, a video) whose pictures the data put into more than one part."""
    groups = facts.index.groups
    numbers = torn(facts.index)
    if groups is None or not len(numbers):
        return
    chosen = [np.flatnonzero(groups == number) for number in numbers[:MOST_GROUPS]]
    yield Finding(
        kind="groups-across-parts",
        severity="serious",
        title=f"{some(len(numbers), 'group', len(np.unique(groups)))} with pictures in more than one part",
        detail="A score on pictures of a group that was trained on is too good.",
        files=tuple(_named(facts, chosen)),
        fix="Put each group into one part, or --set data.split=new makes parts anew.",
    )


def _findings(facts: Facts, groups: Groups, kind: str, severities: tuple[str, ...], where: str) -> Iterator[Finding]:
    """Three findings at most: each group is told where it does the most harm."""
    parts, labels = facts.index.parts, facts.index.kinds(np.arange(len(facts.index)))
    across = [rows for rows in groups if len(set(parts[rows].tolist())) > 1]
    torn = [rows for rows in groups if len(set(labels[rows].tolist())) > 1]
    told = {id(rows) for rows in [*across, *torn]}
    inside = [rows for rows in groups if id(rows) not in told]
    what, near = "the same picture changed", " (recompressed, resized, mirrored or grey)"
    what, near = ("equal pixels", "") if kind == "duplicates" else (what, near)
    cases = (
        ("across-parts", across, f"{what} in {where}", "A score on copies of training pictures is too good."),
        ("two-labels", torn, f"{what} under two classes", "One of the labels is wrong, or the classes overlap."),
        ("inside", inside, f"{what} twice in one class", "They count twice, and no more is learned from them."),
    )
    for (name, chosen, title, detail), severity in zip(cases, severities, strict=True):
        if chosen:
            rows = np.concatenate(chosen)
            yield Finding(
                kind=kind if name == "inside" else f"{kind}-{name}",
                severity=severity,
                title=f"{some(len(rows), 'picture', len(facts))} in {some(len(chosen), 'group')}: {title}{near}",
                detail=detail,
                files=tuple(_named(facts, chosen)),
                fix=_fix(name, equal=not near),
                numbers={"pictures": len(rows), "groups": len(chosen), "of": len(facts)},
            )


def _named(facts: Facts, groups: Groups) -> Iterator[tuple[str, str]]:
    for number, rows in enumerate(groups, 1):
        yield from ((facts.index.keys[row], f"group {number} · {facts.place(row)}") for row in rows.tolist())


def _fix(name: str, *, equal: bool) -> str:
    if name == "inside":
        return (
            f"Keep one of each group. {'A new split keeps equal pixels in one part by itself.' if equal else KEEPING}"
        )
    if name == "two-labels":
        return "Decide on one label for each group: move or remove the others."
    return (
        "Training leaves out the copies of what is judged. To make parts anew: train with --split new"
        if equal
        else KEEPING
    )
