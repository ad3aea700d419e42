"""The training pictures nearest to some mistakes: a row for each, so that a reader sees what it was taken for."""

from collections.abc import Callable, Iterator
from itertools import groupby

from tellapart.evaluation.alikes import Alike
from tellapart.figures.inert import inert, short
from tellapart.reporting.album import address, end
from tellapart.reporting.evidence import Evidence
from tellapart.reporting.markup import folded, name, paragraph, words


def likened(of: Evidence, shot: Callable[[int], str]) -> Iterator[str]:
    """The mistakes of which the nearest training pictures were kept; `shot`: the picture of a row with its caption."""
    alikes = of.alikes
    if alikes is None or not alikes.each:
        return
    rows = [(row, list(each)) for row, each in groupby(alikes.each, key=lambda one: one.row)]
    wrong = int((of.shown.logits.argmax(1) != of.shown.labels).sum())
    counts = {"pictures": f"{len(rows):,}", "count": f"{wrong:,}"}
    among = {"compared": f"{alikes.compared:,}", "train": f"{alikes.train:,}", "layer": short(alikes.layer, 60)}
    each = (f'<div class="alike">{shot(row)}{"".join(map(_tile, several))}</div>' for row, several in rows)
    yield folded(words("alike"), paragraph("alike", {**counts, **among}) + f'<div class="alikes">{"".join(each)}</div>')


def _tile(one: Alike) -> str:
    """A training picture with its class, how far away it is, and its key."""
    key = inert(end(one.key))
    told = f'{name(one.name, 40)} {one.distance:.2f}<small><bdi title="{inert(short(one.key))}">{key}</bdi></small>'
    return f'<figure><img alt="{key}" src="{address(one.small)}"><figcaption>{told}</figcaption></figure>'
