"""What a layer does to shapes and what it costs, in formulas: numbers in, words out. No tensors."""

import re
from dataclasses import dataclass
from math import gcd, prod
from typing import Literal, NamedTuple

from tellapart.arith import convolved, pooled
from tellapart.errors import UsageError

Pair = tuple[int, int]
"""Height and width."""
Shape = tuple[int, ...]

TOP = "in + 2 x padding - dilation x (kernel - 1) - 1"
NAMES = r"\b(in|out|padding|dilation|kernel|stride|channels|height|width)\b"
AXES = ("height", "width")


class Formula(NamedTuple):
    """One line of arithmetic, as plain text and as LaTeX for a display."""

    plain: str
    latex: str


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling; each side as (height, width)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def along(self, axis: int) -> dict[str, int]:
        """Kernel, stride, padding and dilation along one axis."""
        return {name: pair[axis] for name, pair in vars(self).items()}

    def span(self, axis: int) -> int:
        """Pixels from the first to the last one under the window: dilation (kernel - 1) + 1."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def arguments(self, **usual: Pair) -> str:
        """The arguments of PyTorch that are not the usual ones."""
        rest = {"padding": (0, 0), "dilation": (1, 1), **usual}
        return "".join(f", {name}={_pair(pair)}" for name, pair in vars(self).items() if rest.get(name, pair) != pair)


@dataclass(frozen=True)
class Layer:
    """A layer's line of PyTorch, its shapes (B first), formulas and costs; `same_as` names an equal layer."""

    torch: str
    input: Shape
    output: Shape
    formulas: tuple[Formula, ...]
    weight: Shape = ()
    bias: Shape = ()
    multiply_adds: int = 0
    same_as: str = ""

    @property
    def parameters(self) -> Pair:
        """How many weights and how many biases."""
        return (prod(self.weight) if self.weight else 0, sum(self.bias))


def convolution(shape: Shape, window: Window, *, filters: int = 1, groups: int = 1, bias: bool = True) -> Layer:
    """nn.Conv2d on B C H W: each filter is as deep as the channels of its group, and has one bias or none.

    >>> convolution((64, 3, 32, 32), Window((5, 5), padding=(2, 2)), filters=32).output
    (64, 32, 32, 32)
    """
    batch, channels, *size = shape
    if channels % groups or filters % groups:
        fits = [str(n) for n in range(1, 1001) if gcd(channels, filters) % n == 0]
        message = f"{groups} groups do not divide {channels} channels and {filters} filters."
        raise UsageError(message, f"Groups that divide both: {', '.join(fits)}.")
    check_fit(size, window)
    sides = [convolved(size[axis], **window.along(axis)) for axis in (0, 1)]
    weight = (filters, channels // groups, *window.kernel)
    more = (f", groups={groups}" if groups > 1 else "") + ("" if bias else ", bias=False")
    torch = f"nn.Conv2d({channels}, {filters}, {_pair(window.kernel)}{window.arguments(stride=(1, 1))}{more})"
    formulas, biases = _formulas(size, window, sides, "floor"), (filters,) if bias else ()
    return Layer(torch, shape, (batch, filters, *sides), formulas, weight, biases, prod(weight) * prod(sides))


def pooling(shape: Shape, window: Window, kind: Literal["Max", "Avg"], *, ceil_mode: bool = False) -> Layer:
    """nn.MaxPool2d or nn.AvgPool2d on B C H W: it changes the sides only, and has no weights.

    >>> pooling((1, 3, 5, 5), Window((3, 3), (3, 3)), "Max", ceil_mode=True).output
    (1, 3, 2, 2)
    """
    if kind == "Avg" and window.dilation != (1, 1):
        message = f"Average pooling has no dilation; received {_pair(window.dilation)}."
        raise UsageError(message, "Leave the dilation out.")
    for name, padding, kernel in zip(AXES, window.padding, window.kernel, strict=True):
        if padding > kernel // 2:
            message = f"The padding of the {name}, {padding}, is more than half of the kernel, {kernel}."
            raise UsageError(message, f"Use a padding of at most {kernel // 2}, as PyTorch does for a pooling.")
    size = shape[2:]
    sides = [pooled(size[axis], **window.along(axis), ceil_mode=ceil_mode) for axis in (0, 1)]
    if min(sides) < 1:
        check_fit(size, window)
    torch = f"nn.{kind}Pool2d({_pair(window.kernel)}{window.arguments(stride=window.kernel)}"
    formulas = _formulas(size, window, sides, "ceil" if ceil_mode else "floor")
    return Layer(torch + (", ceil_mode=True)" if ceil_mode else ")"), shape, (*shape[:2], *sides), formulas)


def linear(shape: Shape, out: int, *, bias: bool = True) -> Layer:
    """nn.Linear on what is left when (B, n) or (B, C, H, W) is flattened: y = x W^T + b.

    >>> linear((1, 20, 12, 12), 100).parameters
    (288000, 100)
    """
    flat, more, less = flattened(shape), " + b" if bias else "", "" if bias else ", bias=False"
    features, formulas, same_as = flat.output[1], (Formula("y = x W^T" + more, "y = x W^{T}" + more),), ""
    if len(shape) == 4:
        formulas = (*flat.formulas, *formulas)
        same_as = f"nn.Conv2d({shape[1]}, {out}, {_pair(shape[2:])}{less}), filters as large as the picture"
    biases, torch = (out,) if bias else (), f"nn.Linear({features}, {out}{less})"
    return Layer(torch, flat.output, (shape[0], out), formulas, (out, features), biases, out * features, same_as)


def flattened(shape: Shape) -> Layer:
    """nn.Flatten on B C H W: all numbers of a picture in one row."""
    features = prod(shape[1:])
    formula = _formula(f"out = channels x height x width = {' x '.join(map(str, shape[1:]))} = {features}")
    return Layer("nn.Flatten()", shape, (shape[0], features), (formula,))


def same_padding(kernel: Pair, dilation: Pair) -> Pair:
    """The padding that keeps the size with a stride of 1: dilation (kernel - 1) / 2.

    Raises UsageError when that is no whole number.

    >>> same_padding((5, 7), (1, 1))
    (2, 3)
    """
    for name, k, d in zip(AXES, kernel, dilation, strict=True):
        total, less = d * (k - 1), d * (k - 1) // 2
        if total % 2:
            raise UsageError(
                f"No padding keeps the {name} with a kernel of {k}: {d} x ({k} - 1) = {total} would have to be shared "
                f"by two sides and is odd. Padding {less} gives one pixel less, {less + 1} one more.",
                f"Use a kernel of {k - 1} or {k + 1}, or a dilation of {d + 1}.",
            )
    return (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)


def same_formulas(kernel: Pair, dilation: Pair) -> tuple[Formula, ...]:
    """The padding that keeps the size, with its numbers: once when height and width have the same, else for each."""
    pairs = zip(kernel, dilation, same_padding(kernel, dilation), strict=True)
    return _by_axis([[f"padding = dilation x (kernel - 1) / 2 = {d} x ({k} - 1) / 2 = {p}"] for k, d, p in pairs])


def check_fit(size: list[int] | Shape, window: Window) -> None:
    """Refuse, with a UsageError, a window that is larger than the picture (H, W) with its padding."""
    for axis, name in enumerate(AXES):
        k, _, p, d = window.along(axis).values()
        padded, span = size[axis] + 2 * p, window.span(axis)
        if span > padded:
            spans = f"spans {d} x ({k} - 1) + 1 = {span} pixels" if d > 1 else f"is {k} pixels"
            has = f"{size[axis]} + 2 x {p} = {padded} with its padding" if p else f"{padded}"
            raise UsageError(
                f"The kernel does not fit: its {name} {spans}, and the picture has {has}.",
                f"Use a kernel of at most {(padded - 1) // d + 1}, or a {name} of at least {span - 2 * p}.",
            )


def _formulas(size: list[int] | Shape, window: Window, sides: list[int], rounding: str) -> tuple[Formula, ...]:
    """The formula, then its numbers."""
    found = [_numbers(size[axis], window, axis, sides[axis], rounding) for axis in (0, 1)]
    return (_formula(f"out = {rounding}(({TOP}) / stride) + 1"), *_by_axis(found))


def _numbers(size: int, window: Window, axis: int, side: int, rounding: str) -> list[str]:
    k, s, p, d = window.along(axis).values()
    reach = size + 2 * p - window.span(axis)
    whole = -(-reach // s) if rounding == "ceil" else reach // s
    exact = f" = {rounding}({reach / s:.6g}) + 1" if reach % s else ""
    top = f"{size} + 2 x {p} - {d} x ({k} - 1) - 1"
    lines = [f"out = {rounding}(({top}) / {s}) + 1 = {rounding}({reach} / {s}) + 1{exact} = {whole + 1}"]
    if whole + 1 != side:
        lines.append(f"a last window would begin in the padding and is left out: {whole + 1} - 1 = {side}")
    elif (s, d) == (1, 1):
        lines.append(f"with a stride of 1: {size} - {k} + 2 x {p} + 1 = {side}")
    return lines


def _by_axis(found: list[list[str]]) -> tuple[Formula, ...]:
    """The lines once when height and width have the same, else for each."""
    named = [f"{name}: {line}" for name, lines in zip(AXES, found, strict=True) for line in lines]
    return tuple(map(_formula, found[0] if found[0] == found[1] else named))


def _formula(plain: str) -> Formula:
    """The same in LaTeX: rounding as brackets, quotients as fractions, words upright."""
    said, colon, latex = plain.rpartition(": ")
    latex = re.sub(r"(floor|ceil)\(\(?([^/]*?)\)? / (\w+)\) ", r"\\left\\l\1 \\frac{\2}{\3} \\right\\r\1 ", latex)
    latex = re.sub(r"(floor|ceil)\(([-.\de+]+)\) ", r"\\l\1 \2 \\r\1 ", latex)
    latex = re.sub(NAMES, r"\\mathrm{\1}", latex).replace(" x ", r" \times ")
    return Formula(plain, (rf"\mbox{{{said}: }} " if colon else "") + latex)


def _pair(sides: Shape) -> str:
    return str(sides[0]) if sides[0] == sides[1] else str(sides)
