"""From a name and its arguments to a network: the one dict of builders."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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
    TIMM,
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
            pictures = type(made.channels) is type(made.size) is int and 0 < made.channels <= 64 and made.size <= 4096
            numbers = [made.num_classes, made.size, *made.args.values()]
            sound = is_model(made.name) and pictures and all(type(n) is int and 0 < n <= 100_000 for n in numbers)
            if not all(isinstance(lines, list | tuple) for lines in (made.layers, made.changes)):
                raise TypeError("its layers and changes are lists")
            made = replace(made, layers=tuple(made.layers), changes=tuple(made.changes))
            refuse_odd(made.name, made.layers, made.changes)
            sound &= re.fullmatch("[0-9a-f]{64}" if is_code(made.name) else "", made.sha256) is not None
        except (TypeError, AttributeError, UsageError) as error:
            said = printable(getattr(error, "message", str(error)))[:300].removesuffix(".")
            raise StorageError(f"The architecture in this file cannot be read: {said}.") from error
        if not sound:
            said = printable(repr(values))[:300]
            raise StorageError(f"The architecture in this file is not one that can be built: {said}.")
        return made


BUILDERS: dict[str, Callable[[Architecture], nn.Module]] = {
    "small": lambda a: SmallNet(a.channels, a.num_classes, a.size, **a.args),
    "quick": lambda a: build_quick(a.channels, a.num_classes, a.size),
    "linear": lambda a: build_linear(a.channels, a.num_classes, a.size),
}
HEAD_KEPT = 1000
"""The classes of a published network, whose head stays where a layer is appended to it."""
FILLING = (
    *("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_"),
    *("xavier_uniform_", "zeros_", "ones_", "constant_", "erfinv_"),
)
"""What gives the numbers of a tensor their first values."""
ROOM = 50_000_000
"""Weights that a layer which is replaced may have had."""
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


class _Unfilled(TorchFunctionMode):
    """Weights are made without memory and never filled; all else that a network computes while it is built is real.

    To fill a tensor on the meta device does nothing, and the first time that takes four seconds: torch then loads half
    of its compiler.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def outline(architecture: Architecture, *, numbers: int | None = None) -> nn.Module:
    """The network without numbers, on the meta device: no memory, no time. Those from elsewhere, which may hold some
    that no file keeps, are on the CPU. `numbers`: how many there are for it.

    Raises UsageError as `build` does, and for a network of timm that is far larger than that.
    """
    if is_elsewhere(architecture.name):
        _refuse_larger(architecture, numbers)
        return build(architecture)
    try:
        with torch.device("meta"), _Unfilled():
            return build(architecture)
    except UsageError:  # regnet computes its widths with tensors
        with _Unfilled():
            return build(architecture).to("meta")


def _refuse_larger(a: Architecture, numbers: int | None) -> None:
    """A small file may name a network that fills the memory: those of timm are built on the CPU."""
    if numbers is None or not a.name.startswith(TIMM):
        return
    with _Unfilled():
        needs = sum(one.numel() for one in build_timm(a.name, a.num_classes, a.channels).parameters())
    if needs > ROOM + 4 * numbers:
        raise UsageError(f"{printable(a.name)} has {needs:,} weights, and the file {numbers:,} numbers.")


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
