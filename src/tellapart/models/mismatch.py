"""A layer that refused its input, explained in words with the numbers that do not match."""

from dataclasses import dataclass

from torch import nn

Shape = tuple[int, ...]
CONVS = nn.Conv1d, nn.Conv2d, nn.Conv3d
NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
POOLS = nn.MaxPool2d, nn.AvgPool2d


@dataclass(frozen=True)
class Where:
    """Where a pass ended: the innermost module and what it was given, the last call of torch inside it, and the
    shape of one picture before it was flattened to what the module was given, if it was.
    """

    path: str
    module: nn.Module
    given: Shape
    call: str
    flattened: Shape


def mismatch(error: Exception, where: Where, picture: Shape, name: str) -> tuple[str, str]:
    """What is wrong, with the layer's path, and what would fit."""
    at = f"{where.path or name} ({type(where.module).__name__})"
    for found in (_channels(where), _features(where), _window(where)):
        if found:
            return f"{name} cannot take {picture}: {at} {found[0]}; it was given {where.given}.", found[1]
    said = " ".join(str(error).split())
    call = f", in `{where.call}`" if where.call else ""
    return f"{name} cannot take {picture}: {at}{call}: {said}", "Look at the shapes of the layers before this one."


def _channels(where: Where) -> tuple[str, str] | None:
    layer, given = where.module, where.given
    if len(given) < 3 or not isinstance(layer, (*CONVS, *NORMS)):
        return None
    wanted = layer.in_channels if isinstance(layer, CONVS) else layer.num_features
    if given[1] == wanted:
        return None
    fits = f"{type(layer).__name__}({given[1]}, …) would fit, or {_counted(wanted)} from the layer before it."
    return f"expected {_counted(wanted)}, got {given[1]}", fits


def _counted(channels: int) -> str:
    return f"{channels} channel" + "s" * (channels > 1)


def _features(where: Where) -> tuple[str, str] | None:
    layer, given = where.module, where.given
    if not isinstance(layer, nn.Linear) or not given or given[-1] == layer.in_features:
        return None
    if len(given) == 4:
        numbers = given[1] * given[2] * given[3]
        fits = f"Put nn.Flatten() before it and make it Linear({numbers}, {layer.out_features})."
        return f"expected rows of {layer.in_features} numbers, got maps of {' x '.join(map(str, given[1:]))}", fits
    factors = f" = {' x '.join(map(str, where.flattened))}" if where.flattened else ""
    told = f"expected {layer.in_features} numbers a picture, got {given[-1]}{factors}"
    why = f", because {factors[3:]} numbers come out of the layers before it" if factors else ""
    return told, f"Linear({given[-1]}, {layer.out_features}) would fit{why}."


def _window(where: Where) -> tuple[str, str] | None:
    layer, given = where.module, where.given
    if not isinstance(layer, (nn.Conv2d, *POOLS)) or len(given) != 4 or isinstance(layer.padding, str):
        return None
    for side, n in (("height", 0), ("width", 1)):
        kernel, padding, dilation = (_of(value, n) for value in _geometry(layer))
        span, reach = dilation * (kernel - 1) + 1, given[2 + n] + 2 * padding
        if span > reach:
            room = f"a {side} of {given[2 + n]}" + (f" + 2 x {padding} = {reach}" if padding else "")
            return f"has a window of {span} pixels for {room}", "Use a larger picture, or fewer layers that halve it."
    return None


def _geometry(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> tuple[object, object, object]:
    return layer.kernel_size, layer.padding, 1 if isinstance(layer, nn.AvgPool2d) else layer.dilation


def _of(value: object, axis: int) -> int:
    number = value[axis] if isinstance(value, tuple) else value
    return number if isinstance(number, int) else 1
