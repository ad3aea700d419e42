"""Layers over two axes as a sheet in millimetres, for print: line styles and colours that grey paper keeps apart."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tellapart.figures.curve import Axis
from tellapart.figures.lines import COLOURS
from tellapart.figures.plot import Layer, plain
from tellapart.figures.sheet import INK, PAPER, QUIET, Mark, Point, Sheet, wide

PT = 25.4 / 72
LETTER, SMALL, THIN = 8 * PT, 7 * PT, 0.2
"""Millimetres: letters of labels and of ticks, and the thinnest line."""
EDGE, TICK, DOT = 1.0, 1.0, 0.65
"""The room at the edge, the length of a tick, and the radius of a dot."""
DASHES: tuple[tuple[float, ...], ...] = ((), (1.6, 0.8), (0.5, 0.6), (2.4, 0.6, 0.5, 0.6), (3.2, 1.2), (1.0, 0.4))


@dataclass(frozen=True)
class Look:
    """How a layer is drawn: colour, millimetres of its line, its dashes, and how much it hides."""

    colour: str
    width: float = 0.45
    dashes: tuple[float, ...] = ()
    solid: float = 1.0


LOOKS = {
    "main": Look(COLOURS[0]),
    "main faint": Look(COLOURS[0], 0.25, solid=0.45),
    "other": Look(COLOURS[1], dashes=DASHES[1]),
    "other faint": Look(COLOURS[1], 0.25, solid=0.45),
    "ref": Look("#888888", 0.25, (0.8, 0.8)),
    "bar": Look(COLOURS[0], 0.3),
    "bar other": Look(COLOURS[1], 0.3),
    "band": Look(COLOURS[0], solid=0.2),
    "dot": Look(COLOURS[0]),
    "hollow": Look(COLOURS[1], 0.3),
    **{f"line {n}": Look(COLOURS[n], dashes=dashes) for n, dashes in enumerate(DASHES)},
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Layers over two axes: their words for ticks, their ticks `at` where these are not to be found, and a legend of
    (look, words); `tall` is the height of the drawing by its width.
    """

    layers: Sequence[Layer]
    across: Axis
    up: Axis
    words: tuple[Callable[[float], str], Callable[[float], str]] = (plain, plain)
    at: Sequence[float] = ()
    legend: Sequence[tuple[str, str]] = ()
    tall: float = 0.62


@dataclass(frozen=True)
class Frame:
    """Where the axes lie on a sheet, in millimetres."""

    left: float
    top: float
    right: float
    bottom: float
    across: Axis
    up: Axis

    def at(self, x: float, y: float) -> Point:
        """The place of a point; what lies beyond an axis is at its end."""
        right, above = (min(1.0, max(0.0, axis.share(v))) for axis, v in ((self.across, x), (self.up, y)))
        return self.left + right * (self.right - self.left), self.bottom - above * (self.bottom - self.top)


def charted(chart: Chart, width: float, *, title: str) -> Sheet:
    """The chart as a sheet so many millimetres wide."""
    ups = [tick for tick in chart.at or chart.up.ticks() if chart.words[1](tick)]
    left = EDGE + LETTER * 1.4 + max((wide(chart.words[1](tick), SMALL) for tick in ups), default=0.0) + 2.5
    legend, top = _legend(chart.legend, left, width)
    bottom = top + chart.tall * width
    last = wide(chart.words[0](chart.across.high), SMALL) / 2
    frame = Frame(left, top, width - EDGE - max(1.0, last), bottom, chart.across, chart.up)
    marks = [*_axes(chart, frame, ups), *(mark for layer in chart.layers for mark in drawn(layer, frame)), *legend]
    return Sheet(width, round(bottom + 2 * LETTER + 3.6, 2), marks, "mm", title)


def _legend(legend: Sequence[tuple[str, str]], left: float, width: float) -> tuple[list[Mark], float]:
    """The marks of the legend in rows above the plot, and where they end."""
    marks, x, y = [], left, EDGE + SMALL
    for look, words in legend:
        needs = 8 + wide(words, SMALL)
        if x > left and x + needs > width:
            x, y = left, y + 1.45 * SMALL
        middle = y - SMALL * 0.35
        if look in ("dot", "hollow"):
            marks += _dot((x + 3, middle), look)
        elif look == "band":
            corners = [(x, middle - 0.9), (x + 6, middle - 0.9), (x + 6, middle + 0.9), (x, middle + 0.9)]
            marks.append(Mark("area", corners, LOOKS[look].colour, solid=LOOKS[look].solid))
        else:
            marks += _line([(x, middle), (x + 6, middle)], LOOKS[look])
        marks.append(Mark("words", [(x + 7, y)], words=words, width=SMALL))
        x += needs + 3
    return marks, (y + 2.2 if legend else EDGE + 1.5)


def _axes(chart: Chart, frame: Frame, ups: Sequence[float]) -> Iterator[Mark]:
    """Quiet lines across, ticks with numbers, and the names of both axes."""
    for tick in ups:
        y = frame.at(frame.across.low, tick)[1]
        yield Mark("line", [(frame.left, y), (frame.right, y)], QUIET, THIN)
        yield Mark("words", [(frame.left - 1, y + 0.36 * SMALL)], words=chart.words[1](tick), width=SMALL, anchor="end")
    found = [tick for tick in chart.at or chart.across.ticks() if chart.words[0](tick)]
    room = 1.3 * max((wide(chart.words[0](tick), SMALL) for tick in found), default=1.0)
    for tick in found[:: max(1, math.ceil(len(found) * room / (frame.right - frame.left)))]:
        x = frame.at(tick, frame.up.low)[0]
        yield Mark("line", [(x, frame.bottom), (x, frame.bottom + TICK)], INK, THIN)
        at = [(x, frame.bottom + TICK + SMALL)]
        yield Mark("words", at, words=chart.words[0](tick), width=SMALL, anchor="middle")
    corner = (frame.left, frame.bottom)
    yield Mark("line", [(frame.left, frame.top), corner, (frame.right, frame.bottom)], INK, THIN)
    below = (frame.left + frame.right) / 2, frame.bottom + TICK + SMALL + 1.3 * LETTER
    yield Mark("words", [below], words=chart.across.label, width=LETTER, anchor="middle")
    beside = EDGE + LETTER * 0.8, (frame.top + frame.bottom) / 2
    yield Mark("words", [beside], words=chart.up.label, width=LETTER, anchor="middle", turned=True)


def drawn(layer: Layer, frame: Frame) -> Iterator[Mark]:
    """The marks of one layer."""
    look = LOOKS[layer.look]
    points = [frame.at(x, y) for x, y in layer.points]
    if layer.kind == "area":
        low = [frame.at(x, y) for (x, _), y in zip(layer.points, layer.low, strict=True)]
        high = [frame.at(x, y) for (x, _), y in zip(layer.points, layer.high, strict=True)]
        yield Mark("area", [*high, *reversed(low)], look.colour, solid=look.solid)
    elif layer.kind == "dots":
        for point in points:
            yield from _dot(point, layer.look)
    elif layer.kind == "bars":
        for (x, _), low, high in zip(layer.points, layer.low, layer.high, strict=True):
            yield Mark("line", [frame.at(x, low), frame.at(x, high)], look.colour, look.width, look.solid)
    elif len(points) == 1:
        yield from _dot(points[0], layer.look)
    else:
        yield from _line(points, look)


def _line(points: Sequence[Point], look: Look) -> Iterator[Mark]:
    for part in dashed(points, look.dashes) if look.dashes else [points]:
        yield Mark("line", part, look.colour, look.width, look.solid)


def _dot(at: Point, look: str) -> Iterator[Mark]:
    turns = [2 * math.pi * n / 16 for n in range(17)]
    circle = [(at[0] + DOT * math.cos(turn), at[1] + DOT * math.sin(turn)) for turn in turns]
    hollow = look == "hollow"
    yield Mark("area", circle, PAPER if hollow else LOOKS[look].colour)
    if hollow:
        yield Mark("line", circle, LOOKS[look].colour, LOOKS[look].width)


def dashed(points: Sequence[Point], dashes: Sequence[float]) -> list[list[Point]]:
    """The pieces of a line through points that dashes leave: lengths that are drawn and left out in turn.

    >>> dashed([(0.0, 0.0), (5.0, 0.0)], (2.0, 1.0))
    [[(0.0, 0.0), (2.0, 0.0)], [(3.0, 0.0), (5.0, 0.0)]]
    """
    parts, number, left = [[points[0]]], 0, dashes[0]
    for start, end in pairwise(points):
        length, done = math.dist(start, end), 0.0
        while length - done > left:
            done += left
            share = done / length
            corner = start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
            if number % 2 == 0:
                parts[-1].append(corner)
            else:
                parts.append([corner])
            number += 1
            left = dashes[number % len(dashes)]
        left -= length - done
        if number % 2 == 0:
            parts[-1].append(end)
    return [part for part in parts if len(part) > 1]
