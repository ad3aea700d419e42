"""`tellapart shape`: sizes exactly those of PyTorch, refusals where PyTorch refuses, the worked examples, the pages."""

import itertools
import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import process, tellapart
from test_docs import blocks
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tellapart.errors import UsageError
from tellapart.models import sizes, worked
from tellapart.models.sizes import Layer, Pair, Window

ROOT = Path(__file__).parent.parent
SIDES = (1, 2, 5, 8)
PICTURE, KERNEL = np.array(worked.PICTURE), np.array(worked.KERNEL)


def shape(*words: str) -> str:
    """What `tellapart shape WORDS` prints."""
    done = tellapart(ROOT, "shape", *words)
    assert (done.code, done.err) == (0, "")
    return done.out


def answer(words: str) -> dict[str, Any]:
    return json.loads(shape(*words.split(), "--json"))


def refused(words: str) -> str:
    done = tellapart(ROOT, "shape", *words.split())
    assert (done.code, done.out) == (2, "")
    return " ".join(done.err.split())


def built(layer: Layer) -> Any:
    """The module that the line of PyTorch makes."""
    return eval(layer.torch, {"nn": nn})


# --- exact against torch ----------------------------------------------------------------------------------------------


def windows(kernels: tuple[int, ...]) -> list[tuple[Pair, Window]]:
    """Pictures and windows: height and width differ, so that many fit on one side only."""
    grid = itertools.product(SIDES, kernels, (1, 2, 3), (0, 1, 2), (1, 2, 3))
    return [
        (
            (side, SIDES[(n + k) % 4]),
            Window((k, kernels[(n + p) % len(kernels)]), (s, n % 3 + 1), (p, (p + n) % 3), (d, 1)),
        )
        for n, (side, k, s, p, d) in enumerate(grid)
    ]


def of_torch(work: Any) -> tuple[int, ...] | None:
    """The shape that torch gives, or None where it refuses."""
    try:
        return tuple(work().shape)
    except RuntimeError:
        return None


def ours(work: Any) -> tuple[int, ...] | None:
    try:
        return work().output
    except UsageError:
        return None


def test_every_convolution_has_the_size_that_torch_gives_or_is_refused_by_both() -> None:
    """S121, S123, S130: each option, each side; about half of the grid does not fit."""
    found = []
    for size, w in windows((1, 2, 3, 5)):
        x, weight = torch.zeros(1, 1, *size), torch.zeros(2, 1, *w.kernel)
        theirs = of_torch(lambda: F.conv2d(x, weight, None, w.stride, w.padding, w.dilation))  # noqa: B023
        assert ours(lambda: sizes.convolution((1, 1, *size), w, filters=2)) == theirs, (size, w)  # noqa: B023
        found.append(theirs)
    assert len(found) > 400
    assert 100 < found.count(None) < 300


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("kind", ["Max", "Avg"])
def test_every_pooling_has_the_size_that_torch_gives_or_is_refused_by_both(kind: Any, ceil: bool) -> None:
    """S145, S146, S148: rounding up and down, dilation, padding of more than half of the kernel."""
    found = []
    for size, w in windows((1, 2, 3, 4)):
        x, where = torch.zeros(1, 1, *size), (w.kernel, w.stride, w.padding)
        if kind == "Max":
            theirs = of_torch(lambda: F.max_pool2d(x, *where, w.dilation, ceil))  # noqa: B023
        else:
            theirs = of_torch(lambda: F.avg_pool2d(x, *where, ceil)) if w.dilation == (1, 1) else None  # noqa: B023
        assert ours(lambda: sizes.pooling((1, 1, *size), w, kind, ceil_mode=ceil)) == theirs, (size, w)  # noqa: B023
        found.append(theirs)
    assert len(found) > 400
    assert 60 < found.count(None) < 390


def test_the_line_of_pytorch_makes_a_layer_of_these_shapes_weights_and_work() -> None:
    """S131, S143, S149, S163: also groups, biases and the names of arguments; FLOPs by torch's own counter."""
    grid = itertools.product((1, 4, 6), (1, 4, 6), (1, 2, 4), (True, False))
    convolutions, refusals = [], 0
    for n, (channels, filters, groups, bias) in enumerate(grid):
        window = Window((3, 2 + n % 2), (1 + n % 2, 1), (n % 3, 1), (1, 1 + n % 2))
        try:
            options = {"filters": filters, "groups": groups, "bias": bias}
            convolutions.append(sizes.convolution((2, channels, 9, 8), window, **options))
        except UsageError:
            with pytest.raises(ValueError, match="must be divisible by groups"):
                nn.Conv2d(channels, filters, 3, groups=groups)
            refusals += 1
    assert 0 < refusals < len(convolutions)
    poolings = [
        sizes.pooling((2, 3, 9, 8), Window((3, 2), (2, 2), (1, 0)), kind, ceil_mode=True) for kind in ("Max", "Avg")
    ]
    linears = [sizes.linear((2, 4, 3, 5), 7), sizes.linear((3, 5), 10, bias=False), sizes.flattened((2, 64, 4, 4))]
    for layer in (*convolutions, *poolings, *linears):
        module, counter = built(layer), FlopCounterMode(display=False)
        with counter, torch.no_grad():
            assert tuple(module(torch.zeros(layer.input)).shape) == layer.output, layer
        given = {name: tuple(p.shape) for name, p in module.named_parameters()}
        assert given == {name: at for name, at in (("weight", layer.weight), ("bias", layer.bias)) if at}
        assert sum(layer.parameters) == sum(p.numel() for p in module.parameters())
        assert counter.get_total_flops() == 2 * layer.multiply_adds * layer.input[0], layer
    assert poolings[0].output[1] == poolings[0].input[1] == 3


def test_every_step_of_a_formula_equals_the_next() -> None:
    """What is printed is arithmetic: each side of each = is computed here."""
    seen, names = 0, {"floor": math.floor, "ceil": math.ceil}
    for size, w in windows((1, 2, 3, 4)):
        for ceil in (True, False):
            try:
                layer = sizes.pooling((1, 1, *size), w, "Max", ceil_mode=ceil)
            except UsageError:
                continue
            ends = set()
            for line in layer.formulas[1:]:
                *steps, last = line.plain.rpartition(": ")[2].removeprefix("out = ").split(" = ")
                assert {eval(step.replace(" x ", " * "), names) for step in steps} == {int(last)}, line
                ends.add(int(last))
            assert ends >= set(layer.output[2:])
            seen += 1
    assert seen > 200


def test_a_padding_that_keeps_the_size_does_and_where_none_is_said_none_does() -> None:
    """S125: 2 for 5, 1 for 3, 3 for 7."""
    assert [sizes.same_padding((k, k), (1, 1))[0] for k in (3, 5, 7)] == [1, 2, 3]
    for k, d in itertools.product(range(1, 9), range(1, 5)):
        x, weight = torch.zeros(1, 1, 30, 30), torch.zeros(1, 1, k, k)
        kept = [p for p in range(20) if of_torch(lambda: F.conv2d(x, weight, None, 1, p, d)) == (1, 1, 30, 30)]  # noqa: B023
        try:
            assert [sizes.same_padding((k, k), (d, d))[0]] == kept
        except UsageError:
            assert kept == []


# --- the worked examples ----------------------------------------------------------------------------------------------


def naive(picture: np.ndarray, kernel: np.ndarray, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> list:
    """A second opinion: loops over a padded array."""
    padded = np.pad(picture, padding)
    span = dilation * (len(kernel) - 1) + 1
    starts = range(0, len(padded) - span + 1, stride)
    return [
        [int((padded[y : y + span : dilation, x : x + span : dilation] * kernel).sum()) for x in starts] for y in starts
    ]


def values(places: list[dict]) -> list[int]:
    return [place["value"] for place in places]


def test_the_example_of_the_notes_with_its_nine_sums() -> None:
    """S120, S139, M116: each sum as it is written down is what it says, and the kernel is not turned round."""
    out = shape("conv", "--example")
    assert "result\n  10 12 12\n  18 16 16\n  13  9  3\n" in out
    traced = re.findall(r"^  row (\d), column (\d): (.*) = (\d+)$", out, re.M)
    assert [int(total) for *_, total in traced] == [10, 12, 12, 18, 16, 16, 13, 9, 3]
    for row, column, work, total in traced:
        products = [(int(p), int(k)) for p, k in re.findall(r"(\d)x(\d)", work)]
        patch = PICTURE[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2]
        assert [p for p, _ in products] == patch.flatten().tolist()
        assert [k for _, k in products] == KERNEL.flatten().tolist()
        assert sum(p * k for p, k in products) == int(total)


@pytest.mark.parametrize(
    ("words", "how"),
    [
        ("", {}),
        ("--stride 2", {"stride": 2}),
        ("--padding 1", {"padding": 1}),
        ("--stride 2 --padding 2", {"stride": 2, "padding": 2}),
        ("--dilation 2", {"dilation": 2}),
        ("--dilation 3 --padding 2", {"dilation": 3, "padding": 2}),
    ],
)
def test_the_example_is_right_for_every_stride_padding_and_dilation(words: str, how: dict[str, Any]) -> None:
    """S127, S130: against loops in NumPy and against torch."""
    found = answer(f"conv --example {words}")["result"]
    picture, kernel = torch.from_numpy(PICTURE)[None, None], torch.from_numpy(KERNEL)[None, None]
    assert found == naive(PICTURE, KERNEL, **how) == F.conv2d(picture, kernel, **how)[0, 0].tolist()
    assert found == {"--stride 2": [[10, 12], [13, 3]]}.get(words, found)
    assert words != "--padding 1" or found[0] == [1, 3, 4, 10, 8]


def test_three_channels_are_three_sums_and_one_bias() -> None:
    """S133, S134, M091, M104: the sums of the channels and a bias are what one filter of nn.Conv2d gives."""
    found = answer("conv --example --channels 3")
    pictures = torch.tensor([found[f"picture_of_channel_{n}"] for n in (1, 2, 3)])
    kernels = torch.tensor([found[f"kernel_of_channel_{n}"] for n in (1, 2, 3)])
    layer = nn.Conv2d(3, 1, 3)
    layer.load_state_dict({"weight": kernels[None].float(), "bias": torch.tensor([1.0])})
    with torch.no_grad():
        assert layer(pictures[None].float())[0, 0].tolist() == found["result"]
    each = np.array([values(found[f"places_of_channel_{n}"]) for n in (1, 2, 3)])
    assert (each.sum(axis=0) + 1).tolist() == values(found["sums_of_the_channels_and_a_bias_of_1"])
    assert each[0].tolist() == values(answer("conv --example")["places"])


def test_how_often_each_pixel_is_used_is_the_gradient_of_ones() -> None:
    """S129: a corner once and the centre nine times without padding, a corner four times with a padding of 1."""
    for stride, padding in itertools.product((1, 2), (1, 2)):
        found = answer(f"conv --example --stride {stride} --padding {padding}")
        for p, key in ((0, "without_padding"), (padding, f"with_a_padding_of_{padding}")):
            x = torch.zeros(1, 1, 5, 5, requires_grad=True)
            F.conv2d(x, torch.ones(1, 1, 3, 3), stride=stride, padding=p).sum().backward()
            assert x.grad is not None
            counts = found[f"how_often_each_pixel_is_used_{key}"]
            assert counts == x.grad[0, 0].int().tolist()
            if (stride, padding) == (1, 1):
                assert (counts[0][0], counts[2][2]) == ((1, 9), (4, 9))[p]
    assert "without_padding" not in str(answer("conv --example --dilation 3 --padding 3").keys())


@pytest.mark.parametrize("words", ["", "--ceil", "--kernel 2", "--kernel 2 --padding 1 --ceil", "--stride 2 --ceil"])
def test_the_pooled_example_is_what_torch_pools(words: str) -> None:
    """S146, S148: [[2]] or [[2, 3], [5, 1]] by the rounding; means count the zeros of the padding."""
    flags = dict(re.findall(r"--(kernel|padding|stride) (\d)", words))
    where = (
        int(flags.get("kernel", 3)),
        int(flags.get("stride", flags.get("kernel", 3))),
        int(flags.get("padding", 0)),
    )
    x, ceil = torch.from_numpy(PICTURE)[None, None].float(), "--ceil" in words
    largest, mean = (answer(f"pool --example {words} {more}")["result"] for more in ("", "--average"))
    assert largest == F.max_pool2d(x, *where, ceil_mode=ceil)[0, 0].tolist()
    np.testing.assert_allclose(mean, F.avg_pool2d(x, *where, ceil_mode=ceil)[0, 0], rtol=1e-6)
    assert largest == {"": [[2]], "--ceil": [[2, 3], [5, 1]]}.get(words, largest)


def test_every_window_on_the_picture_gives_what_torch_gives() -> None:
    """Height and width apart: convolutions, maxima and means of all windows that fit, rounding up and down."""
    x, seen = torch.from_numpy(PICTURE)[None, None].float(), 0
    for _, w in windows((1, 2, 3, 4)):
        weights = torch.arange(1.0, w.kernel[0] * w.kernel[1] + 1).reshape(1, 1, *w.kernel)
        where = (w.kernel, w.stride, w.padding)
        for ceil in (True, False):
            try:
                result = sizes.pooling((1, 1, 5, 5), w, "Max", ceil_mode=ceil).output[2:]
                found = [worked.largest_places(worked.PICTURE, w, result)]
            except UsageError:
                continue
            expected = [F.max_pool2d(x, *where, w.dilation, ceil)]
            if w.dilation == (1, 1):
                found.append(worked.mean_places(worked.PICTURE, w, result))
                expected.append(F.avg_pool2d(x, *where, ceil))
            if not ceil:
                kernel = weights[0, 0].int().tolist()
                found.append(worked.convolved_places(worked.PICTURE, kernel, w, result))
                expected.append(F.conv2d(x, weights, None, w.stride, w.padding, w.dilation))
            for places, right in zip(found, expected, strict=True):
                np.testing.assert_allclose([place.value for place in places], right.flatten(), rtol=1e-5)
            seen += 1
    assert seen > 300


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_calculator_says_the_numbers_of_the_notes() -> None:
    """S122, S124, S132, S143, S147, S149, S163, S165, S166, M095, M111."""
    same = shape("conv", "--in", "32", "--kernel", "5", "--padding", "2", "--channels", "3", "--filters", "32")
    assert "32 - 5 + 2 x 2 + 1 = 32\n" in same
    assert "weight         (32, 3, 5, 5)\n" in same
    six = answer("conv --in 32 --kernel 3 --channels 3 --filters 6 --batch 64")
    assert (six["input"], six["output"]) == ([64, 3, 32, 32], [64, 6, 30, 30])
    ten = answer("conv --in 32 --kernel 5 --channels 3 --filters 10")
    assert (ten["weights"], ten["biases"], ten["torch"]) == (750, 10, "nn.Conv2d(3, 10, 5)")
    pool = shape("pool", "--in", "64", "--kernel", "2", "--channels", "3")
    assert "output         (1, 3, 32, 32)\n" in pool
    assert "values         12,288 become 3,072 a picture (x 0.25)\n" in pool
    assert "parameters     weights 0 + biases 0 = 0\n" in pool
    head = answer("linear --in 20x12x12 --out 100")
    assert (head["weights"], head["weight"], head["same_as"][:22]) == (288_000, [100, 2880], "nn.Conv2d(20, 100, 12)")
    assert answer("conv --in 12 --kernel 12 --channels 20 --filters 100")["weights"] == 288_000
    assert answer("linear --in 5 --out 10 --batch 3")["output"] == [3, 10]
    assert "out = channels x height x width = 64 x 4 x 4 = 1024\n" in shape("flatten", "--in", "64x4x4")
    assert answer("conv --in 8 --kernel 3 --channels 4 --filters 4 --groups 2")["weight"] == [4, 2, 3, 3]
    assert answer("conv --in 7 --kernel 3 --dilation 2")["output"][2:] == [3, 3]


def test_a_linear_layer_is_a_convolution_as_large_as_the_map() -> None:
    """S164: with the same numbers, both give the same."""
    layer = sizes.linear((2, 4, 6, 5), 7)
    line, note = layer.same_as.split("), ")
    full, head = eval(f"{line})", {"nn": nn}), built(layer)
    full.load_state_dict({"weight": head.weight.reshape(7, 4, 6, 5), "bias": head.bias})
    maps = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(full(maps)[:, :, 0, 0], head(maps.flatten(1)), rtol=1e-4, atol=1e-5)
    assert note == "filters as large as the picture"


def test_rounding_is_shown_and_height_and_width_apart_where_they_differ() -> None:
    """S123: a fraction is rounded down, or up; a window that would begin in the padding is left out."""
    out = shape("conv", "--in", "32x33", "--kernel", "3", "--stride", "2")
    assert (
        "height: out = floor((32 + 2 x 0 - 1 x (3 - 1) - 1) / 2) + 1 = floor(29 / 2) + 1 = floor(14.5) + 1 = 15" in out
    )
    assert "width: out = floor((33 + 2 x 0 - 1 x (3 - 1) - 1) / 2) + 1 = floor(30 / 2) + 1 = 16" in out
    up = shape("pool", "--in", "5", "--kernel", "3", "--ceil")
    assert "ceil(2 / 3) + 1 = ceil(0.666667) + 1 = 2" in up
    left = shape("pool", "--in", "5", "--kernel", "2", "--padding", "1", "--ceil")
    assert "a last window would begin in the padding and is left out: 4 - 1 = 3" in left


def test_the_padding_flag_takes_one_number_or_two() -> None:
    padded = answer("same --kernel 3x7 --dilation 2x1")
    assert padded["padding"] == [2, 3]
    assert padded["formulas"][0] == "height: padding = dilation x (kernel - 1) / 2 = 2 x (3 - 1) / 2 = 2"
    assert answer("conv --in 9×7 --kernel 3x7 --padding 2x3 --dilation 2x1")["output"][2:] == [9, 7]


EVERY = [
    "conv --in 32x33 --kernel 3x5 --stride 2",
    "pool --in 5 --kernel 2 --padding 1 --ceil",
    "same --kernel 3x5",
    "linear --in 64x4x4 --out 10",
    "flatten --in 7",
    "conv --example --channels 2",
    "pool --example --average",
]


CLOSES = {"}": "{", r"\]": r"\[", r"\rfloor": r"\lfloor", r"\rceil": r"\lceil", r"\right]": r"\left["}
CLOSES |= {rf"\right{end}": rf"\left{begin}" for end, begin in ((r"\rfloor", r"\lfloor"), (r"\rceil", r"\lceil"))}
CLOSES |= {rf"\end{{{name}}}": rf"\begin{{{name}}}" for name in ("tabular", "array", "itemize")}


def left_open(latex: str) -> list[str]:
    """Walk through what opens and closes; what is open at the end, or the first that closes what was not open."""
    stack: list[str] = []
    for mark in re.findall(
        r"\\(?:left|right)(?:\\\w+|.)|\\(?:begin|end)\{\w+\}|\\[lr](?:floor|ceil)|\\[][]|[{}$]", latex
    ):
        if mark in CLOSES or (mark == "$" and "$" in stack):
            if not stack or stack.pop() != CLOSES.get(mark, "$"):
                return [mark]
        else:
            stack.append(mark)
    return stack


@pytest.mark.parametrize("words", EVERY)
def test_latex_is_well_formed(words: str) -> None:
    """S126: braces, brackets and environments are closed in order; no character that needs a backslash."""
    out = shape(*words.split(), "--latex")
    assert left_open(out) == []
    assert re.findall(r"(?<!\\)[#%_~]", out) == []
    assert ("conv" in words or "pool" in words) == ("\\lfloor" in out or "\\lceil" in out)
    for planted in (out.replace("}", "", 1), out.replace("\\right", "", 1), out.replace("\\]", "", 1)):
        assert planted == out or left_open(planted)


def test_the_latex_of_the_formula_is_this() -> None:
    words = "conv --in 32 --kernel 3 --stride 2 --latex"
    (line,) = re.findall(r"\\\[ (.*32 .*14\.5.*) \\\]", shape(*words.split()))
    assert line == (
        r"\mathrm{out} = \left\lfloor \frac{32 + 2 \times 0 - 1 \times (3 - 1) - 1}{2} \right\rfloor + 1"
        r" = \left\lfloor \frac{29}{2} \right\rfloor + 1 = \lfloor 14.5 \rfloor + 1 = 15"
    )


@pytest.mark.parametrize("words", EVERY)
def test_markdown_has_tables_and_formulas(words: str) -> None:
    out = shape(*words.split(), "--markdown")
    assert out.count("$$") % 2 == 0
    assert ("| what | value |\n|---|---|\n| input | " in out) == ("example" not in words and "same" not in words)
    assert "\n- row 1, column 1: $" in out or "example" not in words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("conv", "`shape conv` needs --in, or --example. hint: For example: tellapart shape conv --in 32 --kernel 3"),
        ("pool --in 32", "`shape pool` needs --kernel, or --example."),
        ("same", "`shape same` needs --kernel. hint: For example: tellapart shape same --kernel 5"),
        (
            "conv --in 32by4 --kernel 3",
            "--in '32by4' is not a size: expected a whole number from 1 to 1,000,000, or 2 with an x between them.",
        ),
        ("conv --in 0 --kernel 3", "--in '0' is not a size"),
        ("conv --in ٣ --kernel 3", "--in '٣' is not a size"),
        (f"conv --in {'9' * 5000} --kernel 3", "is not a size"),
        ("conv --in 8 --kernel 3 --stride 0", "hint: For example: --stride 3, or --stride 3x5 for height and width."),
        ("conv --in 8 --kernel 3 --padding same", "--padding 2; `tellapart shape same --kernel 5` says what keeps"),
        (
            "conv --in 3x32x32 --kernel 3",
            "with an x between them. hint: For example: --in 32, or --in 32x48 for height and width; channels",
        ),
        (
            "linear --in 3x4 --out 3",
            "--in '3x4' is not a size: expected a whole number from 1 to 1,000,000, or 3 with an x",
        ),
        (
            "conv --in 4 --kernel 5",
            "The kernel does not fit: its height is 5 pixels, and the picture has 4. hint: Use a",
        ),
        ("conv --in 8x4 --kernel 3 --dilation 3 --padding 1", "its width spans 3 x (3 - 1) + 1 = 7 pixels, and the"),
        ("conv --in 8x4 --kernel 3 --dilation 3 --padding 1", "the picture has 4 + 2 x 1 = 6 with its padding."),
        ("conv --in 8x4 --kernel 3 --dilation 3 --padding 1", "Use a kernel of at most 2, or a width of at least 5."),
        (
            "conv --in 9 --kernel 3 --channels 12 --filters 18 --groups 4",
            "4 groups do not divide 12 channels and 18 filters. hint: Groups that divide both: 1, 2, 3, 6.",
        ),
        ("pool --in 8 --kernel 3 --padding 0x2", "The padding of the width, 2, is more than half of the kernel, 3."),
        ("pool --in 8 --kernel 3 --average --dilation 2", "Average pooling has no dilation; received 2."),
        ("same --kernel 4", "1 x (4 - 1) = 3 would have to be shared by two sides and is odd. Padding 1 gives one"),
        ("same --kernel 3x4", "No padding keeps the width with a kernel of 4"),
        ("same --kernel 4", "Use a kernel of 3 or 5, or a dilation of 2."),
        ("conv --example --kernel 3", "--kernel does not go with it. hint: It takes --channels, --stride, --padding"),
        ("pool --example --batch 2", "--example brings its own picture and weights; --batch does not go with it."),
        ("conv --example --channels 4", "The example has up to 3 channels; received --channels 4."),
        (
            "pool --example --kernel 2 --dilation 6 --padding 1",
            "row 1, column 1 holds padding alone: nothing is largest.",
        ),
        ("same --kernel 3 --latex --json", "--latex and --json are two forms of one answer. hint: Choose one of them."),
        ("cnv --in 3", "There is no verb 'cnv'. Did you mean 'conv'?"),
    ],
)
def test_what_does_not_fit_is_said_with_its_numbers_and_what_would(words: str, said: str) -> None:
    assert said in refused(words)


@pytest.mark.parametrize(
    "words",
    [
        "conv --in 5 --kernel 5",
        "conv --in 4 --kernel 5 --padding 1",
        "conv --in 8x5 --kernel 3x2 --dilation 3 --padding 1",
        "conv --in 9 --kernel 3 --channels 12 --filters 18 --groups 6",
        "pool --in 8 --kernel 3 --padding 0x1",
        "same --kernel 5 --latex",
        "same --kernel 4 --dilation 2",
    ],
)
def test_what_the_messages_recommend_works(words: str) -> None:
    shape(*words.split())


def test_the_calculator_loads_nothing_heavy() -> None:
    """The words are a calculator's: not even NumPy is needed."""
    command, environment = process("shape", "conv", "--example", "--json")
    work = f"import sys; sys.argv[1:] = {command[3:]!r}; from tellapart.cli import main\ntry: main()\nfinally: "
    work += "print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", work], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert json.loads(done.stdout)["result"][0] == [10, 12, 12]


# --- the pages --------------------------------------------------------------------------------------------------------


def test_the_page_prints_what_the_commands_print() -> None:
    """S120, S126, S129, S146: docs/shapes.md; a block with no output is run by test_docs.py."""
    compared = 0
    for language in ("console", "text"):
        for block in blocks(ROOT / "docs" / "shapes.md", language):
            command, _, printed = block.partition("\n")
            if command.startswith("$ tellapart") and printed and not printed.startswith("$"):
                done = tellapart(ROOT, *shlex.split(command)[2:])
                assert done.out + done.err == printed, command
                compared += 1
    assert compared > 12
    summed = blocks(ROOT / "docs" / "shapes.md", "text")[-1]
    assert summed in shape("conv", "--example", "--channels", "3", "--stride", "2")


def says(page: str, *phrases: str) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_the_questions_on_convolutions_are_answered() -> None:
    """S132, S135, S136, S138, S140, S171, Q1, Q2, Q3, Q22, Q23; the examples are run by test_requirements_data.py."""
    says("faq.md", "**Feature map**: the result of one filter", "The depth of a layer's result is the number of its")
    says(
        "faq.md", "https://github.com/vdumoulin/conv_arithmetic", "`layer.weight` is the same", "is the kernels of all"
    )
    says("faq.md", "`in_channels` is how many channels each filter sees", "`out_channels` is the number of filters")
    says("faq.md", "By three filters that are six deep", "look at six maps as six grey pictures")
    says("faq.md", "Under one kernel they can. Under several they rarely do", "The first ones are drawn at random")
    says("shapes.md", "A kernel is as deep as its input", "a single number for the filter, not a matrix")
    says("shapes.md", "Mathematics calls this a cross-correlation", "the padding is added, not subtracted")


def test_the_questions_on_pooling_and_linear_layers_are_answered() -> None:
    """S147, S148, S156, S163, Q4, Q5, Q11, Q18."""
    says(
        "faq.md", "It has no weights and is in no state dict. Yet it changes the model", "Down, unless `ceil_mode=True`"
    )
    says(
        "faq.md",
        "With `inplace=False`, the default, the input stays as it was",
        "They come last and turn features into",
    )
    says("shapes.md", "A picture of 64 x 64 becomes one of 32 x 32 with a quarter of the values")
    says("shapes.md", "It changes height and width only: the channels stay, and there is nothing to learn")
    says("shapes.md", "has 7 x 7 x 64 weights for each of its filters")
