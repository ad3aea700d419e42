"""A network as a drawing for a thesis: boxes in the order of execution, framed by module, with every shortcut drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from tellapart.figures.sheet import Mark, Point, Sheet

WIDE, HIGH, GAP, TOP, EDGE, LANE = 160.0, 8.0, 3.6, 12.0, 5.5, 1.8
"""Millimetres: the page, a box, the room between two, the title, the left of a column, and one lane for a shortcut."""
MOST_BOXES, MOST_LANES, WIDEST, NARROW = 80, 6, 62.0, 40.0
"""More boxes, or more shortcuts side by side, and whole modules become boxes. Millimetres of the widest box, and of the
narrowest column.
"""
LINE, FRAME = "#333", "#999"
FILLS = (
    ("conv", "#dce8f6"),
    ("depthwise", "#dce8f6"),
    ("linear", "#fbe7d0"),
    ("pool", "#e1f0dc"),
    ("attention", "#ece2f5"),
    ("+", "#ffffff"),
)
"""Light enough that text stays readable in grey print; the words say the same."""


@dataclass(frozen=True)
class Box:
    """One box: its two lines, the result's shape, the frame it stands in, and the boxes it takes from (-1: picture)."""

    words: str
    path: str
    shape: str
    frame: str
    sources: tuple[int, ...]


Edge = tuple[int, int]


def shortcuts(boxes: Sequence[Box]) -> list[Edge]:
    """The ways (from, to) that do not lead from a box to the next one."""
    return [(source, n) for n, box in enumerate(boxes) for source in box.sources if source != n - 1]


def lanes_of(edges: Sequence[Edge]) -> tuple[dict[Edge, int], int]:
    """A lane for each shortcut, the short ones inside, so that no two lie on each other; and how many lanes."""
    lanes: dict[Edge, int] = {}
    for one in sorted(edges, key=lambda edge: edge[1] - edge[0]):
        taken = {lane for other, lane in lanes.items() if other[0] < one[1] and one[0] < other[1]}
        lanes[one] = next(n for n in range(len(edges)) if n not in taken)
    return lanes, max(lanes.values(), default=-1) + 1


def _columns(boxes: Sequence[Box], wide: float) -> list[list[int]]:
    """The boxes in up to four columns, of NARROW at least, cut where only the result of one box goes on."""
    count = max(1, min(int(wide // NARROW), -(-len(boxes) // 10)))
    crossed = {n for a, b in shortcuts(boxes) for n in range(a + 1, b)}
    cuts = [n for n in range(len(boxes) - 1) if n not in crossed and n in boxes[n + 1].sources]
    columns, start = [], 0
    for left in range(count, 1, -1):
        wanted = start + (len(boxes) - start) / left - 1
        cut = min((n for n in cuts if n >= start), key=lambda n: abs(n - wanted), default=None)
        if cut is not None:
            columns.append(list(range(start, cut + 1)))
            start = cut + 1
    return [column for column in (*columns, list(range(start, len(boxes)))) if column]


@dataclass(frozen=True)
class _Place:
    """Where a box lies, in millimetres: its left, top and width."""

    x: float
    y: float
    wide: float

    @property
    def middle(self) -> float:
        return self.x + self.wide / 2

    @property
    def bottom(self) -> float:
        return self.y + HIGH


def diagram(boxes: Sequence[Box], *, title: str, under: str, wide: float = WIDE) -> Sheet:
    """The boxes of a network as a sheet so many millimetres wide, with a title on the left and words on the right."""
    columns, (lanes, count) = _columns(boxes, wide), lanes_of(shortcuts(boxes))
    step = wide / len(columns)
    room = min(WIDEST, step - EDGE - LANE * (count + 1) - 1.5)
    inset = (step - EDGE - room - LANE * (count + 1)) / 2
    places = {
        n: _Place(c * step + inset + EDGE, TOP + row * (HIGH + GAP), room)
        for c, column in enumerate(columns)
        for row, n in enumerate(column)
    }
    high = max(place.bottom for place in places.values()) + GAP
    marks = [
        _text(2, 5, title, 3.2, room=0.62 * wide),
        _text(wide - 2, 5, under, 2.4, room=0.34 * wide, anchor="end"),
        *_frames(boxes, columns, places, room + LANE * (count + 0.6)),
        *_arrows(boxes, columns, places),
        *(_shortcut(places, edge, LANE * (lane + 1), columns) for edge, lane in lanes.items()),
        *(mark for n, box in enumerate(boxes) for mark in _boxed(box, places[n])),
    ]
    return Sheet(wide, round(high, 2), marks, "mm", title)


def _text(
    x: float,
    y: float,
    words: str,
    size: float,
    *,
    room: float,
    anchor: Literal["start", "middle", "end"] = "start",
    turned: bool = False,
) -> Mark:
    """Words that are made smaller where they would not fit into `room` millimetres."""
    size = max(0.1, min(size, room / (0.54 * max(1, len(words)))))
    return Mark("words", [(x, y)], "#111", size, words=words, anchor=anchor, turned=turned)


def _boxed(box: Box, at: _Place) -> Iterator[Mark]:
    fill = next((colour for word, colour in FILLS if word in box.words), "#f2f2f2")
    corners = [(at.x, at.y), (at.x + at.wide, at.bottom)]
    yield Mark("box", corners, fill, 0.2, edge=LINE, round=0.9)
    yield _text(at.middle, at.y + 3.4, box.words, 2.4, room=at.wide - 2, anchor="middle")
    most = int((at.wide - 3) / 0.85) - len(box.shape)  # the end of a path says more than its beginning
    path = box.path if len(box.path) <= most else f"…{box.path[1 - most :]}"
    share = (at.wide - 3) / max(1, len(path) + len(box.shape))
    yield _text(at.x + 1, at.y + 6.8, path, 2.0, room=share * len(path))
    yield _text(at.x + at.wide - 1, at.y + 6.8, box.shape, 2.0, room=share * len(box.shape), anchor="end")


def _line(points: Sequence[Point], *, bend: float = 0.0) -> Mark:
    return Mark("arrow", points, LINE, 0.25, round=bend)


def _arrows(boxes: Sequence[Box], columns: Sequence[Sequence[int]], places: dict[int, _Place]) -> Iterator[Mark]:
    """From each box to the next where it takes from it, also from the end of a column to the next one's top."""
    firsts = {column[0] for column in columns}
    for n in range(1, len(boxes)):
        a, b = places[n - 1], places[n]
        if n - 1 not in boxes[n].sources:
            continue
        points = [(a.middle, a.bottom)]
        if n in firsts:
            between, low, high = b.x - EDGE - 0.4, a.bottom + 1.8, b.y - 2.6
            points += [(a.middle, low), (between, low), (between, high), (b.middle, high)]
        yield _line([*points, (b.middle, b.y)])


def _shortcut(places: dict[int, _Place], edge: Edge, out: float, columns: Sequence[Sequence[int]]) -> Mark:
    """From the side of one box to that of another; from another column it branches off the line into this one."""
    a, b = places[edge[0]], places[edge[1]]
    right, end = b.x + b.wide, b.y + HIGH * 0.35
    start = (right, a.y + HIGH * 0.65)
    if a.x != b.x:
        first = places[next(column[0] for column in columns if edge[1] in column)]
        start = (first.middle, first.y - 2.6)
    return _line([start, (right + out, start[1]), (right + out, end), (right, end)], bend=1.0)


def _frames(
    boxes: Sequence[Box], columns: Sequence[Sequence[int]], places: dict[int, _Place], wide: float
) -> Iterator[Mark]:
    """One frame around the boxes of a top-level module in a column, with its name upright on the left."""
    for column in columns:
        for name, run in groupby(column, key=lambda n: boxes[n].frame):
            inside = list(run)
            if not name:
                continue
            a, b = places[inside[0]], places[inside[-1]]
            x, y, high = a.x - EDGE + 1, a.y - 1.3, b.bottom - a.y + 2.6
            corners = [(x, y), (x + wide + EDGE - 1, y + high)]
            yield Mark("box", corners, "#f8f8f8", 0.2, edge=FRAME, round=1.2)
            yield _text(x + 2.9, y + high / 2, name, 2.3, room=high - 1, anchor="middle", turned=True)
