"""A network in the user's own words: one line for each layer, such as `conv 32 5 padding=2`; nothing is executed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from math import prod
from typing import Any

from torch import nn

from tellapart.errors import UsageError, unknown
from tellapart.models.sizes import Shape, Window, convolution, pooling
from tellapart.recipe import printable

CLASSES = "classes"
"""The word that stands for the number of classes."""
MOST_LINES, LONGEST, LARGEST, NUMBERS = 500, 200, 100_000, 100_000_000
"""Bounds: of lines, of letters in one, of a number in it, and of what a layer may give for one picture."""

Options = Mapping[str, Any]
Reader = Callable[[str], Any]
"""Reads the value of an option; its docstring says what it takes."""
Made = list[tuple[nn.Module, Shape]]
"""Modules in order, each with the shape of what it gives for one picture."""


def _whole(text: str) -> int:
    """a whole number from 1 to 100,000"""
    return _bounded(text, 1)


def _from_zero(text: str) -> int:
    """a whole number from 0 to 100,000"""
    return _bounded(text, 0)


def _bounded(text: str, low: int) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= LARGEST):
        raise ValueError(text)
    return int(text)


def _outputs(text: str) -> int | str:
    """a whole number from 1 to 100,000, or the word classes"""
    return text if text == CLASSES else _whole(text)


def _share(text: str) -> float:
    """a number from 0 to below 1"""
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError(text)
    return value


def _yes(text: str) -> bool:
    """true or false"""
    return {"true": True, "false": False}[text]


def _mode(text: str) -> str:
    """nearest or bilinear"""
    return {"nearest": "nearest", "bilinear": "bilinear"}[text]


def _layernorm(given: tuple[int, ...]) -> nn.Module:
    """Over a picture's maps together, with a scale for each; over the features of each token of a sequence."""
    return nn.LayerNorm(given[1]) if len(given) == 2 else nn.GroupNorm(1, given[0])


@dataclass(frozen=True)
class Kind:
    """A layer that can be named. `takes`: what stands behind its name, in order; `options`: what may follow, as
    name=value; `on`: what it works on, maps or rows or anything; `makes` gets the shape that comes to it, and these.
    """

    makes: Callable[[Shape, Options], Made]
    _: KW_ONLY
    on: str = "anything"
    takes: Mapping[str, Reader] = field(default_factory=dict)
    options: Mapping[str, Reader] = field(default_factory=dict)

    def usage(self, name: str) -> str:
        """How the line is written: `maxpool KERNEL [stride=] [padding=]`."""
        return " ".join([name, *map(str.upper, self.takes), *(f"[{option}=]" for option in self.options)])


def _window(o: Options) -> Window:
    """The window of a convolution or a pooling, whose stride is its kernel when not given."""
    sides = (o["kernel"], o.get("stride", o["kernel"]), o.get("padding", 0), o.get("dilation", 1))
    return Window(*((side, side) for side in sides))


def _conv(given: Shape, o: Options) -> Made:
    o = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True, **o}
    known = convolution((1, *given), _window(o), filters=o["filters"], groups=o["groups"], bias=o["bias"])
    window = {name: o[name] for name in ("stride", "padding", "dilation")}
    made = nn.Conv2d(given[0], o["filters"], o["kernel"], **window, groups=o["groups"], bias=o["bias"])
    return [(made, known.output[1:])]


def _pool(kind: Any, name: Any) -> Callable[[Shape, Options], Made]:
    def makes(given: Shape, o: Options) -> Made:
        known = pooling((1, *given), _window(o), name)
        return [(kind(o["kernel"], stride=o.get("stride"), padding=o.get("padding", 0)), known.output[1:])]

    return makes


def _upconv(given: Shape, o: Options) -> Made:
    stride, padding = o.get("stride", 1), o.get("padding", 0)
    sides = [(side - 1) * stride - 2 * padding + o["kernel"] for side in given[1:]]
    if min(sides) < 1:
        raise UsageError(f"A padding of {padding} cuts away all that upconv makes of {_words(given)}.")
    return [(nn.ConvTranspose2d(given[0], o["filters"], o["kernel"], stride, padding), (o["filters"], *sides))]


def _linear(given: Shape, o: Options) -> Made:
    return [(nn.Linear(given[-1], o["outputs"], bias=o.get("bias", True)), (o["outputs"],))]


def _upsample(given: Shape, o: Options) -> Made:
    sides = (side * o["factor"] for side in given[1:])
    return [(nn.Upsample(scale_factor=o["factor"], mode=o.get("mode", "nearest")), (given[0], *sides))]


def _gap(given: Shape, o: Options) -> Made:
    return [(nn.AdaptiveAvgPool2d(1), (given[0], 1, 1)), (nn.Flatten(), given[:1])]


def _batchnorm(given: Shape, o: Options) -> Made:
    return [(nn.BatchNorm2d(given[0]) if len(given) == 3 else nn.BatchNorm1d(given[-1]), given)]


def _each(makes: Callable[[Options], nn.Module]) -> Callable[[Shape, Options], Made]:
    """A layer that leaves the shape as it is, and needs to know nothing of it."""
    return lambda given, o: [(makes(o), given)]


_FILTERS = {"filters": _outputs, "kernel": _whole}
_STEP = {"stride": _whole, "padding": _from_zero}
_DEEP = {"dilation": _whole, "groups": _whole, "bias": _yes}

KINDS: Mapping[str, Kind] = {
    "conv": Kind(_conv, on="maps", takes=_FILTERS, options={**_STEP, **_DEEP}),
    "upconv": Kind(_upconv, on="maps", takes=_FILTERS, options=_STEP),
    "linear": Kind(_linear, on="rows", takes={"outputs": _outputs}, options={"bias": _yes}),
    "maxpool": Kind(_pool(nn.MaxPool2d, "Max"), on="maps", takes={"kernel": _whole}, options=_STEP),
    "avgpool": Kind(_pool(nn.AvgPool2d, "Avg"), on="maps", takes={"kernel": _whole}, options=_STEP),
    "upsample": Kind(_upsample, on="maps", takes={"factor": _whole}, options={"mode": _mode}),
    "gap": Kind(_gap, on="maps"),
    "flatten": Kind(lambda given, o: [(nn.Flatten(), (prod(given),))]),
    "batchnorm": Kind(_batchnorm),
    "layernorm": Kind(lambda given, o: [(_layernorm(given), given)]),
    "dropout": Kind(_each(lambda o: nn.Dropout(o["share"])), takes={"share": _share}),
    "relu": Kind(_each(lambda o: nn.ReLU())),
    "leakyrelu": Kind(_each(lambda o: nn.LeakyReLU(o.get("slope", 0.01))), options={"slope": _share}),
    "gelu": Kind(_each(lambda o: nn.GELU())),
    "tanh": Kind(_each(lambda o: nn.Tanh())),
    "sigmoid": Kind(_each(lambda o: nn.Sigmoid())),
}
"""Every layer by its name."""


@dataclass(frozen=True)
class Line:
    """A layer as it was written, printable; its name, and what was said of it."""

    text: str
    name: str
    options: Options


def parsed(text: str) -> Line:
    """What a line says. Raises UsageError for an unknown layer, and for a value that is missing, odd or too much.

    >>> parsed("conv 32 5 padding=2").options
    {'filters': 32, 'kernel': 5, 'padding': 2}
    """
    if len(text) > LONGEST:
        raise UsageError(f"A line has {len(text)} letters; a layer takes at most {LONGEST}.")
    name, *words = printable(text).split() or [""]
    if name not in KINDS:
        raise unknown("layer", name, KINDS)
    kind = KINDS[name]
    plain = [word for word in words if "=" not in word]
    named = [word.split("=", 1) for word in words if "=" in word]
    pairs = [*zip(kind.takes, plain, strict=False), *((key, value) for key, value in named)]
    readers = {**kind.takes, **kind.options}
    if len(plain) != len(kind.takes) or len(dict(pairs)) < len(pairs) or not dict(pairs).keys() <= readers.keys():
        raise UsageError(f"That is not how {name} is written.", f"It is: {kind.usage(name)}")
    return Line(" ".join([name, *words]), name, {key: _value(name, key, value, readers[key]) for key, value in pairs})


def _value(name: str, key: str, text: str, reader: Reader) -> Any:
    try:
        return reader(text)
    except (ValueError, KeyError):
        raise UsageError(f"{name}: {key} takes {reader.__doc__}. Received: '{text}'.") from None


@contextmanager
def at(where: str) -> Iterator[None]:
    """Say with an error inside where it is."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from error


def made(line: Line, given: Shape, classes: int) -> Made:
    """The modules of a line for what comes to it, maps (C H W) or a row (F). Raises UsageError when they cannot."""
    kind, sides = KINDS[line.name], " x ".join(map(str, given))
    if kind.on == "rows" and len(given) > 1:
        raise UsageError(
            f"'{line.text}' takes a row of numbers, and maps of {sides} come to it.", "Put flatten or gap before it."
        )
    if kind.on == "maps" and len(given) != 3:
        raise UsageError(
            f"'{line.text}' takes maps, and a row of {sides} numbers comes to it.", "Put it before flatten."
        )
    options = {key: classes if value == CLASSES else value for key, value in line.options.items()}
    return kind.makes(given, options)


def build_layers(lines: Sequence[str], channels: int, num_classes: int, size: int) -> nn.Sequential:
    """The network of these lines, (B C S S) -> (B K). Raises UsageError that names the line and the sizes so far."""
    shapes: list[Shape] = [(channels, size, size)]
    network = nn.Sequential()
    for number, text in enumerate(lines, 1):
        with at(f"model.layers, line {number}"), _so_far(shapes):
            line = parsed(text)
            for module, shape in made(line, shapes[-1], num_classes):
                network.append(module)
                shapes.append(_bounded_shape(line, shape))
    if shapes[-1] != (num_classes,):
        raise UsageError(
            f"model.layers ends with {_words(shapes[-1])} for {num_classes} classes.",
            f"End with `linear classes`{', and flatten or gap before it' * (len(shapes[-1]) > 1)}.",
        )
    return network


def _bounded_shape(line: Line, shape: Shape) -> Shape:
    if not 0 < prod(shape) <= NUMBERS:
        raise UsageError(f"'{line.text}' would give {_words(shape)} for one picture; at most {NUMBERS:,} are possible.")
    return shape


def _words(shape: Shape) -> str:
    return f"{' x '.join(map(str, shape))} numbers"


@contextmanager
def _so_far(shapes: list[Shape]) -> Iterator[None]:
    """Say with an error inside which sizes there were."""
    try:
        yield
    except (UsageError, RuntimeError) as error:  # torch says by itself that memory lacks
        told, hint = (error.message, error.hint) if isinstance(error, UsageError) else (str(error), "")
        sizes = " -> ".join("x".join(map(str, shape)) for shape in shapes)
        raise UsageError(told, f"{hint} The sizes so far: {sizes}.".strip()) from error
