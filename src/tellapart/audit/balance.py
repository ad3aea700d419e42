"""Findings about how many pictures each class has."""

from collections.abc import Iterator, Sequence

from tellapart.audit.findings import Finding, some
from tellapart.data.sources.listing import few

UNEVEN, VERY_UNEVEN = 3, 10
"""Ratio of the largest to the smallest class that is worth saying, and that is worth a warning."""
TINY = 10
"""A class with fewer training pictures than this can hardly be learned or judged."""


def balance(classes: Sequence[str], counts: Sequence[int]) -> Iterator[Finding]:
    """Class imbalance and tiny classes, from the pictures per class (K) that can be trained on."""
    order = sorted(range(len(counts)), key=lambda k: counts[k])
    least, most = order[0], order[-1]
    ratio = counts[most] / max(1, counts[least])
    if ratio >= UNEVEN:
        yield Finding(
            kind="imbalance",
            severity="warning" if ratio >= VERY_UNEVEN else "info",
            title=f"Class {classes[most]} has {counts[most]:,} pictures and {classes[least]} has {counts[least]:,}: "
            f"{ratio:.0f} to 1",
            detail=f"Always saying {classes[most]} would be right for {100 * counts[most] / sum(counts):.1f} % of "
            f"{some(sum(counts), 'picture')}. Judge by the mean over classes as well.",
            fix="Add pictures of the small classes.",
            numbers={"ratio": ratio, "counts": dict(zip(classes, counts, strict=True))},
        )
    tiny = [k for k in order if counts[k] < TINY]
    if tiny:
        yield Finding(
            kind="tiny-classes",
            severity="warning",
            title=f"{some(len(tiny), 'class', len(counts)).replace('classs', 'classes')} with fewer than {TINY} "
            f"pictures: {few([f'{classes[k]} ({counts[k]})' for k in tiny], 4)}",
            detail="So few can hardly be learned, and hardly be judged.",
            fix="Add pictures of them, or leave the classes out.",
            numbers={"classes": {classes[k]: counts[k] for k in tiny}, "of": len(counts)},
        )
