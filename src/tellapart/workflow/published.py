"""Pretrained weights by name: a published file is taken from torch's cache, or fetched into it and proved by hash."""

from pathlib import Path

from tellapart.data.download import Progress, fetch
from tellapart.data.official import Official
from tellapart.errors import DataError, StorageError, UsageError, nearest
from tellapart.models.pretrained import checkpoints, digits_of
from tellapart.names import TORCHVISION_MODELS
from tellapart.recipe import Recipe, printable
from tellapart.workflow.settle import Settled

DEFAULT, NONE = "default", "none"
FIRST = "resnet18"
"""The network of `--weights default` where none is named: one file, and quick enough for a CPU."""
MOST = 4 << 30
"""No published file has more bytes."""


def with_weights(settled: Settled, fetching: Progress | None = None) -> Settled:
    """The recipe with its weights at hand: `default` is by now the name of the file that torchvision publishes for the
    network, `none` is nothing, and a published file that is not in torch's cache is fetched.

    Raises UsageError for a network without published weights, StorageError for a name that no file has, DataError
    when the file cannot be had.
    """
    asked, origins = settled.recipe.model.weights, dict(settled.origins)
    unnamed = settled.recipe.model.name == Recipe().model.name and "model.name" not in origins
    if asked in ("", NONE):
        return Settled(settled.recipe.replaced({"model.weights": ""}), origins)
    file = _default(FIRST if unnamed else settled.recipe.model.name) if asked == DEFAULT else asked
    if Path(file).name != file:
        return settled
    from tellapart.models.catalogue import files

    known = files()
    if file not in known:
        if Path(file).exists():
            return settled
        raise StorageError(f"There is no file {printable(file)}, nor published weights of that name.", _like(file))
    name, address = known[file]
    _brought(name, file, address, fetching)
    values = {"model.weights": file, **({"model.name": name} if unnamed else {})}
    origins |= {"model.weights": f"{origins.get('model.weights', 'recipe')}: published by torchvision"}
    origins |= {"model.name": "told from the weights"} if unnamed else {}
    return Settled(settled.recipe.replaced(values), origins)


def _default(name: str) -> str:
    """The file of a network."""
    from tellapart.models.catalogue import default_file

    if name not in TORCHVISION_MODELS:
        raise UsageError(
            f"There are no published weights for {printable(name)}.",
            "There are for torchvision's classifiers: `tellapart model list` names them; --model resnet18 is one.",
        )
    return default_file(name)


def _brought(name: str, file: str, address: str, fetching: Progress | None) -> None:
    """See that a published file lies here or in torch's cache, whole."""
    where = Path() if Path(file).exists() else checkpoints()
    official = Official(file, "", (address.removesuffix(file),), sha256=digits_of(file), most=MOST)
    try:
        fetch((official,), where, title=f"the weights of {name}", progress=fetching)
    except StorageError as error:
        raise StorageError(error.message, "Check space and permissions; TORCH_HOME names another folder.") from error
    except DataError as error:
        there = (where / file).exists()
        hint = (
            f"Move it away; it is fetched again. --weights ./{file} takes one here as a file of yours."
            if there
            else f"Check the network, or put {file} into {where} by hand: it is checked and used from there."
        )
        also = "Without a network, --weights FILE begins with any file at hand."
        raise DataError(error.message, f"{hint} {also}") from error


def _like(file: str) -> str:
    """What could have been meant."""
    from tellapart.models.catalogue import files

    known = files()
    word = file.partition("-")[0].partition(".")[0]
    own = [one for one, (name, _) in known.items() if name == word]
    if own:
        return f"Published for {word}: {', '.join(own)}; `--model {word} --weights default` takes {_default(word)}."
    guess = nearest(file, [*known, DEFAULT, NONE])
    meant = f"Did you mean {guess}? " if guess else ""
    return f"{meant}Give a file, a published name such as resnet18-f37072fd.pth, or default."
