"""Choose: from what the [data] section names to the index that is trained on: open, join, map, limit, group."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tellapart.data import download
from tellapart.data.index import NO_PART, Index
from tellapart.data.official import default_root, expanded
from tellapart.data.select import absent, chosen, joined, limited, limited_per_class, refuse_untrained, relabelled
from tellapart.data.sources import fitting, open_source
from tellapart.data.sources.labels import Labels
from tellapart.data.split import grouped
from tellapart.errors import AbsentError, DataError, UsageError
from tellapart.names import NAMED_SOURCES
from tellapart.recipe import Recipe


def selected(recipe: Recipe, opened: Callable[[str], Index]) -> Index:
    """What the [data] section asks for: the source, parts from elsewhere, classes, limits, groups."""
    data = recipe.data
    index = opened(data.source)
    others = {"validation": data.validation_from, "test": data.test_from}
    flags = [f"--{part}-from" for part, other in others.items() if other]
    if flags and data.split == "new":
        raise UsageError(f"data.split = new makes every part anew, and {flags[0]} brings one.", "Leave one out.")
    for part, other in others.items():
        index = joined(index, opened(other), part) if other else index
    index = chosen(relabelled(index, data.label_map), include=data.include, exclude=data.exclude)
    if flags:
        refuse_untrained(index, " or ".join(flags))
        index = replace(index, said=(*index.said, *absent(index, [part for part, other in others.items() if other])))
    index = limited(index, data.limit, data.split_seed)
    index = grouped(limited_per_class(index, data.limit_per_class, data.split_seed), data.group_by)
    if index.groups is None:
        return index
    brought = "" if (index.parts == NO_PART).all() else ", where the data bring no parts"
    said = f"Groups: {len(np.unique(index.groups)):,}; the pictures of one group stay in one part{brought}."
    return replace(index, said=(*index.said, said))


def open_for(recipe: Recipe, source: str, *, least: int = 2) -> Index:
    """The index of the recipe's source or of a second one, with the labels that were asked for; nothing is fetched.
    Fewer classes than `least` are refused; a second source may have any number.
    """
    data = recipe.data
    labels = Labels(data.labels, data.pattern, data.columns, data.several)
    if source == data.source:
        return open_source(source, root=data.root, labels=labels, least=least)
    named = source in NAMED_SOURCES or source.startswith("torchvision:")
    return open_source(source, root=data.root if named else "", labels=fitting(labels, source), least=1)


def opened_or_fetched(source: str, recipe: Recipe, fetching: download.Progress | None) -> Index:
    """The index of a source. A named data set whose files are not there is fetched first, and that is said."""
    root = recipe.data.root
    try:
        return open_for(recipe, source)
    except AbsentError as absent:
        try:
            said = download.get(source, expanded(root) if root else default_root(), progress=fetching)
        except DataError as error:
            hint = f"{absent.hint} `tellapart data get {source} --from PLACE` takes the files from elsewhere."
            raise DataError(f"{absent.message} {error.message}", hint) from error
    index = open_for(recipe, source)
    return replace(index, said=(*said, *index.said))


def refuse_unclear_split(recipe: Recipe) -> None:
    """Raises UsageError for a split that is neither a word nor a file, and for a fold that is not there."""
    data = recipe.data
    if data.split not in ("auto", "new") and not expanded(data.split).is_file():
        raise UsageError(
            f"data.split is auto, new or a file; there is no file {data.split!r}.",
            "`tellapart split SOURCE --out split.csv` writes one.",
        )
    if data.folds == 1 or data.fold >= max(data.folds, 1):
        raise UsageError(
            f"data.folds is {data.folds} and data.fold is {data.fold}.",
            "Two folds or more are needed, and they are counted from 0; without folds, leave data.fold out.",
        )


def from_elsewhere(recipe: Recipe) -> list[str]:
    """The parts that a second source brings; a class that one of them lacks is said, and no fault."""
    others = {"validation": recipe.data.validation_from, "test": recipe.data.test_from}
    return [part for part, other in others.items() if other]
