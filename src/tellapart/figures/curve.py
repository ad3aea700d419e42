"""One curve over two axes with ticks and labels, as an image fit for a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tellapart.figures.letters import font_for, write

WIDE, HIGH, FINER = 960, 540, 3
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 84, 64
"""Pixels of the image and of its margins; it is drawn `FINER` times as large and made smaller, so that edges are soft.
"""
PAPER, INK, QUIET, LINE, FAINT = (255, 255, 255), (34, 34, 34), (226, 226, 226), (31, 87, 164), (190, 205, 226)
MOST = 2000
"""Points of a line; more could not be told apart."""


@dataclass(frozen=True)
class Axis:
    """One direction of a plot, from `low` to `high`, which must be larger; `scale` is "linear" or "log"."""

    label: str
    low: float
    high: float
    scale: str = "linear"

    def share(self, value: float) -> float:
        """Where a value lies between the ends: 0 at `low`, 1 at `high`.

        >>> Axis("rate", 1e-4, 1.0, "log").share(0.01)
        0.5
        """
        turn = math.log10 if self.scale == "log" else float
        return (turn(value) - turn(self.low)) / (turn(self.high) - turn(self.low))

    def ticks(self) -> list[float]:
        """Round numbers between the ends: powers of ten, or about six multiples of 1, 2 or 5.

        >>> Axis("steps", 0, 560).ticks()
        [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]
        """
        if self.scale == "log":
            return [10.0**n for n in range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)]
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((power * n for n in (1, 2, 5, 10)), key=lambda size: abs(math.log(size / rough)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def place(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    """The pixel of a point; what lies beyond an axis is at its end."""
    shares = (min(1.0, max(0.0, axis.share(value))) for axis, value in ((across, x), (up, y)))
    right, above = next(shares), next(shares)
    return LEFT + right * (WIDE - LEFT - RIGHT), HIGH - BOTTOM - above * (HIGH - TOP - BOTTOM)


def curve(
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    across: Axis,
    up: Axis,
    title: str,
    under: Sequence[float] = (),
    mark: tuple[float, str] | None = None,
) -> Image.Image:
    """The line through (xs, ys). `under`: other heights at the same xs, faint; `mark`: an x with a word beside it."""
    image = Image.new("RGB", (WIDE * FINER, HIGH * FINER), PAPER)
    draw = ImageDraw.Draw(image)
    _frame(draw, across, up, title)
    for heights, colour, width in ((under, FAINT, 1.5), (ys, LINE, 2.5)):
        shown = [round(n * (len(heights) - 1) / (MOST - 1)) for n in range(MOST)] if len(heights) > MOST else None
        points = [place(across, up, xs[n], heights[n]) for n in shown or range(len(heights))]
        draw.line(_fine(*points), fill=colour, width=round(width * FINER), joint="curve")
    if mark is not None:
        x, _ = place(across, up, mark[0], up.low)
        draw.line(_fine((x, TOP), (x, HIGH - BOTTOM)), fill=INK, width=FINER)
        left = x > (LEFT + WIDE - RIGHT) / 2
        _text(draw, (x - 8 if left else x + 8, TOP + 4), mark[1], anchor="ra" if left else "la")
    return image.resize((WIDE, HIGH), Image.Resampling.LANCZOS)


def _frame(draw: ImageDraw.ImageDraw, across: Axis, up: Axis, title: str) -> None:
    """Title, labels, ticks with quiet lines behind them, and the two axes."""
    left, low = place(across, up, across.low, up.low)
    right, high = place(across, up, across.high, up.high)
    for tick in up.ticks():
        y = place(across, up, across.low, tick)[1]
        draw.line(_fine((left, y), (right, y)), fill=QUIET, width=FINER)
        _text(draw, (left - 8, y), f"{tick:.6g}", anchor="rm")
    for tick in across.ticks():
        x = place(across, up, tick, up.low)[0]
        draw.line(_fine((x, low), (x, low + 5)), fill=INK, width=FINER)
        _text(draw, (x, low + 9), f"{tick:,.10g}", anchor="ma")
    draw.line(_fine((left, high), (left, low), (right, low)), fill=INK, width=FINER)
    _text(draw, (left, 16), title, size=19)
    _text(draw, (left, high - 12), up.label, anchor="ls")
    _text(draw, (right, HIGH - 14), across.label, anchor="rs")


def _fine(*points: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * FINER, y * FINER) for x, y in points]


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], words: str, *, anchor: str = "la", size: int = 15
) -> None:
    font = font_for(words, size * FINER)
    write(draw, (at[0] * FINER, at[1] * FINER), words, fill=INK, font=font, anchor=anchor)
