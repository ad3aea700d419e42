"""Letters on a picture: fonts that have them, numbers beside names that run from right to left, and a line cut to the
width there is.
"""

import functools
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from PIL import Image, ImageDraw, ImageFont, features

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = (  # tried in this order behind Pillow's own, which has hardly more than ASCII: European letters, then Chinese
    *("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf", "Helvetica.ttc"),
    *("msyh.ttc", "simhei.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf"),
)
FINE = 1000
"""Pixels of a font by which letters are measured."""


def font_for(text: str, size: float) -> Font:
    """A font of `size` pixels that has the letters of `text`, as far as this machine has one."""
    return _font(_best("".join(sorted({one for one in text if not one.isascii()}))), size)


def drawable(text: str) -> str:
    """The text; a letter that no font of this machine has is written as its number, as in U+4E2D."""
    return "".join(one if _in(one, _best(one)) else f"U+{ord(one):04X}" for one in text)


def in_plain(letter: str) -> bool:
    """Whether Pillow's own font has a letter."""
    return _in(letter, "")


@functools.lru_cache(maxsize=4096)
def _best(letters: str) -> str:
    """The first font that has all of these letters, or else the first that has the most of them."""
    found = {file: sum(_in(one, file) for one in letters) for file in ("", *FONTS) if not letters or _there(file)}
    return max(found, key=lambda file: found[file])


@functools.lru_cache(maxsize=8192)
def _in(letter: str, file: str) -> bool:
    """Whether a font has a letter, and not only a box for it. Some of Chinese have nothing else, not even ASCII."""
    if letter.isspace() or (letter.isascii() and not file):
        return True
    dots = []
    for one in ("\U0010ffff", letter):
        image = Image.new("L", (48, 48))
        ImageDraw.Draw(image).text((12, 36), one, fill=255, font=_font(file, 24), anchor="ls")
        dots.append(image.tobytes())
    return dots[0] != dots[1]


@functools.cache
def _there(file: str) -> bool:
    try:
        return bool(_font(file, 24))
    except OSError:
        return False


@functools.lru_cache(maxsize=64)
def _font(file: str, size: float) -> Font:
    """A font of this machine, Pillow's own where no file is named. Raises OSError where there is none."""
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


_RTL = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"
RIGHT_TO_LEFT = re.compile(f"{_RTL}(?:[ '’.,…_-]*{_RTL})*")
"""Words of Hebrew, Arabic and their kin."""


def in_order(text: str) -> str:
    """The text with a mark (U+200E, of no width) behind each name that runs from right to left, so that what follows it
    does not turn round with it: a number stays on its right side.
    """
    return RIGHT_TO_LEFT.sub(lambda name: f"{name[0]}\u200e", text)


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, font: Font, anchor: str = "la", **how: Any
) -> None:
    """Draw a line from left to right, whichever way the names in it run; letters that the font lacks come in another.

    `anchor` as Pillow has it: l, m or r, and a, m or s. `how`: fill.
    """
    words, way = _turned(text)
    runs = _runs(words, font)
    if len(runs) < 2:
        draw.text(at, words, font=runs[0][1] if runs else font, anchor=anchor, **way, **how)
        return
    x = at[0] - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * sum(its.getlength(part, **way) for part, its in runs)
    for part, its in runs:
        draw.text((x, at[1] + _line(font, anchor[1])), part, font=its, anchor="ls", **way, **how)
        x += its.getlength(part, **way)


def _line(font: Font, anchor: str) -> float:
    """How far below an anchor the line lies on which the letters stand."""
    up, down = font.getmetrics() if isinstance(font, ImageFont.FreeTypeFont) else (0, 0)
    return {"a": float(up), "m": (up - down) / 2, "s": 0.0}[anchor]


def _runs(text: str, font: Font) -> list[tuple[str, Font]]:
    """The text in pieces, each with a font that has its letters; `font` wherever it has them."""
    path = getattr(font, "path", "")
    own = path if isinstance(path, str) else ""
    if not own and text.isascii():
        return [(text, font)] if text else []
    files: list[str] = []
    for letter in text:  # a space is as wide as those of the letters before it
        files.append(files[-1] if files and letter.isspace() else own if _in(letter, own) else _best(letter))
    runs = groupby(zip(text, files, strict=True), lambda pair: pair[1])
    size = getattr(font, "size", 12)
    return [("".join(one for one, _ in run), font if file == own else _font(file, size)) for file, run in runs]


def length(text: str, font: Font) -> float:
    """How many pixels wide `write` draws a line."""
    words, way = _turned(text)
    return sum(its.getlength(part, **way) for part, its in _runs(words, font))


def _turned(text: str) -> tuple[str, dict[str, Any]]:
    """Pillow turns names round where it has Raqm; without it the letters stand as they come."""
    turns = RIGHT_TO_LEFT.search(text) and features.check("raqm")
    return (in_order(text), {"direction": "ltr"}) if turns else (text, {})


def shortened(line: str, font: Font, width: float) -> str:
    """The line as far as it fits into `width` pixels, with "…" in place of its middle: ends tell names apart, too."""
    return cut(line, lambda part: length(part, font), width)


def cut(line: str, measure: Callable[[str], float], room: float) -> str:
    """The line where its measure is at most the room; else as much of its beginning and of its end as is.

    >>> cut("species aglais", len, 9)
    'spec…lais'
    """
    if measure(line) <= room:
        return line
    kept = bisect(range(1, len(line)), room, key=lambda n: measure(_without_middle(line, n)))
    return _without_middle(line, kept)


def _without_middle(line: str, letters: int) -> str:
    return f"{line[: letters - letters // 2]}…{line[len(line) - letters // 2 :]}"


def apart(names: Sequence[str], short: Callable[[str], str]) -> list[str]:
    """The names made short; those that would look the same get their number, from 0, in front.

    >>> apart(["number one of all", "number two of all", "cat"], lambda name: cut(name, len, 9))
    ['0 nu… all', '1 nu… all', 'cat']
    """
    found = [short(name) for name in names]
    often = Counter(found)
    return [
        one if often[one] == 1 else short(f"{n} {name}") for n, (one, name) in enumerate(zip(found, names, strict=True))
    ]
