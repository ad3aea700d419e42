"""The head of a pretrained network, fitted at once on what its body makes of the pictures: where training begins, and
what it has to beat.
"""

import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tellapart.data.chance import Purpose, uniform
from tellapart.data.pictures import Pictures
from tellapart.errors import UsageError
from tellapart.evaluation.metrics import Figure, proportion, share
from tellapart.models.frozen import head_of
from tellapart.run import Run
from tellapart.training.checkpoint import Checkpoint, Position, save_checkpoint
from tellapart.training.fit import Asked
from tellapart.training.probe import FOLDS, Probe, probed
from tellapart.training.world import ALONE
from tellapart.workflow.embedded import Body, embedded, given
from tellapart.workflow.events import Event, Said
from tellapart.workflow.fitting import Pieces, state_of, validated
from tellapart.workflow.trivial import BY_FEATURES, nearest


def headed(run: Run, pieces: Pieces, asked: Asked) -> Generator[Event, None, Checkpoint | None]:
    """Fit the head of the network in the pieces, judge it on validation, and keep it as the run's first best model.

    None where there is no linear head, or no process has the whole network. Raises UsageError when nothing else would
    be trained then.
    """
    if pieces.prepared.recipe.data.several:
        yield Said(stage=-1, text="a head for several classes each is trained by steps from fresh weights")
        return None
    name, began = head_of(pieces.model), time.monotonic()
    layer = pieces.model.get_submodule(name)
    if not isinstance(layer, nn.Linear) or pieces.world.sharded:
        why = "is divided among processes" if pieces.world.sharded else f"is no linear layer but {layer}"
        if not pieces.plan.max_steps:
            raise UsageError(f"The head cannot be fitted at once: it {why}.", "Train it by steps, with --epochs.")
        yield Said(stage=-1, text=f"the head, {name}, {why}: it is trained by steps from fresh weights")
        return None
    found, known = _fitted(pieces, layer, asked)
    with torch.no_grad():
        layer.weight.copy_(found.weight)
        layer.bias.copy_(found.bias)
    with given(layer) as seen:
        loss, accuracy, judged = validated(pieces.model, replace(pieces, world=ALONE), asked)  # the others wait
    run.set_status(baselines=[_by_features(pieces.prepared.pictures, known, torch.cat(seen)).to_json()])
    figure = proportion("accuracy", round(accuracy * judged), judged, "validation")
    chosen = "by cross-validation" if found.accuracy == found.accuracy else "(too few to choose one)"
    yield Said(
        text=f"head fitted to {len(known):,} pictures in {time.monotonic() - began:.1f} s, "
        f"penalty {found.penalty:g} {chosen}: "
        f"validation {100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}] (n = {judged})"
        f"{', which training has to beat' if pieces.plan.max_steps else ''}"
    )
    return _kept(run, state_of(pieces, Position(best_step=0, best_accuracy=accuracy, best_loss=loss)))


def _by_features(pictures: Pictures, known: Tensor, asked: Tensor) -> Figure:
    """What asking the nearest training pictures reaches on validation, by what comes to the head (N F) of both."""
    index = pictures.index
    rows, labels = index.rows("validation"), torch.from_numpy(index.labels[index.rows("train")])
    said = nearest(known.cpu(), labels, asked, classes=len(index.classes)).numpy()
    groups = None if index.groups is None else index.groups[rows]
    return share("accuracy", said == index.labels[rows], "validation", BY_FEATURES, groups=groups)


def _kept(run: Run, found: Checkpoint) -> Checkpoint:
    """The checkpoint before the first step, saved as the last and as the best."""
    folder, at = run.folder / "checkpoints", found.position
    found = replace(found, model={name: tensor.detach().clone() for name, tensor in found.model.items()})  # to stay
    save_checkpoint(folder, Checkpoint(position=at, model=found.model), at.best_name)
    save_checkpoint(folder, found)
    run.set_status(checkpoints={"last": at.name, "best": at.best_name}, kept=[at.name, at.best_name])
    return found


def _fitted(pieces: Pieces, layer: nn.Linear, asked: Asked) -> tuple[Probe, Tensor]:
    """The head, by the training pictures as they are and, where they may be mirrored, by their mirror images; and what
    comes to it (N F) from the former.
    """
    pictures = pieces.prepared.pictures
    rows, ways = pictures.index.rows("train"), [False, True] if pieces.prepared.recipe.augment.flip else [False]
    body = Body(pieces.model, pieces.architecture, pieces.device)
    features = torch.cat([embedded(body, pictures, rows, turned=turned, asked=asked) for turned in ways])
    labels = torch.from_numpy(np.tile(pictures.index.labels[rows], len(ways))).to(features.device)
    folds = torch.from_numpy(np.tile(_folds(pictures, rows), len(ways))).to(features.device)
    return probed(features, labels, folds, classes=len(pictures.index.classes)), features[: len(rows)]


def _folds(pictures: Pictures, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each row: in turn within its class, in an order of chance; a group stays in one."""
    labels, chance = pictures.index.labels[rows], uniform(0, Purpose.AUGMENT, 0, rows)[0]
    if pictures.index.groups is not None:
        return pictures.index.groups[rows] % FOLDS
    folds = np.zeros(len(rows), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        folds[own[np.argsort(chance[own], kind="stable")]] = np.arange(len(own)) % FOLDS
    return folds
