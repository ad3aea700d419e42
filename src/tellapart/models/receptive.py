"""Receptive fields: which pixels of the picture a number inside a network can see, followed call by call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

WINDOWS = {
    "conv2d": "input weight bias stride padding dilation groups",
    "max_pool2d": "input kernel_size stride padding dilation ceil_mode",
    "avg_pool2d": "input kernel_size stride padding ceil_mode",
    "adaptive_avg_pool2d": "input output_size",
    "adaptive_max_pool2d": "input output_size",
}
"""Functions that slide a window over a map, each with the order of its arguments."""
POINTWISE = frozenset(
    """
    relu gelu silu hardswish elu leaky_relu prelu selu celu mish softplus sigmoid tanh hardtanh relu6 hardsigmoid
    batch_norm dropout dropout2d local_response_norm add sub mul div iadd isub imul truediv neg pow sqrt exp clamp
    contiguous clone detach to chunk split getitem expand softmax log_softmax maximum minimum where
    """.split()  # noqa: SIM905 - names read better as words
)
"""Functions whose number at a place depends on that place alone, of every map that is given."""
OVER_LAST = {"linear", "layer_norm"}
OVER_PLACES = {"mean", "amax", "sum", "max", "amin"}
VIEWS = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"}


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling; each entry is (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False


class Span(NamedTuple):
    """One direction of a field: the pixels `low` to `high` are seen by the first of `places`; each next one sees
    those `jump` further. Beyond the picture lies padding.
    """

    low: int
    high: int
    jump: int
    places: int

    def whole(self) -> "Span":
        """What all places together see; no place is nearer to a pixel than another."""
        return Span(self.low, self.high + (self.places - 1) * self.jump, 0, 1)


@dataclass(frozen=True)
class Field:
    """What each number of a tensor sees: one span for the height and one for the width. `axes`: along which
    dimensions the places lie: (2, 3) of a map B C H W, one after a flatten, none after an average over the map.
    """

    spans: tuple[Span, Span]
    axes: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the receptive field in pixels of the picture, padding included."""
        down, across = (span.high - span.low + 1 for span in self.spans)
        return down, across

    def whole(self) -> "Field":
        """The same for a number that is made of all places."""
        return Field((self.spans[0].whole(), self.spans[1].whole()), ())


def of_picture(shape: Sequence[int]) -> Field:
    """Each pixel of a picture B C H W sees itself."""
    return Field((Span(0, 0, 1, shape[2]), Span(0, 0, 1, shape[3])), (2, 3))


def window_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Window | None:
    """The window that a call of torch slides over its first argument, or None when it has none that is the same
    everywhere.

    >>> window_of("max_pool2d", [None, 3], {"padding": 1})
    Window(kernel=(3, 3), stride=(3, 3), padding=(1, 1), dilation=(1, 1), ceil_mode=False)
    """
    if name not in WINDOWS:
        return None
    given = {**dict(zip(WINDOWS[name].split(), args, strict=False)), **kwargs}
    if "output_size" in given:
        return _adaptive(given["input"].shape[-2:], given["output_size"])
    kernel = _pair(given["weight"].shape[2:] if "weight" in given else given["kernel_size"])
    stride = _pair(given.get("stride") or (kernel if "kernel_size" in given else 1))
    dilation, padding = _pair(given.get("dilation", 1)), given.get("padding", 0)
    if padding == "same":  # torch pads one more behind than before when the sum is odd
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
    return Window(kernel, stride, _pair(0 if padding == "valid" else padding), dilation, given.get("ceil_mode", False))


def _adaptive(sides: Sequence[int], wanted: Any) -> Window | None:
    """An adaptive pooling as a plain one, where its windows are equal and side by side."""
    out = [side if want is None else want for side, want in zip(sides, _pair(wanted), strict=True)]
    if any(side % want for side, want in zip(sides, out, strict=True)):
        return None
    step = _pair([side // want for side, want in zip(sides, out, strict=True)])
    return Window(step, step, (0, 0))


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple):
        return value, value
    return (value[0], value[-1])


def after(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Sequence[tuple[Tensor, Field | None]], out: Tensor
) -> Field | None:
    """The field of what the torch call `name` gave, from the fields of the tensors it was given; None: not known."""
    fields = [field for _, field in given if field is not None]
    if not fields or len(fields) < len(given):
        return None
    field, before = fields[0], given[0][0].shape
    if name in WINDOWS:
        window = window_of(name, args, kwargs)
        return _slid(field, window, out) if window and field.axes in ((2, 3), ()) and out.dim() == 4 else None
    if name == "pad":
        return _padded(field, args, out)
    if name in POINTWISE or (name == "cat" and (kwargs.get("dim", 0) if len(args) < 2 else args[1]) not in field.axes):
        return _joined(given, out)
    if name == "cat":  # a token beside the places of a picture
        return field if len(field.axes) == 1 else None
    if name in VIEWS:
        return _viewed(field, before, out.shape)
    if name in ("permute", "transpose"):
        return _turned(field, name, args, kwargs, len(before))
    if name in OVER_LAST:
        norm = name == "layer_norm" and len(args) > 1 and len(args[1]) > 1
        return field if field.axes and max(field.axes) < len(before) - 1 and not norm else field.whole()
    if name.endswith(("multi_head_attention_forward", "native_multi_head_attention")):
        return field.whole()
    if name in OVER_PLACES:
        return _reduced(field, args, kwargs, len(before))
    return None


def _slid(field: Field, window: Window, out: Tensor) -> Field:
    spans = []
    for n, span in enumerate(field.spans):
        low = span.low - window.padding[n] * span.jump
        reach = (window.kernel[n] - 1) * window.dilation[n] * span.jump
        high = span.high + reach - window.padding[n] * span.jump
        spans.append(Span(low, high, span.jump * window.stride[n], out.shape[2 + n]))
    return replace(field, spans=(spans[0], spans[1]))


def _padded(field: Field, args: Sequence[Any], out: Tensor) -> Field | None:
    """Zeros around a map, given as (left, right, top, bottom)."""
    if field.axes != (2, 3) or len(args) < 2 or len(args[1]) > 4:
        return None
    left, top = args[1][0], args[1][2] if len(args[1]) == 4 else 0
    down, across = (
        Span(span.low - by * span.jump, span.high - by * span.jump, span.jump, out.shape[2 + n])
        for n, (span, by) in enumerate(zip(field.spans, (top, left), strict=True))
    )
    return replace(field, spans=(down, across))


def _joined(given: Sequence[tuple[Tensor, Field | None]], out: Tensor) -> Field | None:
    """All that several maps see at the same place; a map of one place is spread over those of the other."""
    shapes = [(tensor.shape, field) for tensor, field in given if field is not None]
    axes = max((field.axes for _, field in shapes), key=len)
    if any(field.axes not in ((), axes) for _, field in shapes) or (axes and out.dim() <= max(axes)):
        return None
    if any(out.shape[a] != max(shape[a] for shape, field in shapes if field.axes) for a in axes):
        return None  # a cut through the map
    down, across = (_union([field.spans[n] for _, field in shapes]) for n in (0, 1))
    return Field((down, across), axes if down.jump or across.jump else ())


def _union(spans: Sequence[Span]) -> Span:
    same = len({(span.jump, span.places) for span in spans}) == 1
    low = min(span.low for span in spans)
    if same:
        return Span(low, max(span.high for span in spans), spans[0].jump, spans[0].places)
    high = max(span.whole().high for span in spans)
    return Span(low, high, 0, max(span.places for span in spans))


def _viewed(field: Field, before: Sequence[int], shape: Sequence[int]) -> Field | None:
    if not field.axes or all(before[axis] == 1 for axis in field.axes):
        return field.whole()
    dims, last = len(shape), (len(before) - 2, len(before) - 1)
    if field.axes == last and dims > 2 and tuple(shape[-2:]) == tuple(before[-2:]):
        return replace(field, axes=(dims - 2, dims - 1))
    kept = next((n for n, (a, b) in enumerate(zip(before, shape, strict=False)) if a != b), min(len(before), dims))
    merged = dims == kept + 1 and min(field.axes) >= kept
    return replace(field, axes=(kept,)) if merged else None


def _turned(field: Field, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], dims: int) -> Field | None:
    """The places lie along other dimensions after a permutation."""
    values = [*args[1:], *kwargs.values()]
    order = list(values[0] if len(values) == 1 else values)
    if name == "transpose":
        one, two = (n % dims for n in order)
        order = [{one: two, two: one}.get(n, n) for n in range(dims)]
    axes = tuple(order.index(axis) if axis in order else order.index(axis - dims) for axis in field.axes)
    return replace(field, axes=axes) if list(axes) == sorted(axes) else None


def _reduced(field: Field, args: Sequence[Any], kwargs: Mapping[str, Any], dims: int) -> Field | None:
    """After a mean or a maximum over all places."""
    given = args[1] if len(args) > 1 else kwargs.get("dim", range(dims))
    over = {n % dims for n in ([given] if isinstance(given, int) else given)}
    return field.whole() if over >= set(field.axes) else None
