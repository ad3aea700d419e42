"""The network that a word means: one by name, a recipe (.toml), a run, or a model file."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.errors import UsageError, did_you_mean, nearest
from tellapart.files import read_text
from tellapart.models.allowed import allow_class
from tellapart.names import OWN_MODELS, TORCHVISION_MODELS, is_model
from tellapart.recipe import Recipe, printable
from tellapart.run import every_run

if TYPE_CHECKING:
    from tellapart.models.build import Architecture
    from tellapart.models.bundle import Bundle

FILES = ("*.toml", "*.safetensors")
"""Which files may be meant: recipes and models."""


def described(name: str, asked: dict[str, Any]) -> "Architecture | None":
    """A network by its name, or that of a recipe in a .toml file, with what was asked besides; None for other words."""
    from tellapart.workflow.models import architecture_of

    if name.endswith(".toml") and Path(name).is_file():
        recipe = Recipe.from_toml(read_text(Path(name)), where=name)
    elif is_model(name):
        allow_class(name)
        recipe = Recipe.from_values({"model.name": name})
    else:
        return None
    asked = {key: value for key, value in asked.items() if value is not None}
    asked["changes"] = (*recipe.model.changes, *asked.get("changes", ()))
    return replace(architecture_of(recipe, 10), **asked)


def architecture_of(name: str, runs: Path, asked: dict[str, Any]) -> "tuple[Architecture, str, Bundle | None]":
    """What is to be built, what to call it, and the model it is of, if that is trained.

    Raises UsageError for a word that is neither a network nor a run nor a model file.
    """
    from tellapart.workflow.models import find_model

    if (found := described(name, asked)) is not None:
        return found, name, None
    if not os.path.exists(runs / name) and not os.path.exists(name):
        raise UsageError(f"'{printable(name)}' is no network, no run in {runs} and no model file.", _meant(name, runs))
    bundle, called = find_model(runs, name)
    if given := [key for key, value in asked.items() if value is not None]:
        flag = f"--{given[0]}".replace("num_", "").replace("changes", "change")
        raise UsageError(f"{called} is a trained model, and {flag} cannot change it.", f"Leave {flag} out.")
    return bundle.architecture, called, bundle


def _meant(name: str, runs: Path) -> str:
    """What could have been meant: a network, a run, or a recipe or model file beside the one that is not there."""
    networks, place = [*OWN_MODELS, "mlp:256", *TORCHVISION_MODELS], Path(name).parent
    files = [str(place / one.name) for ending in FILES for one in place.glob(ending)]
    guess = nearest(name, [*networks, *(run.name for run in every_run(runs)), *files])
    return f"Did you mean '{printable(guess)}'?" if guess else did_you_mean(name, networks)
