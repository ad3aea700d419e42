"""One drawing, three writers: marks on a sheet become SVG with text as text, or pixels; pdf.py makes the third."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tellapart.data.sources.listing import shown
from tellapart.figures.letters import FINE, drawable, font_for, in_order, length, write
from tellapart.recipe import printable

PAPER, INK, QUIET = "#ffffff", "#222222", "#e2e2e2"
FINER = 2
"""Pixels are drawn so many times as large and made smaller, so that edges are soft."""
CORNER, TIP, HALF = 4, 1.0, 0.45
"""Points of a rounded corner; length and half the width of the tip of an arrow, in units of the sheet."""
FONTS = "Helvetica, Arial, sans-serif"

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """One thing on a sheet, at points in its unit.

    line, area: through the points; `solid` 1 hides what is below. arrow: a line with a tip, whose corners are `round`.
    box: between two points, filled with its colour, outlined by `edge`. words: of size `width`, upright where `turned`.
    picture: `pixels` (H W 3) between two points.
    """

    kind: Literal["line", "area", "arrow", "box", "words", "picture"]
    points: Sequence[Point]
    colour: str = INK
    width: float = 1.0
    solid: float = 1.0
    words: str = ""
    anchor: Literal["start", "middle", "end"] = "start"
    edge: str = ""
    round: float = 0.0
    turned: bool = False
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Sheet:
    """A drawing: its size in its unit, px or mm, and its marks, the first at the bottom."""

    wide: float
    high: float
    marks: Sequence[Mark]
    unit: Literal["px", "mm"] = "px"
    title: str = ""


def text_of(mark: Mark) -> str:
    """The words of a mark as they can be written anywhere: on one line, without control characters."""
    return printable(shown(mark.words))


def rounded(points: Sequence[Point], radius: float) -> list[Point]:
    """The points of a line of right angles, its inner corners cut round."""
    found = [points[0]]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        ends = [_towards(corner, other, radius) for other in (before, after)]
        for n in range(CORNER + 1):
            t = n / CORNER
            parts = zip(ends[0], corner, ends[1], strict=True)
            x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c for a, b, c in parts)
            found.append((x, y))
    return [*found, points[-1]]


def _towards(start: Point, end: Point, far: float) -> Point:
    length = max(1e-9, abs(end[0] - start[0]) + abs(end[1] - start[1]))
    share = min(0.5, far / length)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def outline(mark: Mark) -> list[Point]:
    """The corners of a box, as a closed line, rounded where it is."""
    (left, top), (right, bottom) = mark.points
    middle = ((left + right) / 2, top)
    corners = [middle, (right, top), (right, bottom), (left, bottom), (left, top), middle]
    return rounded(corners, mark.round) if mark.round else corners[1:]


def tip(points: Sequence[Point]) -> list[Point]:
    """The triangle at the end of an arrow."""
    (x0, y0), (x, y) = points[-2:]
    length = max(1e-9, ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5)
    dx, dy = (x - x0) / length, (y - y0) / length
    base = (x - TIP * dx, y - TIP * dy)
    return [(x, y), (base[0] - HALF * dy, base[1] + HALF * dx), (base[0] + HALF * dy, base[1] - HALF * dx)]


def as_svg(sheet: Sheet) -> str:
    """The sheet as SVG of its size, with text as text."""
    unit = "" if sheet.unit == "px" else sheet.unit
    size = f'width="{sheet.wide:g}{unit}" height="{sheet.high:g}{unit}" viewBox="0 0 {sheet.wide:g} {sheet.high:g}"'
    made = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONTS}">']
    made += [f"<title>{escape(printable(shown(sheet.title)))}</title>"] * bool(sheet.title)
    if any(mark.kind == "arrow" for mark in sheet.marks):
        made.append(
            '<defs><marker id="tip" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="5" markerHeight="5" '
            'orient="auto"><path d="M0,0.8 L6,3 L0,5.2 z" fill="#333"/></marker></defs>'
        )
    made.append(f'<rect width="100%" height="100%" fill="{PAPER}"/>')
    return "\n".join([*made, *(line for mark in sheet.marks for line in _as_svg(mark)), "</svg>"]) + "\n"


def _as_svg(mark: Mark) -> Iterator[str]:
    (x, y), solid, stroke = mark.points[0], f"{mark.solid:g}", f'stroke-width="{mark.width:g}"'
    points = " ".join(f"{a:.2f},{b:.2f}" for a, b in mark.points)
    if mark.kind == "words":
        at = f'font-size="{mark.width:.4g}" text-anchor="{mark.anchor}" fill="{mark.colour}"'
        where = f'transform="translate({x:.2f} {y:.2f}) rotate(-90)"' if mark.turned else f'x="{x:.2f}" y="{y:.2f}"'
        yield f"<text {where} {at}>{escape(in_order(text_of(mark)))}</text>"
    elif mark.kind == "area":
        yield f'<polygon points="{points}" fill="{mark.colour}" fill-opacity="{solid}"/>'
    elif mark.kind == "line":
        line = f'stroke="{mark.colour}" {stroke} stroke-opacity="{solid}" stroke-linejoin="round"'
        yield f'<polyline points="{points}" fill="none" {line}/>'
    elif mark.kind == "arrow":
        yield f'<path d="{_path(mark)}" fill="none" stroke="{mark.colour}" {stroke} marker-end="url(#tip)"/>'
    else:
        (left, top), (right, bottom) = mark.points
        size = f'x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" height="{bottom - top:.2f}"'
        if mark.pixels is not None:
            yield f'<image {size} style="image-rendering:pixelated" href="{_address(mark.pixels)}"/>'
        else:
            edge = f' stroke="{mark.edge}" {stroke}' if mark.edge else ""
            yield f'<rect {size} rx="{mark.round:g}" fill="{mark.colour}"{edge}/>'


def _path(mark: Mark) -> str:
    """The points of an arrow as a path; a round corner is a curve."""
    first, *rest = mark.points
    parts = [f"M{first[0]:.2f},{first[1]:.2f}"]
    for n, corner in enumerate(rest):
        if mark.round and n < len(rest) - 1:
            (ax, ay), (bx, by) = (_towards(corner, other, mark.round) for other in (mark.points[n], rest[n + 1]))
            x, y = corner
            parts.append(f"L{ax:.2f},{ay:.2f} q{x - ax:.2f},{y - ay:.2f} {bx - ax:.2f},{by - ay:.2f}")
        else:
            parts.append(f"L{corner[0]:.2f},{corner[1]:.2f}")
    return " ".join(parts)


def _address(pixels: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def as_image(sheet: Sheet, *, dpi: float | None = None) -> Image.Image:
    """The sheet as an RGB image: in px as large as it says, in mm with so many dots to the inch."""
    scale = 1.0 if dpi is None else dpi / 25.4
    size = round(sheet.wide * scale), round(sheet.high * scale)
    image = Image.new("RGB", (size[0] * FINER, size[1] * FINER), PAPER)
    draw = ImageDraw.Draw(image, "RGBA")
    for mark in sheet.marks:
        _paint(image, draw, mark, scale * FINER)
    return image.resize(size, Image.Resampling.LANCZOS)


def _paint(image: Image.Image, draw: ImageDraw.ImageDraw, mark: Mark, scale: float) -> None:
    def at(points: Sequence[Point]) -> list[Point]:
        return [(x * scale, y * scale) for x, y in points]

    points, colour = at(mark.points), f"{full(mark.colour)}{round(255 * mark.solid):02x}"
    width = max(1, round(mark.width * scale))
    if mark.kind == "words":
        _write(image, draw, mark, points[0], mark.width * scale)
    elif mark.kind == "area":
        draw.polygon(points, fill=colour)
    elif mark.kind == "line":
        draw.line(points, fill=colour, width=width, joint="curve")
    elif mark.kind == "arrow":
        draw.line(at(rounded(mark.points, mark.round or 1e-6)), fill=colour, width=width, joint="curve")
        draw.polygon(at(tip(mark.points)), fill=colour)
    elif mark.pixels is not None:
        (left, top), (right, bottom) = ((round(x), round(y)) for x, y in points)
        copy = Image.fromarray(np.ascontiguousarray(mark.pixels))
        image.paste(copy.resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    else:
        (left, top), (right, bottom) = points
        edge = full(mark.edge) if mark.edge else None
        draw.rounded_rectangle((left, top, right, bottom), mark.round * scale, colour, edge, width if edge else 0)


def full(colour: str) -> str:
    """A colour with six digits: #333 is #333333."""
    return "#" + "".join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour


def _write(image: Image.Image, draw: ImageDraw.ImageDraw, mark: Mark, at: Point, size: float) -> None:
    words, size = drawable(text_of(mark)), max(1.0, size)
    font, anchor = font_for(words, size), {"start": "ls", "middle": "ms", "end": "rs"}[mark.anchor]
    if not mark.turned:
        write(draw, at, words, fill=mark.colour, font=font, anchor=anchor)
        return
    long, high = round(length(words, font)) + 2, round(1.5 * size)
    strip = Image.new("L", (long, high), 0)
    write(ImageDraw.Draw(strip), (1, size), words, fill=255, font=font, anchor="ls")
    below = {"start": 0.0, "middle": long / 2, "end": float(long)}[mark.anchor]
    corner = round(at[0] - size), round(at[1] + below - long)
    image.paste(mark.colour, corner, strip.rotate(90, expand=True))


def wide(words: str, size: float) -> float:
    """How wide words of a size are, in the unit of the size, in the font of pixels and PDF."""
    words = drawable(printable(shown(words)))
    return length(words, font_for(words, FINE)) * size / FINE
