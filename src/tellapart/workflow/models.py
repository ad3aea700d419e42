"""Finding the model a person means: a run by name, a run folder, a model file, or what a recipe says."""

from functools import partial
from pathlib import Path

from torch import nn

from tellapart.errors import StorageError
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle, load_bundle
from tellapart.models.header import read_header
from tellapart.models.start import begin_with, keep_head
from tellapart.models.surgery import appends
from tellapart.names import is_code
from tellapart.recipe import Recipe
from tellapart.run import Run


def architecture_of(recipe: Recipe, num_classes: int) -> Architecture:
    """The network of a recipe, for pictures of 3 x 32 x 32 where it does not say which."""
    model = recipe.model
    args = {"width": model.width} if model.name == "small" else {}
    if model.small_stem:
        args["small_stem"] = 1
    return Architecture(
        name=model.name,
        num_classes=num_classes,
        channels=recipe.input.channels or 3,
        size=recipe.input.size or 32,
        args=args,
        layers=model.layers,
        changes=model.changes,
        sha256=model.sha256 if is_code(model.name) else "",
    )


def find_model(runs: Path, name: str) -> tuple[Bundle, str]:
    """The bundle of a run or of a file, and what to call it. Raises UsageError or StorageError with the way out."""
    path = Path(name)
    if path.is_file():
        return load_bundle(path), path.name
    run = Run.open(runs, name)
    if not run.bundle.is_file():
        state = run.status().get("state", "unknown")
        raise StorageError(
            f"The run {run.name} has no model yet; it is {state}.", "Train again, or choose another run."
        )
    return load_bundle(run.bundle), run.name


def is_marked(runs: Path, name: str) -> bool:
    """Whether the model of a run, or of a file, is of pictures that may have several classes each."""
    path = Path(name) if Path(name).is_file() else Run.open(runs, name).bundle
    return path.is_file() and bool(read_header(path).get("thresholds"))


def run_of(runs: Path, name: str) -> Run | None:
    """The run that a model is of, by its name or by the file in its folder; None for a file elsewhere."""
    path = Path(name)
    if not path.is_file():
        return Run.open(runs, name)
    run = Run(path.resolve().parent)
    return run if path.resolve() == run.bundle and (run.folder / "status.json").is_file() else None


def network_of(recipe: Recipe, classes: int, *, anew: bool = True) -> nn.Module:
    """The network as training begins with it: with its pretrained weights, unless it is not to begin `anew`."""
    begin = partial(_begin, recipe if anew else Recipe())
    return build(architecture_of(recipe, classes), seed=recipe.train.seed, begin=begin)


def _begin(recipe: Recipe, model: nn.Module) -> None:
    """Pretrained weights before anything is changed; those of the head, too, where a layer is to come behind it."""
    if recipe.model.weights:
        begin_with(model, recipe.model.weights, recipe.model.name)
        if appends(recipe.model.changes):
            keep_head(model, recipe.model.weights)
