"""Findings about sizes and shapes: odd ones, and how much of each picture the centre crop throws away."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.facts import Facts
from tellapart.audit.findings import Finding, some

EXTREME = 3.0
"""Long side over short side from which a picture is called extreme."""
ODD = 4.0
"""A shorter side this many times smaller or larger than the median is odd."""
LOST = 1 / 3
"""Mean share of the area lost to the crop that is worth a warning: a side ratio of 3 to 2."""
MARGIN = (224 / 256) ** 2
"""Share of the square that stays where networks of torchvision get their usual margin."""


def crop_loss(sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N): the share of each picture's area outside its centre square; sizes (N, 2) are heights and widths."""
    return 1 - sizes.min(axis=1) / np.maximum(1, sizes.max(axis=1))


def crop_findings(sizes: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]) -> Iterator[Finding]:
    """What the crop loses over all and by class, and what pad and squash would do instead."""
    lost = crop_loss(sizes)
    by_class = {name: float(lost[labels == k].mean()) for k, name in enumerate(classes) if (labels == k).any()}
    if not len(lost) or max(by_class.values()) < 0.01:
        return
    worst = max(by_class, key=lambda name: by_class[name])
    much = float(lost.mean()) >= LOST or by_class[worst] >= LOST
    ratio = float(np.median(sizes.max(axis=1) / np.maximum(1, sizes.min(axis=1))))
    yield Finding(
        kind="crop-loss",
        severity="warning" if much else "info",
        title=f"The centre crop throws away {100 * lost.mean():.0f} % of the area of {len(lost):,} pictures "
        f"(class {worst}: {100 * by_class[worst]:.0f} %)",
        detail=f"Networks of torchvision lose {100 * (1 - MARGIN * (1 - lost.mean())):.0f} % with their margin. "
        f"Padding keeps everything and leaves {100 * lost.mean():.0f} % of the square empty; squashing keeps "
        f"everything and stretches the typical picture {ratio:.2f} to 1.",
        fix="If what matters may lie near the edges: train with --set input.fit=pad (or squash)" if much else "",
        numbers={"lost": float(lost.mean()), "n": len(lost), "by_class": by_class, "stretch": ratio},
    )


def odd_shapes(facts: Facts) -> Iterator[Finding]:
    """Pictures far smaller or larger than the rest, and those much longer than wide."""
    rows = facts.whole()
    sizes = sizes_of(facts, rows)
    short, long = sizes.min(axis=1), np.maximum(1, sizes.max(axis=1))
    middle = float(np.median(short)) if len(rows) else 0.0
    odd = (short * ODD < middle) | (short > ODD * middle)
    yield from _shaped(facts, rows[odd], "odd-sizes", f"sizes far from the usual shorter side of {middle:.0f} px")
    extreme = long >= EXTREME * short
    yield from _shaped(facts, rows[extreme], "extreme-shapes", f"one side {EXTREME:g} times the other or more")


def _shaped(facts: Facts, rows: NDArray[np.int64], kind: str, what: str) -> Iterator[Finding]:
    if len(rows):
        sizes = sizes_of(facts, rows).tolist()
        files = tuple((facts.index.keys[row], f"{w} x {h}") for row, (h, w) in zip(rows.tolist(), sizes, strict=True))
        few = len(rows) < 0.05 * len(facts)
        yield Finding(
            kind=kind,
            severity="info" if few or kind == "odd-sizes" else "warning",
            title=f"{some(len(rows), 'picture', len(facts))}: {what}",
            detail="Look whether they belong to the rest." if few else "",
            files=files,
            fix="To keep all of them, train with --set input.fit=pad" if kind == "extreme-shapes" and not few else "",
            numbers={"pictures": len(rows), "of": len(facts)},
        )


def sizes_of(facts: Facts, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Heights and widths (n, 2) of some rows."""
    return np.stack([facts.table["height"][rows], facts.table["width"][rows]], axis=1).astype(np.int64)


def statistics(facts: Facts) -> Iterator[Finding]:
    """Mean and deviation of each channel over the training pictures, in [0, 1]; each picture counts the same."""
    rows = facts.training()
    if not len(rows):
        return
    grey = bool((facts.table["channels"][rows] == 1).all())
    mean = facts.table["mean"][rows].mean(axis=0)
    std = np.sqrt(np.maximum(0, facts.table["square"][rows].mean(axis=0) - mean**2))
    means, stds = ([round(float(v), 4) for v in values[: 1 if grey else 3]] for values in (mean, std))
    yield Finding(
        kind="statistics",
        severity="info",
        title=f"Mean {', '.join(f'{v:.3f}' for v in means)} and deviation {', '.join(f'{v:.3f}' for v in stds)} "
        f"{'of grey' if grey else 'of red, green, blue'} over {some(len(rows), 'training picture')}",
        numbers={"mean": means, "std": stds, "n": len(rows)},
    )
