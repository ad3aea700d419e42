"""Letters on a picture: a font that has them, and a line cut to the width there is."""

import functools
from bisect import bisect

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDE_FONTS = (  # files that hold Chinese, Japanese and Korean: Windows, macOS, Linux; Pillow's own font has only Latin
    *("msyh.ttc", "simhei.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf"),
)


def font_for(text: str, size: int) -> Font:
    """A font of `size` pixels that has the letters of `text`, as far as this machine has one."""
    return _font(size, plain=not any("\u0370" <= letter < "\u2000" or letter >= "\u2e80" for letter in text))


@functools.lru_cache(maxsize=32)
def _font(size: int, *, plain: bool) -> Font:
    for file in () if plain else WIDE_FONTS:
        try:
            return ImageFont.truetype(file, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def shortened(line: str, font: Font, width: float) -> str:
    """The line as far as it fits into `width` pixels, with "…" in place of what does not."""
    if font.getlength(line) <= width:
        return line
    letters = range(1, len(line) + 1)
    kept = bisect(letters, width, key=lambda n: font.getlength(f"{line[:n]}…"))
    return f"{line[:kept]}…"
