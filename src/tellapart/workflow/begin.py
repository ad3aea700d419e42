"""What a run writes before it trains: recipe, split, environment, command; and where a model is from."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tellapart.data.index import Index
from tellapart.data.progress import Progress, quiet
from tellapart.errors import MismatchError
from tellapart.files import read_text
from tellapart.models.allowed import source
from tellapart.models.catalogue import licence_of
from tellapart.models.pretrained import given
from tellapart.names import NAMED_SOURCES, own_class
from tellapart.recipe import Recipe
from tellapart.run import Run, environment
from tellapart.workflow.prepare import Prepared, prepare
from tellapart.workflow.recipes import identity_of, recipe_text
from tellapart.workflow.settle import Settled

PATHS = ("data.source", "data.root", "data.validation_from", "data.test_from")
"""The settings that may be paths, beside those of which a run keeps its own copy."""


def written(run: Run, prepared: Prepared, *, command: str, conditions: Mapping[str, Any]) -> None:
    """Write split.csv, environment.json and command.txt, the identities into status.json, and recipe.toml last: where
    it is, the run can be resumed.
    """
    recipe = prepared.recipe.to_toml(prepared.settled.origins)
    run.write("split.csv", prepared.split_csv)
    if prepared.recipe.data.overlay:
        run.write("overlay.csv", read_text(Path(prepared.recipe.data.overlay), errors="surrogateescape"))
    if (weights := prepared.recipe.model.weights) and "weights" not in run.status():  # a branch has its parent's
        sha256 = given(Path(weights), "").digest
        run.set_status(weights={"file": weights, "sha256": sha256, "licence": licence_of(weights, sha256)})
    if own_class(prepared.recipe.model.name):
        run.write("network.py", source(prepared.recipe.model.name, prepared.recipe.model.sha256).text)
    run.write("command.txt", command + "\n")
    run.write("environment.json", json.dumps(conditions, indent=1) + "\n")
    run.set_status(
        recipe=identity_of(recipe),
        source=prepared.recipe.data.source,
        at=os.getcwd(),
        model=prepared.recipe.model.name,
        content=prepared.content,
        split=prepared.split,
        test_part=prepared.test_part,
        counts=prepared.counts,
    )
    run.write("recipe.toml", recipe)


def recipe_of(run: Run) -> Recipe:
    """The recipe of a run, as it was settled. Raises MismatchError when recipe.toml was changed since."""
    return Recipe.from_toml(recipe_text(run), where=str(run.folder / "recipe.toml"))


def same_pictures(run: Run, recipe: Recipe, *, index: Index | None = None, progress: Progress = quiet) -> Prepared:
    """The pictures of a run again, sealed. Raises MismatchError when they are no longer those it was trained with.

    `index` stands for the source of a run whose pictures were given in Python.
    """
    prepared = pictures_of(run, Settled(recipe, {}), index=index, progress=progress)
    return replace(prepared, settled=replace(prepared.settled, recipe=replace(prepared.recipe, data=recipe.data)))


def pictures_of(run: Run, settled: Settled, *, index: Index | None = None, progress: Progress = quiet) -> Prepared:
    """The pictures and the split of a run for another recipe with the same data, which says from then on where they
    are. Raises MismatchError as `same_pictures` does.
    """
    recipe = settled.recipe
    prepared = prepare(replace(settled, recipe=with_own_files(run, recipe)), index=index, progress=progress)
    if prepared.split != run.status().get("split"):
        raise MismatchError(
            f"The pictures of {recipe.data.source} are no longer those that {run.name} was trained with.",
            "Bring back the old ones, or judge it on them as other pictures: tellapart test RUN SOURCE.",
        )
    return prepared


def with_own_files(run: Run, recipe: Recipe) -> Recipe:
    """A recipe that finds the pictures of a run from anywhere: by its own copies of split and overlay, for the files
    that the recipe names may be gone by now, or edited.
    """
    own = from_where_it_began(recipe, run.status().get("at", ""))
    if recipe.data.split not in ("auto", "new"):
        own |= {"data.split": str(run.folder / "split.csv"), "data.folds": 0, "data.fold": 0}
    if recipe.data.overlay:
        own["data.overlay"] = str(run.folder / "overlay.csv")
    return recipe.replaced(own)


def from_where_it_began(recipe: Recipe, at: str, paths: Iterable[str] = PATHS) -> dict[str, Any]:
    """The relative paths of a recipe as they were meant: from the folder in which the run began, if they are there."""
    values = {path: recipe.values()[path] for path in paths}
    meant = {path: os.path.join(at, value) for path, value in values.items() if value and value not in NAMED_SOURCES}
    return {path: there for path, there in meant.items() if at and os.path.exists(there)}


def origin_of(run: Run, prepared: Prepared) -> dict[str, Any]:
    """Where a model comes from: run, versions, data and split identities, the recipe, and what it went on from."""
    where, status = environment(), run.status()
    return {
        "run": run.name,
        "time": where["time"],
        "packages": where["packages"],
        "source": prepared.pictures.index.name,
        "content": prepared.content,
        "split": prepared.split,
        "test_part": prepared.test_part,
        "counts": prepared.counts,
        "recipe": prepared.recipe.to_toml(),
        **{name: status[name] for name in ("parent", "extended", "weights") if name in status},
    }
