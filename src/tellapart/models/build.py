"""From a name and its arguments to a network: the one dict of builders."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tellapart.errors import StorageError, UsageError, unknown
from tellapart.models.elsewhere import build_own, build_timm, prove
from tellapart.models.hub import build_hub
from tellapart.models.layers import build_layers
from tellapart.models.plain import build_linear, build_mlp, build_quick
from tellapart.models.resnet import KINDS, build_resnet
from tellapart.models.small import SmallNet
from tellapart.models.surgery import appends, changed, refuse_odd
from tellapart.models.zoo import build_torchvision
from tellapart.names import (
    HUB,
    LINES,
    OWN_MODELS,
    TORCHVISION_MODELS,
    hidden_sizes,
    is_code,
    is_elsewhere,
    is_model,
    own_class,
)
from tellapart.recipe import printable


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is needed to build a network again: its name, what goes in, what comes out, its own arguments, the lines
    it is written in, what is changed in it, and the digest of the file that its class is in.
    """

    name: str
    num_classes: int
    channels: int
    size: int
    args: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, as they stand in the header of a model file."""
        lines = {key: list(value) for key, value in (("layers", self.layers), ("changes", self.changes)) if value}
        plain = {key: value for key, value in asdict(self).items() if key not in ("layers", "changes", "sha256")}
        return {**plain, "args": dict(self.args), **lines, **({"sha256": self.sha256} if self.sha256 else {})}

    @classmethod
    def from_json(cls, values: Any) -> "Architecture":
        """Read what `to_json` gave. Raises StorageError when it is not an architecture that can be built."""
        try:
            made = cls(**values)
            numbers = [made.num_classes, made.channels, made.size, *made.args.values()]
            sound = is_model(made.name) and all(type(n) is int and 0 < n <= 100_000 for n in numbers)
            if not all(isinstance(lines, list | tuple) for lines in (made.layers, made.changes)):
                raise TypeError("its layers and changes are lists")
            made = replace(made, layers=tuple(made.layers), changes=tuple(made.changes))
            refuse_odd(made.name, made.layers, made.changes)
            sound &= re.fullmatch("[0-9a-f]{64}" if is_code(made.name) else "", made.sha256) is not None
        except (TypeError, AttributeError, UsageError) as error:
            raise StorageError(f"The architecture in this file cannot be read: {error}.") from error
        if not sound:
            raise StorageError(f"The architecture in this file is not one that can be built: {values!r}.")
        return made


BUILDERS: dict[str, Callable[[Architecture], nn.Module]] = {
    "small": lambda a: SmallNet(a.channels, a.num_classes, a.size, **a.args),
    "quick": lambda a: build_quick(a.channels, a.num_classes, a.size),
    "linear": lambda a: build_linear(a.channels, a.num_classes, a.size),
}
HEAD_KEPT = 1000
"""The classes of a published network, whose head stays where a layer is appended to it."""
Begin = Callable[[nn.Module], None]


def build(architecture: Architecture, *, seed: int = 0, begin: Begin = lambda _: None) -> nn.Module:
    """The network with fresh weights drawn from `seed`; the global random state is left as it was. `begin` may give it
    other weights before anything is changed in it, so that a change disturbs no weight beside its own.

    Raises UsageError for an unknown name, or a picture size that the network cannot take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = _built(architecture)
            begin(network)
            return _changed(network, architecture)
        except (ValueError, RuntimeError, AssertionError, TypeError) as error:
            raise UsageError(f"{architecture.name} cannot be built for {architecture.size} pixels: {error}") from error


def outline(architecture: Architecture) -> nn.Module:
    """The network without numbers, on the meta device: no memory, no time. Those that need numbers to be built (regnet)
    or may hold some that no file keeps (from elsewhere) are on the CPU. Raises UsageError as `build` does.
    """
    if is_elsewhere(architecture.name):
        return build(architecture)
    try:
        with torch.device("meta"):
            return build(architecture)
    except UsageError:
        return build(architecture)


def _changed(network: nn.Module, a: Architecture) -> nn.Module:
    if a.changes:
        network = changed(network, a.changes, (a.channels, a.size, a.size), a.num_classes, a.name)
    if (a.layers or a.changes) and not any(True for _ in network.parameters()):
        raise UsageError(f"{a.name} has no layer with weights: there is nothing to train.", "Add `linear classes`.")
    return network


def _built(a: Architecture) -> nn.Module:
    refuse_odd(a.name, a.layers, a.changes)
    if a.name == LINES:
        return build_layers(a.layers, a.channels, a.num_classes, a.size)
    if a.name in TORCHVISION_MODELS:
        return _of_the_zoo(replace(a, num_classes=HEAD_KEPT) if appends(a.changes) else a)
    if (hidden := hidden_sizes(a.name)) is not None:
        return build_mlp(a.channels, a.num_classes, a.size, hidden=hidden)
    if is_elsewhere(a.name):
        return _from_elsewhere(a)
    if a.name not in BUILDERS:
        raise unknown("model", a.name, [*OWN_MODELS, LINES, "mlp:256", *TORCHVISION_MODELS])
    return BUILDERS[a.name](a)


def _from_elsewhere(a: Architecture) -> nn.Module:
    """A class of a person's own or a network of timm, which takes the pictures and, if unchanged, fits the classes."""
    if odd := sorted(a.args):
        raise ValueError(f"it has no argument {printable(odd[0])}")
    given = {"channels": a.channels, "num_classes": a.num_classes, "size": a.size}
    if a.name.startswith(HUB):
        network = build_hub(a.name, a.sha256, given)
    elif own_class(a.name):
        network = build_own(a.name, a.sha256, given)
    else:
        network = build_timm(a.name, a.num_classes, a.channels)
    prove(network, a.name, (a.channels, a.size, a.size), None if a.changes else a.num_classes)
    return network


def _of_the_zoo(a: Architecture) -> nn.Module:
    """A residual network from our own source, any other from torchvision."""
    known = {"small_stem"} if a.name in KINDS else set()
    if odd := sorted(a.args.keys() - known):
        raise ValueError(f"it has no argument {printable(odd[0])}")
    if a.name in KINDS:
        return build_resnet(a.name, a.num_classes, channels=a.channels, small_stem=bool(a.args.get("small_stem")))
    return build_torchvision(a.name, a.num_classes, a.channels)
