"""Split: divide the pictures of a source and write that down, without training."""

from dataclasses import dataclass

import numpy as np

from tellapart.data import download, split_file
from tellapart.data.progress import Progress, quiet
from tellapart.data.split import folded
from tellapart.errors import DataError, UsageError
from tellapart.workflow.data import Summary, summary
from tellapart.workflow.prepare import divided_pictures, without_leaks
from tellapart.workflow.settle import Settled


@dataclass(frozen=True, kw_only=True)
class Made:
    """A split: the text of its file, and how many pictures of each class are in each part and fold."""

    text: str
    summary: Summary


def split(
    settled: Settled, *, folds: int = 0, progress: Progress = quiet, fetching: download.Progress | None = None
) -> Made:
    """Divide the pictures as a recipe says, and deal what is not sealed into `folds`.

    Raises UsageError for an overlay: a split is of the labels as they are, and training lays the overlay over it;
    DataError where too little stands alone for so many folds.
    """
    if settled.recipe.data.overlay:
        raise UsageError("data.overlay says nothing here: it is laid over a split.", "Give it to `tellapart train`.")
    whole = divided_pictures(settled, progress=progress, fetching=fetching)
    index = without_leaks(whole.pictures, whole.settled.recipe).index
    dealt = folded(index, folds, whole.settled.recipe.data.split_seed) if folds else None
    if dealt is not None and (filled := len(set(dealt.tolist()) - {-1})) < folds:
        said = f"Only {filled} of {folds} folds can be filled: pictures that belong together stay in one."
        raise DataError(said, f"Say --folds {filled}, or fewer.")
    summed = summary(index)
    for fold in range(folds):
        rows = np.flatnonzero(dealt == fold)
        summed.parts[f"fold {fold}"] = index.take(rows).counts().tolist()
        summed.pictures[f"fold {fold}"] = len(rows)
    return Made(text=split_file.text_of(index, folds=dealt, of=whole.keys), summary=summed)
