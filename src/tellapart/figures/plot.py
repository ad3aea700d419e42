"""Plots for a page, as SVG that takes its colours from the page's style: values in, text out. No letter but numbers."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tellapart.figures.curve import Axis

LEFT, RIGHT, TOP, BOTTOM, MOST = 44.0, 12.0, 8.0, 22.0, 240
"""The margins of a plot, and the points of a line; more could not be told apart."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One thing that is drawn: `look` is its class in the style, `kind` is line, dots, area or bars.

    Bars and areas go from `low` to `high` at the x of each point; dots and lines go through the points.
    """

    points: Points
    look: str
    kind: str = "line"
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def plain(value: float) -> str:
    """A tick as a number."""
    return f"{value:,.6g}"


def in_percent(value: float) -> str:
    """A tick as a share of a hundred."""
    return f"{100 * value:.6g} %"


def plot(
    layers: Iterable[Layer],
    *,
    across: Axis,
    up: Axis,
    named_by: str,
    size: tuple[int, int] = (440, 260),
    words: tuple[Callable[[float], str], Callable[[float], str]] = (plain, plain),
    at: Sequence[float] = (),
) -> str:
    """The layers over two axes with ticks. `named_by`: the id of what says in words what is seen;
    `at`: the ticks of both axes, when they are not to be found.

    A line with more points than can be told apart is thinned, its ends stay.
    """
    frame = _Frame(across, up, *size)
    body = [*frame.ticks(words, at), *(line for layer in layers for line in _drawn(layer, frame))]
    return (
        f'<svg class="plot" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-labelledby="{named_by}">'
        + "".join(body)
        + "</svg>"
    )


def strip(value: float, low: float, high: float) -> str:
    """A share as a dot with its interval on a line from 0 to 1, for a cell of a table."""
    at, left, right = (f"{4 + 112 * one:.1f}" for one in (value, low, high))
    return (
        '<svg class="strip" viewBox="0 0 120 12" aria-hidden="true"><line class="axis" x1="4" x2="116" y1="6" y2="6"/>'
        f'<line class="span" x1="{left}" x2="{right}" y1="6" y2="6"/><circle class="dot" cx="{at}" cy="6" r="3"/></svg>'
    )


def smoothed(values: Sequence[float], weight: float = 0.6) -> list[float]:
    """The running mean that TensorBoard draws: s = w s + (1 - w) x from s = 0, over 1 - w^n after n numbers.

    What is not finite stays as it is and counts for nothing, and so does a line of equal values.

    >>> smoothed([1.0, 1.0, 2.0], 0.5)
    [1.0, 1.0, 1.5714285714285714]
    """
    if len(set(values)) < 2:
        return list(values)
    found, last, n = [], 0.0, 0
    for value in values:
        if math.isfinite(value):
            last, n = weight * last + (1 - weight) * value, n + 1
            value = last / (1 - weight**n)
        found.append(value)
    return found


@dataclass(frozen=True)
class _Frame:
    """Where points lie on a drawing."""

    across: Axis
    up: Axis
    wide: int
    high: int

    def at(self, x: float, y: float) -> tuple[float, float]:
        right, above = (min(1.0, max(0.0, axis.share(v))) for axis, v in ((self.across, x), (self.up, y)))
        return LEFT + right * (self.wide - LEFT - RIGHT), self.high - BOTTOM - above * (self.high - TOP - BOTTOM)

    def ticks(self, words: tuple[Callable[[float], str], Callable[[float], str]], at: Sequence[float]) -> Iterator[str]:
        """Quiet lines across, and numbers at both axes, as many across as there is room for."""
        left, bottom = self.at(self.across.low, self.up.low)
        right, _ = self.at(self.across.high, self.up.low)
        for value in at or self.up.ticks():
            y = self.at(self.across.low, value)[1]
            yield f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{left - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{words[1](value)}</text>'
        found = list(at) or self.across.ticks()
        for value in found[:: max(1, -(-len(found) * 44 // int(self.wide - LEFT)))]:
            x = self.at(value, self.up.low)[0]
            yield f'<text x="{x:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{words[0](value)}</text>'
        yield f'<line class="axis" x1="{left:.1f}" x2="{right:.1f}" y1="{bottom:.1f}" y2="{bottom:.1f}"/>'


def _drawn(layer: Layer, frame: _Frame) -> Iterator[str]:
    if layer.kind == "area":
        there = [frame.at(x, y) for (x, _), y in zip(layer.points, layer.high, strict=True)]
        back = [frame.at(x, y) for (x, _), y in zip(layer.points, layer.low, strict=True)]
        yield f'<polygon class="{layer.look}" points="{_path([*there, *back[::-1]])}"/>'
    elif layer.kind == "dots":
        for x, y in (frame.at(*point) for point in layer.points):
            yield f'<circle class="{layer.look}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    elif layer.kind == "bars":
        for (x, _), low, high in zip(layer.points, layer.low, layer.high, strict=True):
            (at, bottom), (_, top) = frame.at(x, low), frame.at(x, high)
            yield f'<line class="{layer.look}" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom:.1f}" y2="{top:.1f}"/>'
    else:
        points = _thinned([frame.at(*point) for point in layer.points])
        yield f'<polyline class="{layer.look}" points="{_path(points)}"/>'


def _thinned(points: Points) -> Points:
    """At most MOST points, evenly, with both ends."""
    if len(points) <= MOST:
        return points
    return [points[round(n * (len(points) - 1) / (MOST - 1))] for n in range(MOST)]


def _path(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
