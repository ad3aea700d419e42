"""`tellapart shape`."""

from collections.abc import Callable
from typing import Any

import click

from tellapart.cli.shape_words import Part, facts, formulas, matrix, say, styled, trace
from tellapart.cli.verbs import Verbs
from tellapart.errors import UsageError
from tellapart.models import sizes, worked
from tellapart.models.sizes import Pair, Shape, Window

MOST = 1_000_000
SIDES = {
    "in": (None, "Height and width of the input."),
    "kernel": (None, "Height and width of the window."),
    "stride": (None, "How far the window moves; 1 when absent, in a pooling as far as it is large."),
    "padding": ("0", "Pixels that are put around the picture on each side."),
    "dilation": ("1", "Distance of the pixels under the window."),
}
HINTS = {
    "shape": "For example: --in 1024, or --in 64x4x4 for channels, height and width.",
    "in": "For example: --in 32, or --in 32x48 for height and width; channels are given with --channels.",
    "padding": "For example: --padding 2; `tellapart shape same --kernel 5` says what keeps the size.",
}
BIAS = 1
"""The bias of the worked filter that looks at several channels."""


def numbers_of(ctx: click.Context, param: click.Parameter, value: str | None) -> Shape | None:
    """One number for both sides or height x width; of a whole shape, features or channels x height x width."""
    if value is None:
        return None
    least, more = 0 if param.name == "padding" else 1, 3 if param.name == "shape" else 2
    words, flag = value.lower().replace("×", "x").split("x"), param.opts[0]
    whole = all(word.isascii() and word.isdecimal() and len(word) < 8 and least <= int(word) <= MOST for word in words)
    if not whole or len(words) not in (1, more):
        said = f"expected a whole number from {least} to {MOST:,}, or {more} with an x between them."
        hint = f"For example: {flag} 3, or {flag} 3x5 for height and width."
        raise UsageError(f"{flag} {value!r} is not a size: {said}", HINTS.get(param.name or "", hint))
    numbers = tuple(map(int, words))
    return numbers if param.name == "shape" or len(numbers) == 2 else (numbers[0], numbers[0])


def sides(*names: str) -> Callable[[Callable], Callable]:
    """Add the flags of SIDES that are named; each takes one number or HxW."""

    def add(function: Callable) -> Callable:
        for name in reversed(names):
            default, text = SIDES[name]
            shown = {"metavar": "N|HxW", "default": default, "show_default": True}
            function = click.option(f"--{name}", name, help=text, callback=numbers_of, **shown)(function)
        return function

    return add


def count(flag: str, text: str) -> Callable[[Callable], Callable]:
    """A flag that takes a number of things, one when absent."""
    return click.option(flag, default=1, show_default=True, type=click.IntRange(1, MOST), help=text)


batch_option = count("--batch", "Pictures in a batch.")
channels_option = count("--channels", "Channels of the input.")
bias_option = click.option("--bias/--no-bias", default=True, show_default=True, help="Add a number to each output.")
example_option = click.option("--example", is_flag=True, help="Work the 5 x 5 picture of the notes, place by place.")
shape_option = click.option(
    "--in", "shape", metavar="N|CxHxW", required=True, help="Features, or a map of channels.", callback=numbers_of
)


@click.group("shape", cls=Verbs)
def command() -> None:
    """The size after a layer, its weights and its work, with the formula; and worked examples."""


@command.command(
    "conv", epilog="Example: tellapart shape conv --in 32 --kernel 5 --padding 2 --channels 3 --filters 32"
)
@sides(*SIDES)
@channels_option
@count("--filters", "Filters: the channels of the output.")
@count("--groups", "Parts that the channels are divided into.")
@bias_option
@batch_option
@example_option
@styled
def conv(filters: int, groups: int, bias: bool, example: bool, **asked: Any) -> None:
    """A convolution: nn.Conv2d."""
    if example:
        _only("channels", "stride", "padding", "dilation")
        return say(*worked_convolution(*_asked({**asked, "in": (5, 5), "kernel": (3, 3)})))
    shape, window = _asked(asked)
    layer = sizes.convolution(shape, window, filters=filters, groups=groups, bias=bias)
    say(formulas(layer.formulas), facts(layer))


@command.command("pool", epilog="Examples: tellapart shape pool --in 32 --kernel 2 · tellapart shape pool --example")
@sides(*SIDES)
@click.option("--ceil", is_flag=True, help="Round up: keep a last window that is only partly filled.")
@click.option("--average", is_flag=True, help="Take the mean under the window, not the largest.")
@channels_option
@batch_option
@example_option
@styled
def pool(ceil: bool, average: bool, example: bool, **asked: Any) -> None:
    """A pooling: nn.MaxPool2d or nn.AvgPool2d."""
    if example:
        _only("kernel", "stride", "padding", "dilation", "ceil", "average")
        asked |= {"in": (5, 5), "kernel": asked["kernel"] or (3, 3)}
    shape, window = _asked(asked)
    layer = sizes.pooling(shape, window, "Avg" if average else "Max", ceil_mode=ceil)
    if not example:
        return say(formulas(layer.formulas), facts(layer))
    places = (worked.mean_places if average else worked.largest_places)(worked.PICTURE, window, layer.output[2:])
    say(matrix("picture", worked.PICTURE), trace("places", places), _result(places), formulas(layer.formulas))


@command.command("same", epilog="Example: tellapart shape same --kernel 5")
@sides("kernel", "dilation")
@styled
def same(kernel: Pair | None, dilation: Pair) -> None:
    """The padding that keeps the size, with a stride of 1."""
    if kernel is None:
        raise UsageError("`shape same` needs --kernel.", "For example: tellapart shape same --kernel 5")
    part = formulas(sizes.same_formulas(kernel, dilation))
    part.json["padding"] = sizes.same_padding(kernel, dilation)
    say(part)


@command.command("linear", epilog="Example: tellapart shape linear --in 20x12x12 --out 100")
@shape_option
@click.option("--out", required=True, type=click.IntRange(1, MOST), help="Features of the output.")
@bias_option
@batch_option
@styled
def linear(shape: Shape, out: int, bias: bool, batch: int) -> None:
    """A fully connected layer: nn.Linear, after flattening."""
    layer = sizes.linear((batch, *shape), out, bias=bias)
    say(formulas(layer.formulas), facts(layer))


@command.command("flatten", epilog="Example: tellapart shape flatten --in 64x4x4")
@shape_option
@batch_option
@styled
def flatten(shape: Shape, batch: int) -> None:
    """All numbers of a picture in one row: nn.Flatten, and the inputs of the linear layer after it."""
    layer = sizes.flattened((batch, *shape))
    say(formulas(layer.formulas), facts(layer))


def worked_convolution(shape: Shape, window: Window) -> list[Part]:
    """The example of the notes: what is computed at each place, and how often each pixel takes part."""
    channels = shape[1]
    if channels > 3:
        raise UsageError(f"The example has up to 3 channels; received --channels {channels}.", "Use 1, 2 or 3.")
    layer, parts, sums = sizes.convolution(shape, window), [], []
    pictures, kernels = worked.planes(worked.PICTURE, channels), worked.planes(worked.KERNEL, channels)
    for n, (picture, kernel) in enumerate(zip(pictures, kernels, strict=True), 1):
        of = f" of channel {n}" if channels > 1 else ""
        sums.append(worked.convolved_places(picture, kernel, window, layer.output[2:]))
        parts += [matrix("picture" + of, picture), matrix("kernel" + of, kernel), trace("places" + of, sums[-1])]
    places = sums[0] if channels == 1 else worked.summed_places(sums, BIAS)
    if channels > 1:
        parts.append(trace(f"sums of the channels, and a bias of {BIAS}", places))
    return [*parts, _result(places), formulas(layer.formulas), *_uses(window)]


def _result(places: list[worked.Place]) -> Part:
    columns = places[-1].column + 1
    values = [place.value for place in places]
    return matrix("result", [values[n : n + columns] for n in range(0, len(values), columns)])


def _uses(window: Window) -> list[Part]:
    """How often each pixel takes part: without padding if that fits, and with what was asked for or keeps the size."""
    padding = window.padding if any(window.padding) else sizes.same_padding(window.kernel, window.dilation)
    parts = []
    for p in ((0, 0), padding):
        padded = Window(window.kernel, window.stride, p, window.dilation)
        if all(padded.span(axis) <= 5 + 2 * p[axis] for axis in (0, 1)):
            result = sizes.convolution((1, 1, 5, 5), padded).output[2:]
            words = f"with a padding of {' x '.join(map(str, dict.fromkeys(p)))}" if any(p) else "without padding"
            parts.append(matrix(f"how often each pixel is used {words}", worked.uses((5, 5), padded, result)))
    return parts


def _asked(asked: dict[str, Any]) -> tuple[Shape, Window]:
    """B C H W and the window; or what is missing of the two sizes that have no default."""
    verb = click.get_current_context().command.name
    for name in ("in", "kernel"):
        if asked[name] is None:
            example = f"For example: tellapart shape {verb} --in 32 --kernel 3"
            raise UsageError(f"`shape {verb}` needs --{name}, or --example.", example)
    stride = asked["stride"] or (asked["kernel"] if verb == "pool" else (1, 1))
    window = Window(asked["kernel"], stride, asked["padding"], asked["dilation"])
    return (asked["batch"], asked["channels"], *asked["in"]), window


def _only(*allowed: str) -> None:
    """Refuse flags that the worked example cannot honour."""
    ctx = click.get_current_context()
    for name in sorted(set(ctx.params) - {"example", *allowed}):
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            said = f"--example brings its own picture and weights; --{name} does not go with it."
            raise UsageError(said, f"It takes --{', --'.join(allowed)}.")
