"""The confusion matrix as a picture: rows are the true classes, columns what was said, for 2 to 1,000 classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tellapart.figures.letters import apart, font_for, length, shortened, write

PAPER, INK, QUIET = (255, 255, 255), (20, 20, 20), (205, 205, 205)
RIGHT, WRONG = (8, 64, 129), (166, 54, 3)
"""The deepest blue and orange: people who confuse red and green tell them apart, and grey print keeps the depth."""
SIDES = ((8, 58), (20, 44), (40, 34), (100, 25))
"""Up to so many classes, the pixels of a cell."""
WITH_SHARES, WITH_NUMBERS, WIDEST = 40, 100, 1000
"""Most classes with row shares in the cells, and with counts; pixels of the matrix of more classes than that."""
NAME, GAP, LEAST, LEGEND = 150, 6, 680, (0.01, 0.1, 0.5, 1.0)


class Layout(NamedTuple):
    """Where things lie: pixels of a cell, of the room for names, of the left and top margin; every how many classes
    has its name written.
    """

    cell: int
    names: int
    left: int
    top: int
    every: int


def confusion_picture(counts: NDArray[np.int64], classes: Sequence[str], *, title: str) -> Image.Image:
    """Counts (K K), of which the row is the true class, as an RGB image. What is right is blue, what is wrong orange,
    the deeper the larger the square root of its share of the row: a rare mistake shows too.

    Up to 100 classes have their counts written, up to 40 their shares in %. Raises ValueError for another shape.
    """
    number = len(classes)
    if counts.shape != (number, number) or number < 2:
        raise ValueError(f"Expected K K counts of K >= 2 classes, received {counts.shape} and {number} classes.")
    at = _layout(classes)
    wide = number * at.cell
    image = Image.new("RGB", (max(at.left + wide + 64, LEAST), at.top + wide + 58), PAPER)
    image.paste(_cells(counts, at.cell), (at.left, at.top))
    draw = ImageDraw.Draw(image)
    write(draw, (GAP, GAP), shortened(title, font_for(title, 15), image.width), fill=INK, font=font_for(title, 15))
    _names(image, draw, classes, counts.sum(axis=1), at)
    if number <= WITH_NUMBERS:
        _numbers(draw, counts, at)
    draw.rectangle((at.left - 1, at.top - 1, at.left + wide, at.top + wide), outline=QUIET)
    _legend(draw, at, at.top + wide + 18)
    return image


def shade(share: NDArray[np.floating], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """White at 0, the colour at 1, by the square root of the share: any shape to the same with 3 values more.

    >>> shade(np.array([0.0, 0.25, 1.0]), (0, 0, 100)).tolist()
    [[255, 255, 255], [128, 128, 178], [0, 0, 100]]
    """
    depth = np.sqrt(share)[..., None]
    return np.round(255 + depth * (np.array(colour) - 255.0)).astype(np.uint8)


def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each count as a share of its row; a class without pictures has none."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _layout(classes: Sequence[str]) -> Layout:
    number = len(classes)
    cell = next((side for most, side in SIDES if number <= most), max(1, WIDEST // number))
    font = font_for("".join(classes), _size(cell))
    names = min(NAME, max(40, *(round(length(name, font)) + 2 * GAP for name in classes)))
    return Layout(cell, names, names + 24, names + 52, -(-14 // cell))


def _size(cell: int) -> int:
    return 13 if cell >= 34 or cell < 14 else 11


def _cells(counts: NDArray[np.int64], cell: int) -> Image.Image:
    """The colours alone, one square of `cell` pixels for each number."""
    found = shares(counts)
    colours = shade(found, WRONG)
    n = np.arange(len(counts))
    colours[n, n] = shade(found[n, n], RIGHT)
    return Image.fromarray(colours.repeat(cell, 0).repeat(cell, 1))


def _names(
    image: Image.Image, draw: ImageDraw.ImageDraw, classes: Sequence[str], n: NDArray[np.int64], at: Layout
) -> None:
    """Class names left and, turned, above; where cells are small, of every few; on the right the pictures of each."""
    font, high = font_for("".join(classes), _size(at.cell)), max(at.cell, 14)
    called = apart(classes, lambda name: shortened(name, font, at.names - GAP))
    for k in range(0, len(classes), at.every):
        name, middle = called[k], (k + 0.5) * at.cell
        write(draw, (at.left - GAP, at.top + middle), name, fill=INK, font=font, anchor="rm")
        strip = Image.new("RGB", (at.names, high), PAPER)
        write(ImageDraw.Draw(strip), (0, high / 2), name, fill=INK, font=font, anchor="lm")
        image.paste(strip.rotate(90, expand=True), (round(at.left + middle - high / 2), at.top - GAP - at.names))
        right = at.left + len(classes) * at.cell + GAP
        draw.text((right, at.top + middle), f"{n[k]:,}", fill=INK, font=font, anchor="lm")
    plain = font_for("", 12)
    draw.text((at.left, at.top - at.names - GAP - 3), "said", fill=INK, font=plain, anchor="ls")
    draw.text((GAP, at.top - GAP), "true", fill=INK, font=plain, anchor="ls")
    draw.text((at.left + len(classes) * at.cell + GAP, at.top - GAP), "n", fill=INK, font=plain, anchor="ls")


def _numbers(draw: ImageDraw.ImageDraw, counts: NDArray[np.int64], at: Layout) -> None:
    """The counts that are not 0, light on deep colours; below them their share of the row, where there is room."""
    found, both = shares(counts), len(counts) <= WITH_SHARES
    large, small = font_for("", 15 if at.cell > 40 else 10), font_for("", 11 if at.cell > 40 else 9)
    for row, column in np.argwhere(counts).tolist():
        x, y = at.left + (column + 0.5) * at.cell, at.top + (row + 0.5) * at.cell
        fill, line = PAPER if found[row, column] > 0.2 else INK, at.cell / 5 * both
        draw.text((x, y - line), _short(counts[row, column], at.cell), fill=fill, font=large, anchor="mm")
        if both:
            draw.text((x, y + line), _percent(found[row, column]), fill=fill, font=small, anchor="mm")


def _short(count: int, cell: int) -> str:
    """A count that fits into its cell: 12,345 becomes 12k where there is no room.

    >>> _short(12345, 58), _short(12345, 25), _short(999, 25)
    ('12,345', '12k', '999')
    """
    return f"{count:,}" if cell > 40 or count < 1000 else f"{count / 1000:.0f}k"


def _percent(share: float) -> str:
    """A share with two digits, three from 10 % on.

    >>> _percent(0.00926), _percent(0.0588), _percent(0.941), _percent(1)
    ('0.93%', '5.9%', '94.1%', '100%')
    """
    return f"{100 * share:.{3 if share >= 0.0995 else 2}g}%"


def _legend(draw: ImageDraw.ImageDraw, at: Layout, y: int) -> None:
    x, plain = float(GAP), font_for("", 12)
    for word, colour in (("right", RIGHT), ("wrong", WRONG)):
        draw.text((x, y + 6), word, fill=INK, font=plain, anchor="lm")
        x += plain.getlength(word) + GAP
        for share in LEGEND:
            fill = tuple(shade(np.array(share), colour).tolist())
            draw.rectangle((x, y, x + 12, y + 12), fill=fill, outline=QUIET)
            draw.text((x + 16, y + 6), text := f"{100 * share:g} %", fill=INK, font=plain, anchor="lm")
            x += 22 + plain.getlength(text)
        x += 2 * GAP
    draw.text((x, y + 6), "of the pictures of the true class", fill=INK, font=plain, anchor="lm")
