"""What a network begins with: pretrained weights for all but its head, and what of it stays as it is."""

import fnmatch
from pathlib import Path

import torch
from torch import nn

from tellapart.errors import DataError, UsageError
from tellapart.models.frozen import body_of, head_of
from tellapart.models.pretrained import given
from tellapart.models.weights import read
from tellapart.names import BODY
from tellapart.recipe import printable


def named_by(weights: str) -> str:
    """The network that a file of weights is for, told from its tensors. Raises DataError when none is known to fit."""
    return body_of(given(Path(weights), ""))[0]


def begin_with(model: nn.Module, weights: str, name: str) -> None:
    """Put the tensors of a file into all of `model` but its head. Raises DataError when they are not its own."""
    _, body = body_of(given(Path(weights), name))
    with torch.no_grad():
        own = model.state_dict()
        for key, value in body.items():
            own[key].copy_(value)


def keep_head(model: nn.Module, weights: str) -> None:
    """Put the head of a file into the network's own, to which a layer is appended. Raises DataError when it is not."""
    head, state = head_of(model), read(Path(weights))
    layer = model.get_submodule(head)
    with torch.no_grad():
        for name, own in layer.named_parameters():
            value = state.get(f"{head}.{name}")
            if value is None or value.shape != own.shape or not bool(torch.isfinite(value).all()):
                raise DataError(
                    f"{printable(weights)} has no head {head} of {len(own)} outputs, to which a layer is appended.",
                    f"Replace it instead: model.changes = {head} = linear classes, or leave model.changes out.",
                )
            own.copy_(value)


def freeze(model: nn.Module, what: str) -> None:
    """Let weights stay as they are: those that `staying` names.

    Raises UsageError for a pattern that fits no weight, and when nothing would be left to train.
    """
    weights, names = dict(model.named_parameters()), staying(model, what)
    for name in names:
        weights[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in weights.values()):
        raise UsageError(f"model.freeze: {what} leaves nothing to train.", f"The head is {head_of(model)}.")


def staying(model: nn.Module, what: str) -> set[str]:
    """The weights that stay as they are: `body` is all but the head, `12` the first twelve blocks as `depths` has them;
    else patterns of names, `features.*,conv1.*`. Raises UsageError for a pattern that fits no weight.
    """
    names, every = [name for name, _ in model.named_parameters()], set[str]()
    for pattern in filter(None, (part.strip() for part in what.split(","))):
        found = fnmatch.filter(names, pattern)
        if pattern == BODY:
            head = head_of(model)
            found = [name for name in names if not name.startswith(f"{head}.")]
        elif pattern.isdecimal():
            away = depths(model)
            found = [name for name in names if away[name] > max(away.values()) - int(pattern)]
        if not found:
            raise UsageError(
                f"model.freeze: no weight is called {pattern}.", f"The first ones: {', '.join(names[:4])}."
            )
        every |= set(found)
    return every


def into_training(model: nn.Module, *, keep_norms: bool = False) -> None:
    """Training mode, but for layers whose weights are all frozen, and for norms that are kept: their running statistics
    stay as they are, too.
    """
    model.train()
    for module in model.modules():
        own = [weight.requires_grad for weight in module.parameters(recurse=False)]
        if (own and not any(own)) or (keep_norms and hasattr(module, "running_mean")):
            module.eval()


def depths(model: nn.Module) -> dict[str, int]:
    """How many blocks lie between each weight and the last ones, the head. A block is a part of a Sequential that is
    the network, one of its children, or a child's only Sequential; else it is a child of the network.

    >>> depths(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    {'0.weight': 1, '0.bias': 1, '2.weight': 0, '2.bias': 0}
    """
    sequence = {place: isinstance(one, nn.Sequential | nn.ModuleList) for place, one in model.named_modules()}
    blocks = {name: _block(name.split(".")[:-1] or [""], sequence) for name, _ in model.named_parameters()}
    order = list(dict.fromkeys(blocks.values()))
    return {name: len(order) - 1 - order.index(block) for name, block in blocks.items()}


def _block(parts: list[str], sequence: dict[str, bool]) -> str:
    """The block that a module is in. `sequence`: of each module by its path, whether others follow each other in it."""
    top = parts[0]
    if sequence[""] or not top:
        return top
    if sequence[top]:
        return ".".join(parts[:2])
    inner = [place for place, so in sequence.items() if so and place.rpartition(".")[0] == top]
    return ".".join(parts[:3]) if len(inner) == 1 and ".".join(parts[:2]) == inner[0] else top
