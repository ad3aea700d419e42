"""The figures of a thesis that are no plots: the confusion matrix, classes in rows, mistakes, and the network."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.marks import called as said_of
from tellapart.evaluation.marks import wrong_classes, wrong_pictures
from tellapart.evaluation.metrics import Figure, binary_entropies, confusion, softmax
from tellapart.figures.chart import LETTER, SMALL
from tellapart.figures.confusion import RIGHT, WRONG, shade, shares
from tellapart.figures.curve import Axis
from tellapart.figures.diagram import Box, diagram
from tellapart.figures.letters import apart, cut
from tellapart.figures.plot import in_percent
from tellapart.figures.sheet import INK, PAPER, QUIET, Mark, Sheet, wide
from tellapart.reporting.evidence import Evidence, Facts, Marked, Training
from tellapart.reporting.written import plain as words_of

LISTED, NAMED, NUMBERED, TILES = 40, 25, 14, 12
"""Classes in a row each, with names and with numbers in a matrix; mistakes that are shown."""
EDGE, BLUE, ORANGE = 3.0, "#0072B2", "#D55E00"
"""Millimetres beside the names of classes; the colours of recall and precision."""


@dataclass(frozen=True)
class Drawn:
    """One figure: its name, its sheet, what stands below it, and its numbers below the names of their columns."""

    name: str
    sheet: Sheet
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def part_of(of: Training) -> str:
    """The part that is judged, with its n."""
    return f"{of.part}, n = {of.judgement.n:,}"


def matrix(of: Evidence, width: float) -> Iterator[Drawn]:
    """The confusion matrix, with the counts of up to 14 classes and the names of up to 25."""
    names, said = of.shown.classes, of.shown.logits.argmax(1)
    counts = confusion(said, of.shown.labels, len(names))
    caption = (
        f"Confusion matrix ({part_of(of)}): rows are the true classes, columns what was said; blue is right, orange "
        "wrong, the deeper the larger the share of the row."
    )
    if len(names) > NAMED:
        caption += " Classes are numbered from 0 in the order of the CSV file."
    rows = [[name, *row] for name, row in zip(names, counts.tolist(), strict=True)]
    sheet = Sheet(*_matrix_size(names, width), list(_cells(names, counts, width)), "mm", f"{of.name}: confusion matrix")
    yield Drawn("confusion", sheet, caption, ("true class", *names), rows)


def called(names: Sequence[str], most: int) -> dict[str, str]:
    """The names of classes in so many letters, no two alike."""
    return dict(zip(names, apart(names, lambda one: words_of(one, most)), strict=True))


def _called(names: Sequence[str]) -> list[str]:
    """What stands beside the rows: names, or every so many's number where there are too many."""
    every = -(-len(names) // NAMED)
    return list(called(names, 16).values()) if every == 1 else [str(k) * (k % every == 0) for k in range(len(names))]


def _left(names: Sequence[str]) -> float:
    return LETTER + 3 + max(wide(one, SMALL) for one in _called(names))


def _matrix_size(names: Sequence[str], width: float) -> tuple[float, float]:
    left = _left(names)
    return width, round(2 * left + 1 + (width - left - 9) + 1 - left, 2)


def _cells(names: Sequence[str], counts: NDArray[np.int64], width: float) -> Iterator[Mark]:
    left, found = _left(names), shares(counts)
    side = (width - left - 9) / len(names)
    colours, n = shade(found, WRONG), np.arange(len(names))
    colours[n, n] = shade(found[n, n], RIGHT)
    end = left + side * len(names)
    yield Mark("picture", [(left, left), (end, end)], pixels=colours)
    for k, name in enumerate(_called(names)):
        middle = left + (k + 0.5) * side + 0.36 * SMALL
        yield Mark("words", [(left - 1, middle)], words=name, width=SMALL, anchor="end")
        yield Mark("words", [(middle, left - 1)], words=name, width=SMALL, turned=True)
        if len(names) <= NAMED:
            there = [(end + 1, middle)]
            yield Mark("words", there, words=f"{counts[k].sum():,}", width=min(SMALL, 8 / 2.2))
    for row, column in np.argwhere(counts).tolist() if len(names) <= NUMBERED else ():
        text = f"{counts[row, column]:,}"
        size = min(SMALL, (side - 0.6) / max(1.0, wide(text, 1.0)))
        at = [(left + (column + 0.5) * side, left + (row + 0.5) * side + 0.36 * size)]
        colour = PAPER if found[row, column] > 0.3 else INK
        yield Mark("words", at, colour, size, words=text, anchor="middle")
    corners = [(left, left), (end, left), (end, end), (left, end), (left, left)]
    yield Mark("line", corners, QUIET, 0.2)
    yield Mark("words", [(0.9 * LETTER, (left + end) / 2)], words="true", width=LETTER, anchor="middle", turned=True)
    yield Mark("words", [((left + end) / 2, 0.9 * LETTER)], words="said", width=LETTER, anchor="middle")
    yield Mark("words", [(end + 1, left - 1)], words="n", width=SMALL)


def classes(of: Training, width: float) -> Iterator[Drawn]:
    """Recall and precision of each class, a row each."""
    names = ("recall", "precision")
    every = [one for one in of.judgement.by_class if one.name in names]
    there = [one for one in every if one.name == "recall" and one.n]
    shown = sorted(sorted(there, key=lambda one: one.value)[:LISTED], key=_place(of))
    less = f" Shown are the {LISTED} classes with the lowest recall." * (len(shown) < len(of.shown.classes))
    known = {(one.about, one.name): one for one in every}
    short = called(of.shown.classes, 16)
    row_of = {one.about: f"{short[one.about]} ({one.n:,})" for one in shown}
    left = EDGE + max(wide(row, SMALL) for row in row_of.values())
    low = min(one.low for one in every if one.n)
    axis, marks, step = Axis("", max(0.0, round(low - 0.05, 1)), 1.0), [], 1.9 * SMALL
    bottom = 2.4 * SMALL + step * len(shown)
    for tick in axis.ticks():
        x = left + axis.share(tick) * (width - left - 5)
        marks.append(Mark("line", [(x, 2 * SMALL), (x, bottom)], QUIET, 0.2))
        marks.append(Mark("words", [(x, bottom + 1.2 * SMALL)], words=in_percent(tick), width=SMALL, anchor="middle"))
    for k, one in enumerate(shown):
        y = 2.4 * SMALL + (k + 0.5) * step
        marks.append(
            Mark("words", [(left - 1.5, y + 0.36 * SMALL)], words=row_of[one.about], width=SMALL, anchor="end")
        )
        for other, colour, shift in ((one, BLUE, -0.45), (known.get((one.about, "precision")), ORANGE, 0.45)):
            if other is not None and other.n:
                marks += _span(other, axis, left, width - 5, y + shift, colour)
    marks += [Mark("words", [(left, SMALL)], BLUE, SMALL, words="recall (round)")]
    marks += [
        Mark("words", [(left + 3 + wide("recall (round)", SMALL), SMALL)], ORANGE, SMALL, words="precision (square)")
    ]
    at = ", at its threshold," * isinstance(of, Marked)
    caption = f"Recall and precision of each class{at} with 95 % intervals ({part_of(of)}); "
    caption += f"n of a class beside its name.{less}"
    rows = [(one.about, one.name, one.value, one.low, one.high, one.n) for one in every]
    sheet = Sheet(width, round(bottom + 2 * SMALL, 2), marks, "mm", f"{of.name}: classes")
    yield Drawn("classes", sheet, caption, ("class", "score", "value", "low", "high", "n"), rows)


def _place(of: Facts) -> Callable[[Figure], int]:
    order = {name: k for k, name in enumerate(of.shown.classes)}
    return lambda one: order[one.about]


def _span(one: Figure, axis: Axis, left: float, right: float, y: float, colour: str) -> Iterator[Mark]:
    """An interval as a line; recall as a round dot, precision as a square one, so that grey print keeps them apart."""
    low, at, high = (left + axis.share(max(axis.low, v)) * (right - left) for v in (one.low, one.value, one.high))
    yield Mark("line", [(low, y), (high, y)], colour, 0.3)
    yield Mark("box", [(at - 0.6, y - 0.6), (at + 0.6, y + 0.6)], colour, round=0.6 if one.name == "recall" else 0.0)


def mistakes(of: Evidence, width: float) -> Iterator[Drawn]:
    """The surest wrong answers with their small pictures, where the run keeps them."""
    sure = softmax(np.asarray(of.shown.logits, np.float64) / of.judgement.answering.temperature)
    said, small, names = of.shown.logits.argmax(1), of.shown.thumbnails, of.shown.classes
    wrong = np.flatnonzero(said != of.shown.labels)
    if not len(wrong) or small is None:
        return
    shown = wrong[np.argsort(-sure[wrong, said[wrong]], kind="stable")][:TILES].tolist()
    room = _step(width) - 2 - wide(" 100 %", SMALL)
    short = apart(names, lambda one: cut(words_of(one, 24), lambda part: wide(part, SMALL), room))
    shares = [f"{100 * sure[row, said[row]]:.0f} %" for row in shown]
    lines = [
        (f"{short[said[row]]} {share}", f"is {short[of.shown.labels[row]]}")
        for row, share in zip(shown, shares, strict=True)
    ]
    caption = (
        f"The {len(shown)} surest of {len(wrong):,} wrong answers ({part_of(of)}): what was said, "
        "with its probability, and what it is."
    )
    rows = [
        (of.shown.keys[row], names[of.shown.labels[row]], names[said[row]], float(sure[row, said[row]]))
        for row in shown
    ]
    sheet = _tiled([small[row] for row in shown], lines, width, f"{of.name}: mistakes")
    yield Drawn("mistakes", sheet, caption, ("picture", "class", "said", "probability"), rows)


def wrong_sets(of: Marked, width: float) -> Iterator[Drawn]:
    """The pictures with a wrong class, the largest loss first, with their small copies, where the run keeps them."""
    own, small, least = of.shown.marks, of.shown.thumbnails, [one.value for one in of.judgement.thresholds]
    said = said_of(of.shown.logits, least)
    wrong = wrong_pictures(of.shown, said)
    if not wrong or small is None or own is None:
        return
    shown, short, names = wrong[:TILES], list(called(of.shown.classes, 14).values()), of.shown.classes
    room, lines, rows = _step(width) - 2, [], []
    losses = binary_entropies(of.shown.logits[shown], own[shown]).tolist()
    for row, loss in zip(shown, losses, strict=True):
        numbers = wrong_classes(of.shown, said[row], row)
        sets = [[k for k in numbers if own[row, k] == has] for has in (True, False)]
        words = zip(("missed", "false"), ([short[k] for k in found] for found in sets), strict=True)
        lines.append([_fitting(what, found, room) for what, found in words if found])
        every = (np.flatnonzero(own[row]).tolist(), *sets)
        rows.append((of.shown.keys[row], *("; ".join(names[k] for k in one) for one in every), loss))
    caption = (
        f"{len(shown)} of the {len(wrong):,} pictures with a wrong class ({part_of(of)}), those of the largest loss: "
        "missed are classes that they have, false those that they are wrongly said to have."
    )
    sheet = _tiled([small[row] for row in shown], lines, width, f"{of.name}: mistakes")
    yield Drawn("mistakes", sheet, caption, ("picture", "classes", "missed", "wrongly said", "loss"), rows)


def _fitting(what: str, names: Sequence[str], room: float) -> str:
    """As many names as there is room for, and how many more there are; one that is too long loses its middle."""
    shown, more = len(names), ""
    while shown > 1 and wide(f"{what} {', '.join(names[:shown])}{more}", SMALL) > room:
        shown -= 1
        more = f" +{len(names) - shown}"
    text = cut(", ".join(names[:shown]), lambda part: wide(f"{what} {part}{more}", SMALL), room)
    return f"{what} {text}{more}"


def _step(width: float) -> float:
    """Millimetres from one tile to the next."""
    return (width - 1) / max(2, min(4, int(width // 19)))


def _tiled(small: Sequence[NDArray[np.uint8]], lines: Sequence[Sequence[str]], width: float, title: str) -> Sheet:
    """Small pictures in rows, each with up to two lines below it."""
    step = _step(width)
    marks, high, across = [], step + 2.4 * SMALL, round((width - 1) / step)
    for n, (picture, below) in enumerate(zip(small, lines, strict=True)):
        x, y = 0.5 + n % across * step, 0.5 + n // across * high
        pixels = np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))
        marks.append(Mark("picture", [(x + 1, y), (x + step - 1, y + step - 2)], pixels=pixels))
        for line, fits in enumerate(below):
            marks.append(Mark("words", [(x + 1, y + step - 2 + (line + 1) * 1.15 * SMALL)], words=fits, width=SMALL))
    return Sheet(width, round(0.5 + -(-len(small) // across) * high, 2), marks, "mm", title)


def network(of: Facts, width: float) -> Iterator[Drawn]:
    """The network in boxes, where the run keeps them."""
    boxes = [
        Box(*(words_of(one[key], 80) for key in ("words", "path", "shape", "frame")), sources=tuple(one["sources"]))
        for one in of.network.get("boxes", ())
    ]
    if not boxes:
        return
    name, under = of.recipe.model.name, f"{of.network['parameters']:,} parameters"
    caption = f"The network {words_of(name)} ({under}), in the order of execution, with the size of each result."
    columns = ("path", "layer", "input", "output", "parameters")
    rows = [
        (
            *(one["path"], one["layer"], " and ".join("x".join(map(str, shape[1:])) for shape in one["inputs"])),
            *("x".join(map(str, one["output"][1:])), one["parameters"]),
        )
        for one in of.network["layers"]
    ]
    sheet = diagram(boxes, title=words_of(name), under=under, wide=width)
    yield Drawn("network", sheet, caption, columns, rows)
