"""The sections of the report that show pictures: the confusion matrix with those of each cell, mistakes, doubts."""

import base64
import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.evaluation.metrics import confusion as counted
from tellapart.evaluation.metrics import softmax
from tellapart.figures.inert import short
from tellapart.reporting.album import Album
from tellapart.reporting.evidence import Evidence
from tellapart.reporting.likened import likened
from tellapart.reporting.looked import looked
from tellapart.reporting.markup import both, name, paragraph, sentence, table, words
from tellapart.reporting.story import cell
from tellapart.reporting.words import Value, said

NUMBERED, PAIRS = 20, 60
"""Classes up to which the matrix has numbers; beyond, pairs that are listed."""
EACH, ALL, WORST, DOUBTFUL = 12, 1200, 36, 18
"""Pictures in a cell, in all cells together, and among the mistakes or the doubtful ones."""


def confusion(of: Evidence, album: Album) -> Iterator[str]:
    """The table of counts with the pictures of each cell; of many classes, as a picture, with the worst pairs."""
    said_to_be, labels = of.shown.logits.argmax(1), of.shown.labels
    counts = counted(said_to_be, labels, len(of.shown.classes))
    small = len(counts) <= NUMBERED
    cells = [(int(r), int(c)) for r, c in np.argwhere(counts)] if small else _pairs(counts)
    if small:
        yield f'<p class="soft" id="matrix-note">{sentence("matrix")}</p>{_matrix(of, counts)}'
    else:
        yield f'<p class="soft" id="matrix-note">{sentence("heat")}</p>{_heat(counts)}{_listed(of, counts, cells)}'
    each = max(1, min(EACH, ALL // max(1, len(cells))))
    sure = shares_of(of).max(1)
    for row, column in cells:
        found = np.flatnonzero((labels == row) & (said_to_be == column))
        yield _cell(of, album, (row, column), counts, found[np.argsort(-sure[found], kind="stable")], each)


def _pairs(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The cells of the most mistakes."""
    off = counts - np.diag(np.diag(counts))
    most = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    rows, columns = np.unravel_index(most, off.shape)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if off[r, c]]


def _matrix(of: Evidence, counts: NDArray[np.int64]) -> str:
    look = "turned" if max(map(len, of.shown.classes)) > 4 else "upright"
    head = [
        '<span class="corner">↓ → </span>',
        *(f'<span class="{look}">{name(one, 16)}</span>' for one in of.shown.classes),
        "n",
    ]
    rows = (
        [name(one, 24), *(_count(row, column, counts) for column in range(len(counts))), f"{counts[row].sum():,}"]
        for row, one in enumerate(of.shown.classes)
    )
    return table(head, rows, named_by="matrix-note", look="matrix")


def _count(row: int, column: int, counts: NDArray[np.int64]) -> str:
    count, share = int(counts[row, column]), counts[row, column] / max(1, counts[row].sum())
    if not count:
        return '<span class="zero">0</span>'
    tint = 8 if row == column else 14 + 31 * share**0.5
    look = "right" if row == column else "wrong"
    at = f'href="#{cell(row, column)}" class="{look}" style="--tint:{tint:.0f}%"'
    return f"<a {at}>{count:,}<small>{100 * share:.0f} %</small></a>"


def _heat(counts: NDArray[np.int64]) -> str:
    """The table as a picture, a dot for each cell."""
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = (47, 111, 196)
    pixels[..., 3] = np.where(counts > 0, 40 + 215 * np.sqrt(shares), 0).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
    return f'<img class="heat" alt="{len(counts)} × {len(counts)}" src="{address}">'


def _listed(of: Evidence, counts: NDArray[np.int64], cells: Sequence[tuple[int, int]]) -> str:
    names = of.shown.classes
    rows = [
        [
            f'<a href="#{cell(r, c)}">{name(names[r], 40)} → {name(names[c], 40)}</a>',
            f"{counts[r, c]:,}",
            f"{100 * counts[r, c] / counts[r].sum():.1f} %",
        ]
        for r, c in cells
    ]
    return table([words("pair"), words("pictures"), words("share")], rows, named_by="matrix-note")


def _cell(
    of: Evidence, album: Album, at: tuple[int, int], counts: NDArray[np.int64], rows: NDArray[np.int64], each: int
) -> str:
    """The pictures of one cell, seen when it is chosen."""
    (row, column), names = at, of.shown.classes
    values = {
        **{"own": short(names[row], 60), "said": short(names[column], 60), "count": f"{len(rows):,}"},
        **{"n": f"{counts[row].sum():,}", "share": f"{100 * len(rows) / counts[row].sum():.1f} %"},
    }
    shown = rows[: each if row != column else max(1, each // 2)]
    note = sentence("cell_shown", {"shown": f"{len(shown):,}"}) if len(shown) < len(rows) else ""
    figures = "".join(shot(of, album, int(one)) for one in shown)
    return (
        f'<section class="cell" id="{cell(row, column)}"><h3>{sentence("cell", values)}</h3><p class="soft">{note} '
        f'<a href="#confusion">{words("back")}</a></p><div class="shots">{figures}</div></section>\n'
    )


def shares_of(of: Evidence, rows: Sequence[int] | slice = slice(None)) -> NDArray[np.float64]:
    """The probabilities (N K) at the temperature that `predict` uses, too."""
    return softmax(np.asarray(of.shown.logits[rows], np.float64) / of.judgement.answering.temperature)


def shot(of: Evidence, album: Album, row: int) -> str:
    """A picture with its class, what was said, and how surely."""
    names, said_to_be = of.shown.classes, int(of.shown.logits[row].argmax())
    share = f"{100 * shares_of(of, [row]).max():.0f} %"
    own = int(of.shown.labels[row])
    key = "said_right" if said_to_be == own else "said_as"
    values = {"own": short(names[own], 40), "said": short(names[said_to_be], 40), "share": share}
    return album.figure(row, both(said(key, values)))


def mistakes(of: Evidence, album: Album) -> Iterator[str]:
    """The wrong answers, the surest first."""
    shares, said_to_be = shares_of(of), of.shown.logits.argmax(1)
    wrong = np.flatnonzero(said_to_be != of.shown.labels)
    if not len(wrong):
        yield paragraph("no_mistake", {"n": f"{len(of.shown):,}"})
        return
    shown = wrong[np.argsort(-shares[wrong, said_to_be[wrong]], kind="stable")][:WORST]
    values: dict[str, Value] = {"count": f"{len(wrong):,}", "n": f"{len(of.shown):,}", "shown": f"{len(shown):,}"}
    yield paragraph("mistakes", values)
    yield _shots(of, album, shown)
    yield from looked(of, lambda row: shot(of, album, row))
    yield from likened(of, lambda row: shot(of, album, row))


def doubtful(of: Evidence, album: Album) -> Iterator[str]:
    """The answers with the largest entropy."""
    shares = shares_of(of)
    entropy = -(shares * np.log2(np.maximum(shares, 1e-300))).sum(1)
    yield paragraph("doubtful")
    yield _shots(of, album, np.argsort(-entropy, kind="stable")[:DOUBTFUL])


def _shots(of: Evidence, album: Album, rows: NDArray[np.int64]) -> str:
    found = "".join(shot(of, album, int(row)) for row in rows)
    return ("" if album else paragraph("no_pictures")) + f'<div class="shots">{found}</div>'
