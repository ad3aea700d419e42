"""Panels of points that share one height: each trial of a search, over its number and over what was varied."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tellapart.figures.letters import font_for, write

WIDE, HIGH, FINER = 440, 300, 2
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 40
"""Pixels of a panel and of its margins; it is drawn `FINER` times as large and made smaller, for soft edges."""
PAPER, INK, QUIET, POINT, FAINT = (255, 255, 255), (34, 34, 34), (226, 226, 226), (31, 87, 164), (170, 170, 170)

Point = tuple[float, float, bool]
"""Where across (0 to 1), how high (a share), and whether it counts."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: its points, the words under it, and the heights of a line of steps through them, if any."""

    label: str
    points: Sequence[Point]
    ticks: Sequence[tuple[float, str]]
    line: Sequence[tuple[float, float]] = ()


def panels(title: str, every: Sequence[Panel], *, columns: int = 2) -> Image.Image:
    """The panels row by row, as an RGB image; points that do not count are faint. Heights are shares, shown in %.

    Raises ValueError when there is no panel.
    """
    if not every:
        raise ValueError("Expected one panel or more, received none.")
    heights = [height for panel in every for _, height, _ in panel.points] or [0.0, 1.0]
    low, high = max(0.0, min(heights) - 0.01), min(1.0, max(heights) + 0.01)
    rows = -(-len(every) // columns)
    image = Image.new("RGB", (min(columns, len(every)) * WIDE * FINER, (rows * HIGH + TOP) * FINER), PAPER)
    draw = ImageDraw.Draw(image)
    _text(draw, (LEFT, 12), title, "la")
    for number, panel in enumerate(every):
        _draw(draw, panel, (number % columns * WIDE, TOP + number // columns * HIGH), low, high)
    return image.resize((image.width // FINER, image.height // FINER), Image.Resampling.LANCZOS)


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, corner: tuple[int, int], low: float, high: float) -> None:
    def place(across: float, height: float) -> tuple[float, float]:
        up = (height - low) / (high - low)
        wide, tall = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
        return corner[0] + LEFT + across * wide, corner[1] + TOP + (1 - up) * tall

    for n in range(5):
        height = low + n / 4 * (high - low)
        draw.line(_fine(place(0, height), place(1, height)), fill=QUIET, width=FINER)
        x, y = place(0, height)
        _text(draw, (x - 8, y), f"{100 * height:.1f} %", "rm")
    for across, word in panel.ticks:
        x, y = place(across, low)
        _text(draw, (x, y + 6), word, "ma")
    _text(draw, (corner[0] + LEFT, corner[1] + TOP - 18), panel.label, "la")
    if panel.line:
        draw.line(_fine(*(place(*point) for point in panel.line)), fill=FAINT, width=2 * FINER)
    for across, height, counts in panel.points:
        x, y = place(across, height)
        colour = {"fill": POINT, "outline": POINT} if counts else {"fill": PAPER, "outline": FAINT}
        draw.ellipse(_fine((x - 3.5, y - 3.5), (x + 3.5, y + 3.5)), **colour, width=FINER)


def _fine(*points: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * FINER, y * FINER) for x, y in points]


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str) -> None:
    write(draw, _fine(at)[0], text, fill=INK, font=font_for(text, 12 * FINER), anchor=anchor)
