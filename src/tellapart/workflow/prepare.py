"""Prepare: from a source to sealed pictures: open, look, decode once, split, seal. All that trains begins here."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.first import first_look
from tellapart.data import download, identity, split_file
from tellapart.data.cache import default_room
from tellapart.data.index import NO_PART, Ignored, Index, Strings
from tellapart.data.official import expanded
from tellapart.data.overlay import overlaid
from tellapart.data.pictures import (
    ChosenPixels,
    Pictures,
    Progress,
    first_pass,
    mean_and_std,
    memory_budget,
    only,
    quiet,
    sizes,
)
from tellapart.data.seal import sealed
from tellapart.data.select import refuse_empty
from tellapart.data.split import complete, divided, leaking
from tellapart.errors import DataError
from tellapart.names import PARTS, TORCHVISION_MODELS
from tellapart.preprocess import Preprocess, fixed_statistics
from tellapart.recipe import Recipe
from tellapart.run import cores, sharing
from tellapart.workflow.choose import from_elsewhere, opened_or_fetched, refuse_unclear_split, selected
from tellapart.workflow.reach import within_reach
from tellapart.workflow.settle import Settled, refuse_large_batch, settle_training
from tellapart.workflow.settle_input import settle_input
from tellapart.workflow.settle_marks import for_marks


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Pictures under seal, the settled recipe, and the identities. `split_csv` is the text of split.csv."""

    pictures: Pictures
    settled: Settled
    counts: dict[str, int]
    content: str
    split: str
    test_part: str
    split_csv: str
    notes: list[str]

    @property
    def recipe(self) -> Recipe:
        """The settled recipe."""
        return self.settled.recipe


@dataclass(frozen=True, kw_only=True)
class Divided:
    """Pictures in parts, not sealed yet, with the recipe whose input is settled.

    keys: of all that were decoded; sizes: heights, widths and channels (n, 3) of some that are not test pictures.
    """

    settled: Settled
    pictures: Pictures
    keys: Strings
    sizes: NDArray[np.int64]


def prepare(
    settled: Settled,
    *,
    index: Index | None = None,
    progress: Progress = quiet,
    fetching: download.Progress | None = None,
) -> Prepared:
    """Open the source, choose, decode every picture once, split and seal. `index` stands for the source when given.

    Raises DataError or UsageError with the way out.
    """
    settled = for_marks(settled)
    whole = divided_pictures(settled, index=index, progress=progress, fetching=fetching)
    settled, apart = whole.settled, without_leaks(whole.pictures, whole.settled.recipe)
    reviewed, said = overlaid(apart, settled.recipe.data.overlay)
    pictures, placed = sealed(reviewed), reviewed.index
    counts = {part: len(placed.rows(part)) for part in PARTS}
    settled = settle_training(settled, num_train=counts["train"])
    refuse_large_batch(settled.recipe, counts["train"])
    data, fit = settled.recipe.data, settled.recipe.input.fit
    noticed = first_look(placed, whole.sizes, fit=fit, source=data.source)
    return Prepared(
        pictures=with_statistics(pictures, settled.recipe),
        settled=settled,
        counts=counts,
        content=identity.content(placed),
        split=identity.split(placed),
        test_part=identity.test_part(placed),
        split_csv=split_file.text_of(placed, of=whole.keys),
        notes=[*noticed, *said],
    )


def divided_pictures(
    settled: Settled,
    *,
    index: Index | None = None,
    progress: Progress = quiet,
    fetching: download.Progress | None = None,
) -> Divided:
    """The pictures that a recipe asks for, decoded once and divided."""
    found = found_whole(settled, index=index, fetching=fetching)
    settled = within_reach(settled, len(found.rows("train")) or len(found), sizes(found))
    decoded = _decoded(settle_input(settled, sizes(found), found.classes).recipe, found, progress)
    placed = in_parts(settled.recipe, decoded.index)
    # Only now is it known which rows are test rows; they must not have a say in size, colour or augmentation.
    shapes = sizes(placed)
    settled = settle_input(settled, shapes, placed.classes)
    if geometry(settled.recipe) != decoded.preprocess:
        pictures = replace(_decoded(settled.recipe, placed, progress), index=placed)
    else:
        pictures = _of_rows(decoded, placed)
    return Divided(settled=settled, pictures=pictures, keys=decoded.index.keys, sizes=shapes)


def decoded_whole(
    settled: Settled,
    *,
    index: Index | None = None,
    progress: Progress = quiet,
    fetching: download.Progress | None = None,
) -> Pictures:
    """The pictures that a recipe asks for, decoded; their parts are those that the source brings."""
    found = found_whole(settled, index=index, fetching=fetching)
    return _decoded(settle_input(settled, sizes(found), found.classes).recipe, found, progress)


def found_whole(settled: Settled, *, index: Index | None, fetching: download.Progress | None) -> Index:
    """The pictures that a recipe asks for; their parts are those that the source brings."""
    recipe = settled.recipe
    refuse_unclear_split(recipe)

    def opened(source: str) -> Index:
        given = index if source == recipe.data.source else None
        return opened_or_fetched(source, recipe, fetching) if given is None else given

    found = selected(recipe, opened)
    refuse_empty(found, from_elsewhere(recipe) if recipe.data.split == "auto" else PARTS)
    return found


def _of_rows(pictures: Pictures, index: Index) -> Pictures:
    """The pictures of an index that has some of their rows, in their order."""
    if len(index) == len(pictures.index):
        return replace(pictures, index=index)
    row = {key: number for number, key in enumerate(pictures.index.keys)}
    chosen = np.array([row[key] for key in index.keys], np.int64)
    return replace(pictures, index=index, pixels=ChosenPixels(pictures.pixels, chosen))


def in_parts(recipe: Recipe, index: Index) -> Index:
    """The index with every row in a part: by the split file, by what the data bring, or by a hash."""
    data, from_file = recipe.data, recipe.data.split not in ("auto", "new")
    if from_file:
        fold = data.fold if data.folds else None
        index = split_file.read(expanded(data.split), index, folds=data.folds, fold=fold)
    if data.split == "new" and bool((index.parts != NO_PART).any()):
        index = replace(index, said=(*index.said, "These parts are not kept: data.split is new, all is divided anew."))
    if data.folds:
        index = replace(index, said=(*index.said, f"Fold {data.fold} of 0 to {data.folds - 1} is validation."))
    return divided(
        index,
        validation=data.validation,
        test=data.test,
        seed=data.split_seed,
        anew=data.split == "new",
        folds=0 if from_file else data.folds,
        fold=data.fold,
        partial=from_elsewhere(recipe),
    )


def without_leaks(pictures: Pictures, recipe: Recipe) -> Pictures:
    """The pictures less those that are judged as well, which are named in `ignored`. Test pictures never leave."""
    index = pictures.index
    rows = leaking(index) if recipe.data.leaks == "drop" else np.zeros(0, np.int64)
    if not len(rows):
        return pictures
    why = "its pixels are those of a picture that is judged"
    named = [Ignored(key=index.keys[int(row)], reason=f"{PARTS[index.parts[row]]}: {why}") for row in rows]
    told = replace(pictures, index=replace(index, ignored=(*index.ignored, *named)))
    apart = only(told, np.setdiff1d(np.arange(len(index)), rows))
    brought = from_elsewhere(recipe)
    try:
        complete(apart.index, partial=brought)
    except DataError as error:
        left = f"{len(rows):,} of {len(index):,} pictures left, for they have the pixels of ones that are judged."
        flags = " and ".join(f"--{part}-from" for part in brought)
        hint = f"Does {flags} bring the same pictures as the source? Name others." if flags else error.hint
        raise DataError(f"{error.message} {left}", hint) from error
    return apart


def _decoded(recipe: Recipe, index: Index, progress: Progress) -> Pictures:
    """The first pass with the geometry of a recipe whose input is settled."""
    return first_pass(
        index,
        geometry(recipe),
        skip_bad=recipe.data.on_bad == "skip",
        memory=memory_budget() // sharing(),
        room=default_room(recipe.machine.cache),
        threads=cores(),
        progress=progress,
    )


def geometry(recipe: Recipe) -> Preprocess:
    """The Preprocess of a settled recipe, before the statistics are known."""
    size, channels = recipe.input.size, recipe.input.channels
    margin = recipe.model.name in TORCHVISION_MODELS and recipe.input.fit == "crop" and size >= 224
    return Preprocess(
        size=size,
        channels=channels,
        fit=recipe.input.fit,
        filter=recipe.input.filter,
        short=round(size * 256 / 224) if margin else 0,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def with_statistics(pictures: Pictures, recipe: Recipe) -> Pictures:
    """The pictures with the mean and deviation of a named normalisation, or of the training part."""
    channels = pictures.preprocess.channels
    found = fixed_statistics(recipe.input.normalize, channels)
    mean, std = found or mean_and_std(pictures.pixels, pictures.index.rows("train"), channels)
    return replace(pictures, preprocess=replace(pictures.preprocess, mean=mean, std=std))
