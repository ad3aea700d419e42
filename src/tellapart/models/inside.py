"""What is inside a network, as numbers: the kernels of a layer, its maps of one picture, its weights."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor, nn

from tellapart.errors import UsageError, nearest
from tellapart.models.look import still
from tellapart.models.trace import tensors
from tellapart.recipe import printable

TREE = "`tellapart model show … --tree` prints every layer"


@dataclass(frozen=True)
class Inside:
    """What a layer holds or gave: kernels (O I H W), or maps (C H W). `times`: how often it ran in one pass."""

    path: str
    kind: str
    values: Tensor
    times: int = 1


def first_convolution(model: nn.Module) -> str:
    """The path of the first convolution over pictures, "" where there is none."""
    return next((path for path, one in model.named_modules() if isinstance(one, nn.Conv2d)), "")


def kernels(model: nn.Module, path: str = "") -> Inside:
    """The kernels of a convolution, the first one when no path is given. Raises UsageError when it is none."""
    path = path or _first(model)
    layer = _layer(model, path)
    if not isinstance(layer, nn.Conv2d):
        said = f"{path} is a {type(layer).__name__} and has no kernels."
        raise UsageError(said, f"Name a convolution; the first is {_first(model)}; {TREE}.")
    return Inside(path, type(layer).__name__, layer.weight.detach().float().cpu())


def maps(model: nn.Module, pixels: Tensor, path: str = "") -> Inside:
    """What one picture (1 C S S) becomes in a layer: one map for each of its channels (C H W), in eval mode.

    The first convolution when no path is given. Weights, training flags and hooks are as before afterwards. Raises
    UsageError for a path that is none, and for a layer that gives no maps.
    """
    path = path or _first(model)
    layer = _layer(model, path)
    kind, gave = type(layer).__name__, _seen(model, pixels, layer.register_forward_hook)
    if not gave or gave[0].ndim != 4:
        shape = " x ".join(map(str, gave[0].shape)) if gave else ""
        said = f"gives {shape}, not maps (pictures x channels x height x width)" if gave else "gives nothing in a pass"
        hint = f"Layers with maps come before the head; the first convolution is {first_convolution(model) or 'none'}."
        raise UsageError(f"{path} ({kind}) {said}.", hint)
    return Inside(path, kind, gave[0][0].float().cpu(), len(gave))


def features(model: nn.Module, head: str, pixels: Tensor) -> Tensor:
    """What the layer at `head` is given for pictures (B C S S), a map as the mean of each channel: (B F)."""
    (given,) = _seen(model, pixels, model.get_submodule(head).register_forward_pre_hook)
    return (given.mean((2, 3)) if given.ndim == 4 else given.flatten(1)).float().cpu()


def _seen(model: nn.Module, pixels: Tensor, register: Callable[..., Any]) -> list[Tensor]:
    """What a hook of `register` is shown in one pass, each time: copies, as the next layer may work in place."""
    found: list[Tensor] = []
    handle = register(lambda *call: found.extend(one.clone() for one in islice(tensors(call[-1]), 1)))
    try:
        with still(model):
            model(pixels)
    finally:
        handle.remove()
    return found


def spreads(model: nn.Module) -> list[dict[str, Any]]:
    """Every weight tensor in numbers, in the order of the network: name, shape, mean, sd (over all numbers), min, max,
    zeros (the share that are exactly 0).
    """
    found = []
    for name, weight in model.named_parameters():
        w = weight.detach().double()
        sizes = {"mean": w.mean(), "sd": w.std(correction=0), "min": w.min(), "max": w.max()}
        numbers = {key: value.item() for key, value in sizes.items()}
        found.append({"name": name, "shape": list(w.shape), **numbers, "zeros": (w == 0).double().mean().item()})
    return found


def fingerprint(model: nn.Module) -> str:
    """SHA-256 in hex of all that the network holds: names, shapes, types and the bits of every number."""
    hashed = hashlib.sha256()
    for name, value in model.state_dict().items():
        hashed.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _first(model: nn.Module) -> str:
    if not (path := first_convolution(model)):
        said = "This network has no convolution, and so neither kernels nor feature maps."
        raise UsageError(said, "`tellapart model weights` shows the weights it has.")
    return path


def _layer(model: nn.Module, path: str) -> nn.Module:
    layers = {name: one for name, one in model.named_modules() if name}
    if path not in layers:
        guess = nearest(path, layers)
        lead = f"Did you mean '{guess}'? " if guess else ""
        hint = f"{lead}The first ones are {', '.join(list(layers)[:6])}; {TREE}."
        raise UsageError(f"There is no layer '{printable(path)}' in this network.", hint)
    return layers[path]
