"""Prepare: from a source to sealed pictures: open, look, decode once, split, seal. All that trains begins here."""

import csv
import io
from dataclasses import dataclass, replace

import numpy as np

from tellapart.audit.first import first_look
from tellapart.data import download, identity
from tellapart.data.chance import Purpose, words
from tellapart.data.index import Index
from tellapart.data.official import default_root, expanded
from tellapart.data.overlay import overlaid
from tellapart.data.pictures import Pictures, Progress, first_pass, mean_and_std, memory_budget, quiet, sizes
from tellapart.data.seal import sealed
from tellapart.data.sources import open_source
from tellapart.data.split import divided, grouped
from tellapart.errors import AbsentError, DataError
from tellapart.names import PARTS, TORCHVISION_MODELS
from tellapart.preprocess import Preprocess, fixed_statistics
from tellapart.recipe import Recipe
from tellapart.run import cores
from tellapart.workflow.settle import Settled, refuse_large_batch, settle_input, settle_training


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


def prepare(settled: Settled, *, progress: Progress = quiet, fetching: download.Progress | None = None) -> Prepared:
    """Open the source, decode every picture once, split and seal. Raises DataError or UsageError with the way out."""
    recipe = settled.recipe
    index = grouped(limited(_opened(recipe, fetching), recipe), recipe.data.group_by)
    decoded = _decoded(settle_input(settled, sizes(index)).recipe, index, progress)
    placed = divided(
        decoded.index,
        validation=recipe.data.validation,
        test=recipe.data.test,
        seed=recipe.data.split_seed,
        anew=recipe.data.split == "new",
    )
    # Only now is it known which rows are test rows; they must not have a say in size, colour or augmentation.
    shapes = sizes(placed)
    settled = settle_input(settled, shapes)
    if geometry(settled.recipe) != decoded.preprocess:
        decoded = replace(_decoded(settled.recipe, placed, progress), index=placed)
    decoded, notes = overlaid(replace(decoded, index=placed), recipe.data.overlay)
    placed = decoded.index
    pictures = sealed(decoded)
    counts = {part: len(placed.rows(part)) for part in PARTS}
    settled = settle_training(settled, num_train=counts["train"])
    refuse_large_batch(settled.recipe, counts["train"])
    return Prepared(
        pictures=with_statistics(pictures, settled.recipe),
        settled=settled,
        counts=counts,
        content=identity.content(placed),
        split=identity.split(placed),
        test_part=identity.test_part(placed),
        split_csv=split_csv(placed),
        notes=[*first_look(placed, shapes, fit=recipe.input.fit, source=recipe.data.source), *notes],
    )


def _opened(recipe: Recipe, fetching: download.Progress | None) -> Index:
    """The index of the source. A named data set whose files are not there is fetched first, and that is said."""
    source, root = recipe.data.source, recipe.data.root
    try:
        return open_source(source, root=root)
    except AbsentError as absent:
        try:
            said = download.get(source, expanded(root) if root else default_root(), progress=fetching)
        except DataError as error:
            hint = f"{absent.hint} `tellapart data get {source} --from PLACE` takes the files from elsewhere."
            raise DataError(f"{absent.message} {error.message}", hint) from error
    index = open_source(source, root=root)
    return replace(index, said=(*said, *index.said))


def _decoded(recipe: Recipe, index: Index, progress: Progress) -> Pictures:
    """The first pass with the geometry of a recipe whose input is settled."""
    return first_pass(
        index,
        geometry(recipe),
        skip_bad=recipe.data.on_bad == "skip",
        memory=memory_budget(),
        threads=cores(),
        progress=progress,
    )


def limited(index: Index, recipe: Recipe) -> Index:
    """At most `data.limit` pictures of each part, keeping the shares of the classes; chosen by a hash of the row."""
    if recipe.data.limit is None:
        return index
    drawn = words(recipe.data.split_seed, Purpose.LIMIT, 0, np.arange(len(index)))[0]
    chosen = []
    for part in np.unique(index.parts):
        rows = np.flatnonzero(index.parts == part)
        chosen.append(_proportional(rows, index.labels[rows], drawn[rows], recipe.data.limit))
    return index.take(np.sort(np.concatenate(chosen)))


def _proportional(rows: np.ndarray, labels: np.ndarray, drawn: np.ndarray, limit: int) -> np.ndarray:
    """The `limit` rows whose rank within their class, as a share of the class, is smallest."""
    rank = np.empty(len(rows))
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        rank[inside[np.argsort(drawn[inside], kind="stable")]] = (np.arange(len(inside)) + 0.5) / len(inside)
    return rows[np.argsort(rank, kind="stable")[:limit]]


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


def split_csv(index: Index) -> str:
    """key, class, part, group, digest of every row, as the text of split.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["key", "class", "part", "group", "digest"])
    groups = [""] * len(index) if index.groups is None else index.groups.tolist()
    digests = [""] * len(index) if index.digests is None else [row.tobytes().hex() for row in index.digests]
    classes, parts = [index.classes[k] for k in index.labels.tolist()], [PARTS[p] for p in index.parts.tolist()]
    writer.writerows(zip(index.keys, classes, parts, groups, digests, strict=True))
    return out.getvalue()
