"""Several lines over one axis, in panels side by side with one legend."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tellapart.figures.curve import Axis
from tellapart.figures.letters import cut
from tellapart.figures.sheet import QUIET, Mark, Point, Sheet, wide

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F", "#56B4E9", "#B79F00", "#000000")
"""Eight that can be told apart, by people who see no red or green as well (after M. Okabe and K. Ito, 2008)."""
WIDE, HIGH = 560, 400
LEFT, RIGHT, ABOVE, BELOW, ROW, EDGE = 64, 20, 30, 50, 20, 14
"""Pixels of a panel, of its margins, and of a row of the legend."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a panel: heights at xs (nan: a gap), drawn light beneath `smooth` where that is given; `band` is how
    far they reach up and down. `number` is its colour, and its place in the legend.
    """

    number: int
    xs: Sequence[float]
    ys: Sequence[float]
    smooth: Sequence[float] = ()
    band: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: what is across and up, and its lines."""

    across: str
    up: str
    lines: Sequence[Line]


def lines(title: str, panels: Sequence[Panel], legend: Sequence[str]) -> Sheet:
    """The panels side by side, below a title and one name for each number of a line."""
    rows = -(-len(legend) // 2)
    top = 34 + rows * ROW
    marks = [Mark("words", [(EDGE, 24)], words=title, width=17)]
    for n, name in enumerate(legend):
        x, y = EDGE + n % 2 * WIDE, 34 + n // 2 * ROW + ROW / 2
        marks.append(Mark("line", [(x, y), (x + 24, y)], COLOURS[n % len(COLOURS)], 3))
        short = cut(name, lambda part: wide(part, 14), WIDE - 40 - EDGE)
        marks.append(Mark("words", [(x + 32, y + 5)], words=short, width=14))
    for n, panel in enumerate(panels):
        marks += _panel(panel, (n * WIDE, top))
    return Sheet(WIDE * len(panels), top + HIGH, marks)


def _panel(panel: Panel, corner: Point) -> Iterator[Mark]:
    across, up = _axes(panel)

    def place(x: float, y: float) -> Point:
        right, above = across.share(x), min(1.0, max(0.0, up.share(y)))
        wide, tall = WIDE - LEFT - RIGHT, HIGH - ABOVE - BELOW
        return corner[0] + LEFT + right * wide, corner[1] + ABOVE + (1 - above) * tall

    low, high = place(across.low, up.low), place(across.high, up.high)
    for tick in up.ticks():
        y = place(across.low, tick)[1]
        yield Mark("line", [(low[0], y), (high[0], y)], QUIET)
        yield Mark("words", [(low[0] - 7, y + 4)], words=f"{tick:.6g}", width=12, anchor="end")
    for tick in (tick for tick in across.ticks() if tick == int(tick)):
        x = place(tick, up.low)[0]
        yield Mark("line", [(x, low[1]), (x, low[1] + 5)])
        yield Mark("words", [(x, low[1] + 19)], words=f"{tick:,.0f}", width=12, anchor="middle")
    yield Mark("line", [(low[0], high[1]), low, (high[0], low[1])])
    yield Mark("words", [(low[0], high[1] - 10)], words=panel.up, width=13)
    yield Mark("words", [(high[0], low[1] + 38)], words=panel.across, width=13, anchor="end")
    for line in panel.lines:
        yield from _line(line, place)


def _line(line: Line, place: Callable[[float, float], Point]) -> Iterator[Mark]:
    colour = COLOURS[line.number % len(COLOURS)]
    middle = line.smooth or line.ys
    for part in _unbroken(line.band):
        over = [place(line.xs[k], line.ys[k] + line.band[k]) for k in part]
        under = [place(line.xs[k], line.ys[k] - line.band[k]) for k in part]
        kind = "area" if len(part) > 1 else "line"
        yield Mark(kind, [*over, *reversed(under)], colour, 3, 0.2)
    for heights, width, solid in ((line.ys, 1.5, 0.4 if line.smooth else 0.0), (middle, 2.5, 1.0)):
        for part in _unbroken(heights) if solid else ():
            points = [place(line.xs[k], heights[k]) for k in part]
            if len(points) == 1:
                points = [(points[0][0] - 2, points[0][1]), (points[0][0] + 2, points[0][1])]
            yield Mark("line", points, colour, width, solid)


def _unbroken(heights: Sequence[float]) -> Iterator[range]:
    """The stretches of neighbours that are numbers."""
    start = 0
    for k, height in enumerate([*heights, math.nan]):
        if not math.isfinite(height):
            if k > start:
                yield range(start, k)
            start = k + 1


def _axes(panel: Panel) -> tuple[Axis, Axis]:
    """Both axes, wide enough for all lines and bands."""
    xs = [x for line in panel.lines for x in line.xs]
    reach = [
        (y - far, y + far)
        for line in panel.lines
        for heights, band in ((line.ys, line.band), (line.smooth, ()))
        for y, far in zip(heights, band or [0.0] * len(heights), strict=True)
        if math.isfinite(y)
    ] or [(0.0, 1.0)]
    low, high = min(bottom for bottom, _ in reach), max(top for _, top in reach)
    room = 0.04 * (high - low) or 0.05 * abs(high) or 0.5
    first, last = min(xs), max(xs)
    return Axis(panel.across, first, last if last > first else first + 1), Axis(panel.up, low - room, high + room)
