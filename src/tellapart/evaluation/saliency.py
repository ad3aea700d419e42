"""Where a network looks for one class: heat maps by gradients at its last maps, or by covering parts of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tellapart.evaluation.fields import fields_of, without
from tellapart.evaluation.metrics import log_odds
from tellapart.evaluation.predict import AT_ONCE
from tellapart.models.look import still

Map = NDArray[np.float64]
PASSING = nn.Dropout | nn.Softmax | nn.Identity | nn.AdaptiveAvgPool2d
"""Layers whose outputs are shares, or nothing new: an average over a small map may even make it larger."""
EXTRA = 5
"""Tokens that may stand before those of the picture: of the class, of distillation, registers."""
ENOUGH, COVER = 5, 2
"""Places along a side that show where; fields along the side of what is covered at once."""

WEIGHED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hirescam": lambda values, slopes: (values * slopes).sum(-1),
    "gradcam": lambda values, slopes: (values * slopes.mean((0, 1))).sum(-1),
}
"""From the numbers (P P C) at each place and the slopes of the class's logit there to the heat of the place (P P).

Grad-CAM (Selvaraju et al., ICCV 2017) averages the slopes of a channel over all places; HiResCAM (Draelos and Carin,
2020) does not, so that a channel counts where the network uses it.
"""
METHODS = (*WEIGHED, "occlusion")


@dataclass(frozen=True)
class Place:
    """A layer that keeps places: its path and kind, how its numbers lie ("maps" B C P P, "last" B P P C, "tokens"
    B N C), and the P places along a side.
    """

    path: str
    kind: str
    order: str
    side: int


def places_of(model: nn.Module, pixels: Tensor, number: int) -> list[Place]:
    """The layers that keep places which have a say in the class of this number, for a picture (1 C S S), in order. None
    for a linear network or an MLP.

    In a ViT that is what the last attention is given: behind it the head reads the token of the class alone, and the
    slopes at all others are 0.
    """
    found: dict[Place, bool] = {}

    def sloped(place: Place, slope: Tensor) -> None:
        found.setdefault(place, bool(_placed(slope, place).any()))

    def met(place: Place, tensor: Tensor) -> Tensor:
        if tensor.requires_grad:  # the slopes of all layers at once are as large as the graph
            tensor.register_hook(partial(sloped, place))
        return tensor.clone()

    with _watched(model, pixels.shape[-1], met), still(model), torch.enable_grad():
        pixels = pixels.detach().clone().requires_grad_()
        torch.autograd.grad(model(pixels)[0, number], pixels)
    in_order = [*reversed(found)]  # slopes come from behind
    return [place for place in in_order if found[place]] or in_order


def place_of(places: Sequence[Place]) -> Place | None:
    """The last layer, if it has 5 places a side or more: fewer do not show where. Else, of those that come last with so
    many (or with the most there are), an outermost one: inside a block there may be other ways past a layer.
    """
    if not places or places[-1].side >= ENOUGH:
        return places[-1] if places else None
    fine = min(ENOUGH, max(place.side for place in places))
    side = next(place.side for place in reversed(places) if place.side >= fine)
    same = [place for place in places if place.side == side]
    outermost = min(place.path.count(".") for place in same)
    return next(place for place in reversed(same) if place.path.count(".") == outermost)


def cam(model: nn.Module, pixels: Tensor, number: int, place: Place, method: str) -> Map:
    """The heat (S S) of one class of a picture (1 C S S) by the gradients at a layer, before any cut at 0."""
    seen: list[Tensor] = []

    def met(_: Place, tensor: Tensor) -> Tensor:
        seen.append(tensor.detach().requires_grad_())  # the graph begins here
        return seen[-1].clone()

    with _watched(model, pixels.shape[-1], met, place.path), still(model), torch.enable_grad():
        (slope,) = torch.autograd.grad(model(pixels)[0, number], seen[-1])
    heat = WEIGHED[method](*(_placed(one.detach().cpu().double(), place) for one in (seen[-1], slope)))
    return _grown(heat, pixels.shape[-1])


def occlusion(model: nn.Module, pixels: Tensor, number: int) -> Map:
    """The heat (S S) of one class of a picture (1 C S S): by how much its log-odds fall where the picture is covered
    (Zeiler and Fergus, ECCV 2014), for each field the mean over all squares of 2 x 2 fields that cover it.
    """
    size = pixels.shape[-1]
    covers = covering(int(fields_of(size)[-1]) + 1)
    odds = log_odds(logits_without(model, pixels, np.concatenate([covers[:1] & False, covers])))[:, number]
    heat = np.einsum("n,nyx->yx", odds[0] - odds[1:], covers) / covers.sum(0)
    return _grown(torch.from_numpy(heat), size)


def covering(side: int) -> NDArray[np.bool_]:
    """(N G G): every square of 2 x 2 fields of a grid of G x G, where it is true; of a grid of 1 that field."""
    wide = min(COVER, side)
    corners = [(y, x) for y in range(side - wide + 1) for x in range(side - wide + 1)]
    made = np.zeros((len(corners), side, side), bool)
    for one, (y, x) in zip(made, corners, strict=True):
        one[y : y + wide, x : x + wide] = True
    return made


def logits_without(model: nn.Module, pixels: Tensor, gone: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The logits (N K) of a picture (1 C S S) without the fields that are `gone` (N G G), once for each n."""
    once = max(1, AT_ONCE // pixels.shape[-1] ** 2)
    with still(model):
        found = [model(without(pixels, gone[n : n + once])).float().cpu() for n in range(0, len(gone), once)]
    return torch.cat(found).double().numpy()


def _grown(heat: Tensor, size: int) -> Map:
    """The heat of places (P P) on all pixels of the square (S S)."""
    return interpolate(heat[None, None], (size, size), mode="bilinear")[0, 0].numpy()


def _placed(values: Tensor, place: Place) -> Tensor:
    """The numbers of a layer as (P P C)."""
    if place.order == "maps":
        return values[0].permute(1, 2, 0)
    return values[0] if place.order == "last" else values[0, -(place.side**2) :].unflatten(0, (place.side, place.side))


def _order(shape: Sequence[int], size: int) -> tuple[str, int] | None:
    """How the numbers of one picture lie in a tensor, and along how many places a side; None when it keeps none."""
    if len(shape) == 4 and shape[0] == 1:
        _, a, b, c = shape
        order, side = ("maps", b) if b == c else ("last", a) if a == b else ("", 0)
        return (order, side) if 1 < side <= 2 * size else None
    if len(shape) == 3 and shape[0] == 1:
        side = isqrt(shape[1])
        kept = side > 1 and shape[1] - side**2 <= EXTRA and size % side == 0
        return ("tokens", side) if kept else None
    return None


@contextmanager
def _watched(
    model: nn.Module, size: int, met: Callable[[Place, Tensor], Tensor], only: str | None = None
) -> Iterator[None]:
    """While open, `met` is called with what each layer gave that keeps places, in order; the network goes on with what
    it returns: a copy, for the next layer may work in place. `only`: that layer alone. The weights need no slopes.
    """

    def watch(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, given: Any, output: Any) -> Any:
            found = _order(output.shape, size) if isinstance(output, Tensor) else None
            if found is None or isinstance(module, PASSING):
                return None
            return met(Place(path, type(module).__name__, *found), output)

        return hook

    layers = [(path, one) for path, one in model.named_modules() if only in (None, path)]
    handles = [one.register_forward_hook(watch(path)) for path, one in layers]
    learned = [one.requires_grad_(False) for one in model.parameters() if one.requires_grad]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for one in learned:
            one.requires_grad_()
