"""The worked example: a picture of 5 x 5 and a kernel of 3 x 3, place by place. In plain Python, to be read."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from tellapart.errors import UsageError
from tellapart.models.sizes import Pair, Shape, Window

Rows = list[list[int]]

PICTURE: Rows = [[1, 2, 0, 3, 1], [0, 1, 2, 3, 1], [1, 2, 1, 0, 0], [5, 2, 3, 1, 1], [2, 1, 0, 1, 1]]
KERNEL: Rows = [[1, 2, 1], [0, 1, 0], [2, 1, 0]]


class Place(NamedTuple):
    """One place of the window: where its result goes, the arithmetic in words, and the result."""

    row: int
    column: int
    work: str
    value: float


def planes(rows: Rows, channels: int) -> list[Rows]:
    """As many channels as asked for, up to three: the rows, the same turned over their diagonal, and upside down."""
    return [rows, [list(column) for column in zip(*rows, strict=True)], rows[::-1]][:channels]


def under(window: Window, result: Shape) -> Iterator[tuple[Pair, list[Pair]]]:
    """Each place of the result (row, column), and the pixels under the window there, those outside the picture too."""
    for row in range(result[0]):
        for column in range(result[1]):
            top = row * window.stride[0] - window.padding[0]
            left = column * window.stride[1] - window.padding[1]
            down = [top + n * window.dilation[0] for n in range(window.kernel[0])]
            across = [left + n * window.dilation[1] for n in range(window.kernel[1])]
            yield (row, column), [(y, x) for y in down for x in across]


def convolved_places(picture: Rows, kernel: Rows, window: Window, result: Shape) -> list[Place]:
    """Multiply what lies under the kernel and add it up, at each place; outside the picture is 0.

    The kernel is not turned round, so that this is what mathematics calls a cross-correlation.

    >>> convolved_places(PICTURE, KERNEL, Window((3, 3)), (1, 1))[0].work
    '1x1 + 2x2 + 0x1 + 0x0 + 1x1 + 2x0 + 1x2 + 2x1 + 1x0'
    """
    weights = [weight for row in kernel for weight in row]
    places = []
    for where, pixels in under(window, result):
        pairs = [(_at(picture, pixel), weight) for pixel, weight in zip(pixels, weights, strict=True)]
        places.append(Place(*where, " + ".join(f"{p}x{w}" for p, w in pairs), sum(map(prod, pairs))))
    return places


def summed_places(channels: list[list[Place]], bias: int) -> list[Place]:
    """The sums of all channels and the bias of the filter, added up at each place: one feature map."""
    places = []
    for together in zip(*channels, strict=True):
        sums = " + ".join(f"{place.value}" for place in together)
        places.append(
            Place(
                together[0].row, together[0].column, f"{sums} + {bias}", sum(place.value for place in together) + bias
            )
        )
    return places


def largest_places(picture: Rows, window: Window, result: Shape) -> list[Place]:
    """The largest pixel under the window at each place; what lies outside the picture does not count."""
    places = []
    for where, pixels in under(window, result):
        seen = [_at(picture, pixel) for pixel in pixels if _inside(picture, pixel)]
        if not seen:
            raise UsageError(
                f"The window at row {where[0] + 1}, column {where[1] + 1} holds padding alone: nothing is largest.",
                "Use less padding or less dilation.",
            )
        places.append(Place(*where, f"max({', '.join(map(str, seen))})", max(seen)))
    return places


def mean_places(picture: Rows, window: Window, result: Shape) -> list[Place]:
    """The mean under the window at each place. Zeros of the padding count; what is beyond the padding does not."""
    places, end = [], [len(picture) + window.padding[0], len(picture[0]) + window.padding[1]]
    for where, pixels in under(window, result):
        seen = [_at(picture, pixel) for pixel in pixels if pixel[0] < end[0] and pixel[1] < end[1]]
        places.append(Place(*where, f"({' + '.join(map(str, seen))}) / {len(seen)}", sum(seen) / len(seen)))
    return places


def uses(size: Pair, window: Window, result: Shape) -> Rows:
    """How many places of the window each pixel takes part in."""
    counts = [[0] * size[1] for _ in range(size[0])]
    for _, pixels in under(window, result):
        for pixel in pixels:
            if _inside(counts, pixel):
                counts[pixel[0]][pixel[1]] += 1
    return counts


def _inside(rows: Rows, pixel: Pair) -> bool:
    return 0 <= pixel[0] < len(rows) and 0 <= pixel[1] < len(rows[0])


def _at(rows: Rows, pixel: Pair) -> int:
    return rows[pixel[0]][pixel[1]] if _inside(rows, pixel) else 0
