"""Surgery: a network with layers replaced, removed or added, in the words of `layers`; every other weight stays."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tellapart.errors import UsageError, did_you_mean
from tellapart.models.layers import MOST_LINES, Line, at, made, parsed
from tellapart.models.mismatch import Where, mismatch
from tellapart.models.sizes import Shape
from tellapart.names import LINES
from tellapart.recipe import printable

MOST = 30
"""Changes: a picture is sent through the network for each."""
EXAMPLE = "A change is PATH = LAYER, append LAYER or remove PATH: classifier.6 = linear classes."


@dataclass(frozen=True)
class Change:
    """What is done: a `layer` in place of the module at `path`, behind the network (no path), or none in its place."""

    path: str
    layer: Line | None


def change_of(text: str) -> Change:
    """What a line of `model.changes` says. Raises UsageError.

    >>> change_of("features.0 = conv 32 3 stride=2").path, change_of("append linear 10").path
    ('features.0', '')
    """
    word, _, rest = text.strip().partition(" ")
    if word == "append":
        return Change("", parsed(rest))
    path, equals, layer = (part.strip() for part in text.partition("="))
    if word == "remove":
        path, equals, layer = rest.strip(), "=", ""
    if not equals or not path or " " in path or (word != "remove" and not layer):
        raise UsageError("That is no change.", EXAMPLE)
    return Change(path, parsed(layer) if layer else None)


def appends(changes: Sequence[str]) -> bool:
    """Whether a layer is added behind the network, whose own head stays."""
    return any(not change_of(text).path for text in changes)


def refuse_odd(name: str, layers: Sequence[str], changes: Sequence[str]) -> None:
    """Raises UsageError for layers of another network than `layers`, and for lines that cannot be read."""
    if bool(layers) != (name == LINES):
        told = f"model.layers has the layers of the network {LINES}, and the network is {printable(name)}."
        if not layers:
            told = f"{LINES} is a network of your own lines, and model.layers has none."
        say = f"""Say --model {LINES} --set 'model.layers=["flatten", "linear classes"]'"""
        raise UsageError(told, f"{say}, or give model check and model show a recipe (.toml) with these two settings.")
    for where, lines, read, most in (("layers", layers, parsed, MOST_LINES), ("changes", changes, change_of, MOST)):
        if len(lines) > most:
            raise UsageError(f"model.{where} has {len(lines):,} lines; at most {most} are possible.")
        for number, text in enumerate(lines, 1):
            with at(f"model.{where}, line {number}, '{printable(text)}'"):
                read(text)


def changed(network: nn.Module, changes: Sequence[str], picture: Shape, classes: int, name: str) -> nn.Module:
    """The network after all changes, in order. `picture`: (C S S). What is not named keeps its weights to the last bit.

    Raises UsageError for a path that is not there, and when what comes out does not fit together or to the classes.
    """
    for number, text in enumerate(changes, 1):
        with at(f"model.changes, line {number}, '{printable(text)}'"):
            _change(network, change_of(text), picture, classes, name)
    last = _Watch(network, picture, name)
    if last.error:
        raise UsageError(f"The changed network does not fit together: {last.error.message}", last.error.hint)
    if last.shape("", given=False) != (classes,):
        gives = " x ".join(map(str, last.shape("", given=False)))
        hint = "The last layer must be `linear classes`: put it in its place, or append it."
        raise UsageError(f"The changed {name} gives {gives} numbers for {classes} classes.", hint)
    return network


def _change(network: nn.Module, change: Change, picture: Shape, classes: int, name: str) -> None:
    seen = _Watch(network, picture, name)
    if not change.path and change.layer:
        return _append(network, change.layer, seen, classes)
    modules = dict(network.named_modules())
    if change.path not in modules:
        hint = did_you_mean(change.path, filter(None, modules))
        raise UsageError(
            f"{name} has no module {printable(change.path)}.", f"{hint} `tellapart model show --tree` prints the paths."
        )
    old, given = modules[change.path], seen.shape(change.path, given=True)
    given = given[-1:] if isinstance(old, nn.Linear) else given  # many rows, perhaps, such as tokens
    new = [one for one, _ in made(change.layer, given, classes)] if change.layer else [nn.Identity()]
    network.set_submodule(change.path, new[0] if len(new) == 1 else nn.Sequential(*new))
    return None


def _append(network: nn.Module, layer: Line, seen: "_Watch", classes: int) -> None:
    """Add a layer to the sequence that the network ends with; a single last layer becomes the first of a sequence.

    `add_Linear` is what the notes call it: classifier.add_module("add_Linear", nn.Linear(1000, 10)).
    """
    path, end = "", network
    while not isinstance(end, nn.Sequential) and (children := list(end.named_children())):
        path, end = f"{path}.{children[-1][0]}".lstrip("."), children[-1][1]
    given = seen.shape(path, given=False)
    if not isinstance(end, nn.Sequential):
        name, end = path.rpartition(".")[2], nn.Sequential()
        end.add_module(name, network.get_submodule(path))
        network.set_submodule(path, end)
    for module, _ in made(layer, given, classes):
        name = again = f"add_{type(module).__name__}"
        number = 1
        while hasattr(end, again):
            number += 1
            again = f"{name}_{number}"
        end.add_module(again, module)


def _passed(module: nn.Module, given: Shape) -> Shape:
    """What a network gives for one picture, on the meta device: no arithmetic, and its weights stay as they are."""
    every = chain(module.named_parameters(), module.named_buffers())
    numbers = {name: tensor.detach().to("meta") for name, tensor in every}
    module.eval()
    try:
        with torch.no_grad():
            return tuple(functional_call(module, numbers, (torch.empty(1, *given, device="meta"),)).shape[1:])
    finally:
        module.train()


class _Watch:
    """One pass on the meta device: the shapes of one picture that come to each module and leave it, until it fails."""

    def __init__(self, network: nn.Module, picture: Shape, name: str) -> None:
        self._given: dict[str, Shape] = {}
        self._gives: dict[str, Shape] = {}
        self._inside: list[tuple[str, nn.Module]] = []
        self.error: UsageError | None = None
        with ExitStack() as stack:
            for path, module in network.named_modules():
                stack.callback(module.register_forward_pre_hook(self._enter(path)).remove)
                stack.callback(module.register_forward_hook(self._leave(path)).remove)
            try:
                _passed(network, picture)
            except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
                path, module = self._inside[-1]
                where = Where(path, module, (1, *self._given.get(path, ())), "", ())
                self.error = UsageError(*mismatch(error, where, (1, *picture), name))

    def _enter(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._inside.append((path, module))
            if args and isinstance(args[0], Tensor):
                self._given.setdefault(path, tuple(args[0].shape[1:]))

        return hook

    def _leave(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._inside.pop()
            if isinstance(output, Tensor):
                self._gives.setdefault(path, tuple(output.shape[1:]))

        return hook

    def shape(self, path: str, *, given: bool) -> Shape:
        """What came to the module at `path`, or what it gave. Raises UsageError when the pass did not come there."""
        found = self._given if given else self._gives
        if path not in found:
            raise self.error or UsageError(f"No picture comes to {path} by itself.", "Change the module around it.")
        return found[path]
