"""Letters on a picture: a font that has them, and a line cut to the width there is."""

import functools
from bisect import bisect

from PIL import Image, ImageDraw, ImageFont

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
    """Whether a font has a letter, and not only a box for it."""
    if letter.isascii() or letter.isspace():
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


def shortened(line: str, font: Font, width: float) -> str:
    """The line as far as it fits into `width` pixels, with "…" in place of what does not."""
    if font.getlength(line) <= width:
        return line
    letters = range(1, len(line) + 1)
    kept = bisect(letters, width, key=lambda n: font.getlength(f"{line[:n]}…"))
    return f"{line[:kept]}…"
