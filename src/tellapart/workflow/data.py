"""What can be asked of data before any training: fetch it, count it, look at it, see one batch."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.archive import unpack
from tellapart.data.decode import decode
from tellapart.data.index import NO_PART, Index
from tellapart.data.members import Progress
from tellapart.data.official import expanded
from tellapart.data.sources.folder import folder as class_folders
from tellapart.data.sources.listing import LITTER
from tellapart.data.sources.listing import shown as shown_path
from tellapart.errors import DataError, UsageError
from tellapart.names import PARTS
from tellapart.recipe import Recipe, printable
from tellapart.workflow.choose import open_for, selected


def found(recipe: Recipe) -> Index:
    """The pictures that the recipe's [data] section chooses, not yet decoded or split; nothing is fetched."""
    return selected(recipe, lambda source: open_for(recipe, source))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an index holds: pictures per class and part; `pictures` of each part where they may have several classes."""

    name: str
    classes: tuple[str, ...]
    parts: dict[str, list[int]]
    total: int
    said: tuple[str, ...]
    ignored: tuple[str, ...]
    pictures: dict[str, int] = field(default_factory=dict)


def summary(index: Index) -> Summary:
    """Counts of every class in every part that the data bring and of those they do not place, `unplaced`."""
    parts = {part: index.counts(part).tolist() for part in PARTS if len(index.rows(part))}
    if len(unplaced := np.flatnonzero(index.parts == NO_PART)):
        parts = {"unplaced": index.take(unplaced).counts().tolist(), **parts}
    return Summary(
        name=index.name,
        classes=index.classes,
        parts=parts,
        total=len(index),
        said=index.said,
        ignored=tuple(f"{one.key}: {one.reason}" for one in index.ignored),
        pictures={} if index.marks is None else {part: _pictures(index, part) for part in parts},
    )


def _pictures(index: Index, part: str) -> int:
    return int((index.parts == NO_PART).sum()) if part == "unplaced" else len(index.rows(part))


def unpacked(origin: str, folder: Path, progress: Progress) -> list[str]:
    """Unpack an archive of one's own into `folder`, which is new or empty; say what lies there and what comes next.

    Raises UsageError when the origin is not a file on this machine; otherwise as `archive.unpack`.
    """
    archive = expanded(origin)
    if not archive.is_file():
        raise UsageError(
            f"{printable(shown_path(origin))} is not a file on this machine.",
            "Name an archive that is; only named data sets are fetched from elsewhere.",
        )
    said = [f"{archive.name}: {unpack(archive, folder, progress=progress):,} files unpacked into {folder}."]
    inner = _inner(folder)
    try:
        index = class_folders(inner)
    except DataError as error:
        return [*said, f"They are not class folders: {printable(shown_path(error.message))}"]
    counts = [f"{name} {count:,}" for name, count in zip(index.classes, index.counts().tolist(), strict=True)]
    more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
    said.append(f"{len(index):,} pictures of {len(counts)} classes: {', '.join(counts[:12])}{more}.")
    said += [*index.said, f"Next: {shlex.join(('tellapart', 'train', str(inner)))}"]
    return [printable(shown_path(line)) for line in said]


def _inner(folder: Path) -> Path:
    """The folder itself, or the one that is all it holds, as archives often have it."""
    below = [path for path in folder.iterdir() if path.name[0] != "." and path.name.lower() not in LITTER]
    return _inner(below[0]) if len(below) == 1 and below[0].is_dir() else folder


def row_of(index: Index, part: str, number: int) -> int:
    """The row of the `number`th picture of a part ('' for the whole index). Raises UsageError when there is none."""
    rows = index.rows(part) if part else np.arange(len(index))
    if not 0 <= number < len(rows):
        where = f"the {part} part" if part else "the data"
        raise UsageError(f"There is no picture {number}; {where} has {len(rows)}.", "Pictures are counted from 0.")
    return int(rows[number])


def shown(index: Index, *, part: str, most: int) -> list[tuple[NDArray[np.uint8], str]]:
    """The first pictures (H W C) of a part with their class names; with no part named, some of every class."""
    if part:
        rows = index.rows(part)[:most]
        if not len(rows):
            raise DataError(f"{index.name} brings no {part} part.", "Leave --part out to see pictures of every class.")
    else:
        each = max(1, most // len(index.classes))
        rows = np.concatenate([np.flatnonzero(index.labels == k)[:each] for k in range(len(index.classes))])[:most]
    return [(decode(index.store.read(int(row))), index.called(int(row))) for row in rows]


def to_board(pictures: list[tuple[NDArray[np.uint8], str]], folder: Path, *, tag: str, first_step: int = 0) -> bool:
    """Write pictures under one tag, one a step; False where tensorboard is not installed."""
    from tellapart.reporting.tensorboard import open_board

    board = open_board(folder)
    if board is None:
        return False
    with board:
        for step, (pixels, name) in enumerate(pictures, first_step):
            board.pictures(tag, pixels[None], [name], step=step)
    return True
