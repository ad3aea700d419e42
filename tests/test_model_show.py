"""`tellapart model show` and `model check`: sums, receptive fields, what is said of a mismatch, and the diagram."""

import doctest
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from commands import tellapart, train
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from tellapart.errors import UsageError
from tellapart.figures.boxes import boxes_of
from tellapart.figures.diagram import diagram
from tellapart.figures.sheet import as_svg
from tellapart.models.build import Architecture, build, outline
from tellapart.models.bundle import Bundle
from tellapart.models.remarks import examine
from tellapart.models.table import rows, totals
from tellapart.models.trace import Step, Trace, trace
from tellapart.preprocess import Preprocess

TEN = """
resnet18 resnet50 vgg16 googlenet squeezenet1_0 densenet121 mobilenet_v2 shufflenet_v2_x1_0 vit_b_16 convnext_tiny
swin_t regnet_y_400mf
""".split()  # noqa: SIM905 - names read better as words


def network(name: str, *, size: int = 224, classes: int = 1000) -> nn.Module:
    return outline(Architecture(name=name, num_classes=classes, channels=3, size=size))


def blank(model: nn.Module, *shape: int) -> Tensor:
    return torch.zeros(shape, device=next(model.parameters()).device)


def passed(model: nn.Module, size: int = 32, *, channels: int = 3) -> Trace:
    return trace(model, blank(model, 1, channels, size, size))


def fields(seen: Trace) -> dict[str, Step]:
    """The last step of each layer, by path."""
    return {step.path: step for step in seen.steps if step.module is not None}


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEN)
def test_sums_are_those_of_torch(name: str) -> None:
    model = network(name)
    seen = passed(model, 224)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(blank(model, 1, 3, 224, 224))
    every = sum(p.numel() for p in model.parameters())
    assert totals(seen)["parameters"] == sum(row.step.parameters for row in rows(seen)) == every
    assert 2 * sum(row.step.multiply_adds for row in rows(seen)) == counter.get_total_flops() > 0
    assert seen.output == (1, 1000)
    assert not seen.unused


def test_work_is_counted_as_by_hand() -> None:
    """A multiply-add for each number of each result of a convolution, times what its filter holds."""
    seen = passed(network("resnet18"), 224)
    for step in seen.steps:
        if isinstance(step.module, nn.Conv2d | nn.Linear):
            weight = step.module.weight
            assert step.multiply_adds == math.prod(step.output) * weight[0].numel()
            assert step.parameters == weight.numel() + (0 if step.module.bias is None else step.output[1])
        else:
            assert step.multiply_adds == 0


@pytest.mark.parametrize(
    ("name", "size", "count"), [("vgg16", 224, 16), ("quick", 32, 5), ("resnet18", 224, 21), ("vit_b_16", 224, 50)]
)
def test_layers_with_weights_are_counted_as_in_the_notes(name: str, size: int, count: int) -> None:
    assert totals(passed(network(name, size=size), size))["weight_layers"] == count


def test_ten_kernels_of_five_by_five_by_three_are_760_parameters() -> None:
    first, second = passed(nn.Sequential(nn.Conv2d(3, 10, 5), nn.Conv2d(10, 6, 3))).steps
    assert (first.parameters, first.output) == (760, (1, 10, 28, 28))
    assert second.inputs == ((1, 10, 28, 28),)


def test_the_shapes_of_the_notes() -> None:
    (step,) = trace(nn.Conv2d(3, 6, 3), torch.zeros(64, 3, 32, 32)).steps
    assert (step.path, step.output, rows(passed(nn.Conv2d(3, 6, 3)))[0].layer) == (
        *("", (64, 6, 30, 30)),
        "Conv2d(3, 6, kernel_size=3)",
    )
    (*_, linear) = passed(nn.Sequential(nn.Flatten(), nn.Linear(20 * 12 * 12, 100)), 12, channels=20).steps
    assert linear.parameters == 288_000 + 100
    sizes = [row.step.output[1:] for row in rows(passed(network("quick", size=32, classes=10)))]
    assert sizes[:6] == [(32, 32, 32), (32, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8), (64, 4, 4)]
    assert sizes[6:] == [(1024,), (64,), (10,)]


def test_the_default_network_has_the_usual_order_of_layers() -> None:
    seen = passed(network("small", size=32, classes=10))
    stage = ["Conv2d", "MaxPool2d", "BatchNorm2d", "relu", "Conv2d", "BatchNorm2d", "relu", "add"]
    assert [step.name for step in seen.steps] == [*stage * 3, "amax", "Linear"]
    assert {step.name: bool(step.parameters) for step in seen.steps} == {
        **dict.fromkeys(("Conv2d", "BatchNorm2d", "Linear"), True),
        **dict.fromkeys(("MaxPool2d", "relu", "add", "amax"), False),
    }


def test_a_network_that_needs_numbers_to_be_built_comes_back_from_its_bundle() -> None:
    """regnet computes its widths with tensors, which the meta device refuses: those alone are real."""
    made = Architecture(name="regnet_x_400mf", num_classes=2, channels=3, size=32)
    model = build(made, seed=3)
    again = Bundle(
        architecture=made, preprocess=Preprocess(size=32, channels=3), classes=("a", "b"), state=model.state_dict()
    ).module()
    assert {one.device.type for one in outline(made).parameters()} == {"meta"}
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters(), strict=True))


class Twice(nn.Module):
    """One layer used twice, an in-place activation, a tied weight, a frozen and an unused layer, an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.tied = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.tied.weight = self.conv.weight
        self.spare = nn.Linear(7, 2)
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
        self.head = nn.Linear(3, 10)
        self.head.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(self.act(self.conv(x))))
        y += x
        return self.head((self.tied(y) * self.scale).mean((2, 3)))


def test_what_is_used_twice_is_counted_once_and_what_is_not_used_is_said() -> None:
    model = Twice()
    seen = passed(model)
    kinds = [(step.path, step.name, step.parameters, step.again) for step in seen.steps]
    assert kinds == [
        ("conv", "Conv2d", 84, False),
        ("act", "ReLU", 0, False),
        ("conv", "Conv2d", 0, True),
        ("act", "ReLU", 0, True),
        ("", "add", 0, False),
        ("tied", "Conv2d", 0, False),
        ("", "mul", 3, False),
        ("", "mean", 0, False),
        ("head", "Linear", 40, False),
    ]
    assert [step.size for step in seen.steps[:5]] == [12288, 0, 12288, 0, 0]  # in place: no memory of its own
    assert list(seen.unused) == ["spare.weight", "spare.bias"]
    assert (seen.trained, seen.frozen) == (84 + 3 + 16, 40)
    assert seen.trained + seen.frozen == sum(p.numel() for p in model.parameters())
    assert seen.steps[4].sources == (3, -1)  # the addition takes the second activation and the picture


def test_a_pass_leaves_nothing_behind() -> None:
    model = Twice()
    model.head.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    passed(model)
    with pytest.raises(UsageError):
        passed(model, channels=4)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Recurrent(nn.Module):
    """The rows of a picture one after another, and a parameter in another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(28, 16, batch_first=True)
        self.fc = nn.Linear(16, 10)
        self.more = nn.Parameter(torch.zeros(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x[:, 0])[0][:, -1]) + self.more.view(1, 10)


def test_what_torch_does_not_count_is_named() -> None:
    seen = passed(Recurrent(), 28, channels=1)
    sums = totals(seen)
    assert (sums["uncounted"], sums["multiply_adds"], sums["parameters"]) == (["rnn"], 160, 2944 + 170 + 10)
    assert [(row.layer, row.step.parameters) for row in rows(seen)][-2:] == [("view", 10), ("add", 0)]
    assert totals(passed(Net()))["uncounted"] == []


def test_a_normed_weight_is_one_layer() -> None:
    (step,) = passed(weight_norm(nn.Conv2d(3, 8, 3))).steps
    assert (step.name, step.parameters, step.weight_layers) == ("ParametrizedConv2d", 232, 1)


# --- sizes ------------------------------------------------------------------------------------------------------------


EVEN_WARNS = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


class Odd(nn.Module):
    """Windows of every kind, as layers and as calls."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 4, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(4, 4, (7, 1), stride=(2, 1), padding="valid")
        self.far = nn.Conv2d(4, 4, 3, dilation=3, padding=2)
        self.same = nn.Conv2d(4, 4, 5, padding="same", dilation=2)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.grouped = nn.Conv2d(4, 8, 3, groups=4)
        self.even = nn.Conv2d(8, 8, 4, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.same(self.far(self.tall(self.wide(x)))))
        x = F.max_pool2d(torch.relu(self.even(self.grouped(x))), 2)
        return F.pad(F.avg_pool2d(x, 3, 1, 1), (1, 0, 2, 1)).amax((2, 3))


@EVEN_WARNS
@pytest.mark.parametrize("name", ["quick", "vgg16", "squeezenet1_0", "googlenet", "densenet121", "odd"])
def test_the_arithmetic_of_every_size_is_right(name: str) -> None:
    model = Odd() if name == "odd" else network(name)
    checked = 0
    for row in rows(passed(model, 65 if name == "odd" else 224)):
        for one in row.formula.split("; ") if row.formula else []:
            if not one.startswith("the same"):
                told, result = one.replace(" x ", "*").rsplit(" = ", 1)
                assert eval(told, {"floor": math.floor, "ceil": math.ceil}) == int(result)
                assert int(result) in (*row.step.output[-2:], math.prod(row.step.inputs[0][1:]))
                checked += 1
    assert checked > 5


@EVEN_WARNS
def test_a_formula_shows_this_layers_numbers() -> None:
    seen = passed(network("quick", size=32, classes=10))
    assert rows(seen)[0].formula == "floor((32 + 2 x 2 - 5) / 1) + 1 = 32"
    assert rows(seen)[6].formula == "64 x 4 x 4 = 1024"
    by_path = {row.step.path: row.formula for row in rows(passed(Odd(), 65))}
    assert by_path["wide"] == "floor((65 + 2 x 0 - 1) / 1) + 1 = 65; floor((65 + 2 x 3 - 7) / 1) + 1 = 65"
    assert by_path["far"] == "floor((30 + 2 x 2 - 3 x (3 - 1) - 1) / 1) + 1 = 28; " + (
        "floor((65 + 2 x 2 - 3 x (3 - 1) - 1) / 1) + 1 = 63"
    )
    assert by_path["pool"].startswith("ceil((28 + 2 x 1 - 3) / 2) + 1 = 15")
    assert by_path["even"].startswith("the same, 13; ")


# --- receptive fields -------------------------------------------------------------------------------------------------


def plain(module: nn.Module) -> nn.Module:
    """The same network made of positive averages, so that each pixel that is seen has a gradient."""
    for name, child in module.named_children():
        if isinstance(child, nn.MaxPool2d):
            same = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode)
            setattr(module, name, same)
        elif isinstance(child, nn.BatchNorm2d | nn.ReLU | nn.Hardswish | nn.Dropout | nn.ReLU6):
            setattr(module, name, nn.Identity())
        else:
            plain(child)
    for weight in module.parameters(recurse=False):
        nn.init.constant_(weight, 1.0 / weight[0].numel() if weight.dim() > 1 else 0.0)
    return module.double().eval()


def footprint(model: nn.Module, path: str, size: int) -> list[tuple[int, int]]:
    """First and last row, and first and last column, that the middle number of a layer's result depends on."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, out: Tensor) -> None:
        kept.append(out)

    handle = model.get_submodule(path).register_forward_hook(keep)
    picture = torch.ones(1, 3, size, size, dtype=torch.double, requires_grad=True)
    model(picture)
    handle.remove()
    out = kept[-1]
    (gradient,) = torch.autograd.grad(out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum(), picture)
    seen = (gradient[0] != 0).any(0)
    return [(int(line.nonzero().min()), int(line.nonzero().max())) for line in (seen.any(1), seen.any(0))]


CASES = [
    ("quick", 96, ["0", "1", "2", "3", "4", "5"]),
    ("small", 128, ["stages.0.conv2", "stages.1.conv1", "stages.2.norm2"]),
    (
        "resnet18",
        256,
        ["conv1", "maxpool", "layer1.0.conv2", "layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.relu"],
    ),
    ("squeezenet1_0", 224, ["features.2", "features.3.expand3x3", "features.5.squeeze", "features.7.expand1x1"]),
    (
        "googlenet",
        224,
        ["conv3.conv", "inception3a.branch2.1.conv", "inception3a.branch4.0", "inception3b.branch1.conv"],
    ),
    ("densenet121", 128, ["features.denseblock1.denselayer3.conv2", "features.denseblock2.denselayer1.conv1"]),
    ("shufflenet_v2_x0_5", 160, ["stage2.0.branch1.2", "stage2.2.branch2.0"]),
    ("odd", 129, ["wide", "tall", "far", "same", "pool", "grouped", "even"]),
]


@EVEN_WARNS
@pytest.mark.parametrize(("name", "size", "paths"), CASES, ids=[case[0] for case in CASES])
def test_a_receptive_field_is_the_footprint_of_the_gradient(name: str, size: int, paths: list[str]) -> None:
    made = Odd() if name == "odd" else build(Architecture(name=name, num_classes=10, channels=3, size=size))
    told = fields(passed(made, size))
    made = plain(made)
    for path in paths:
        field, out = told[path].field, told[path].output
        assert field is not None
        for span, places, (first, last) in zip(field.spans, out[2:], footprint(made, path, size), strict=True):
            low, high = span.low + places // 2 * span.jump, span.high + places // 2 * span.jump
            assert (max(0, low), min(size - 1, high), span.places) == (first, last, places), path


@pytest.mark.parametrize(("layers", "field"), [(1, 3), (2, 5), (3, 7)])
def test_three_convolutions_of_three_see_seven(layers: int, field: int) -> None:
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers)))
    (*_, last) = passed(model).steps
    assert last.field is not None
    assert last.field.size == (field, field)


def test_known_receptive_fields() -> None:
    """VGG16's last pooling sees 212 pixels (Araujo et al., Computing Receptive Fields, Distill 2019)."""
    seen = fields(passed(network("vgg16"), 224))
    assert seen["features.30"].field is not None
    assert seen["features.30"].field.size == (212, 212)
    vit = passed(network("vit_b_16"), 224).steps
    assert [step.field.size for step in vit if step.name == "Conv2d" and step.field] == [(16, 16)]
    assert vit[-1].field is not None
    assert vit[-1].field.size == (224, 224)


def test_a_field_that_cannot_be_followed_is_not_guessed() -> None:
    class Rolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.roll(x, 1, 2)).mean((2, 3))

    assert [step.field for step in passed(Rolled()).steps] == [None, None, None]


# --- what does not fit ------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """The network of the notes, as a person writes it, with a choice of mistakes."""

    def __init__(self, *, linear: int = 1024, second: int = 32, flat: int = 1024, last: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(second, 64, 5, padding=2)
        self.pool = nn.MaxPool2d(2)
        self.flat = flat
        self.fc1 = nn.Linear(linear, 64)
        self.fc2 = nn.Linear(64, last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(self.pool(F.relu(self.conv2(x))))
        return self.fc2(F.relu(self.fc1(x.view(-1, self.flat))))


class Bare(nn.Module):
    """A linear layer on maps: the flatten is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3072, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def small(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))


MISTAKES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "linear": (
        lambda: Net(linear=10240),
        [
            "net cannot take (2, 3, 32, 32): fc1 (Linear) expected 10240 numbers a picture, got 1024 = 64 x 4 x 4; "
            "it was given (2, 1024).",
            "Linear(1024, 64) would fit, because 64 x 4 x 4 numbers come out of the layers before it.",
        ],
    ),
    "channels": (
        lambda: Net(second=16),
        ["conv2 (Conv2d) expected 16 channels, got 32; it was given (2, 32, 16, 16).", "Conv2d(32, …) would fit"],
    ),
    "norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(1)),
        [
            "1 (BatchNorm2d) expected 1 channel, got 8",
            "BatchNorm2d(8, …) would fit, or 1 channel from the layer before",
        ],
    ),
    "picture": (
        lambda: nn.Sequential(nn.Conv2d(32, 8, 3)),
        ["0 (Conv2d) expected 32 channels, got 3;", "Conv2d(3, …) would fit"],
    ),
    "flatten": (
        Bare,
        [
            "fc (Linear) expected rows of 3072 numbers, got maps of 3 x 32 x 32",
            "nn.Flatten() before it",
            "Linear(3072, 10)",
        ],
    ),
    "window": (
        lambda: nn.Sequential(*(nn.MaxPool2d(2) for _ in range(6)), nn.Conv2d(3, 3, 1)),
        ["5 (MaxPool2d) has a window of 2 pixels for a height of 1;", "Use a larger picture"],
    ),
    "kernel": (
        lambda: nn.Sequential(nn.Conv2d(3, 3, 9, dilation=5, padding=3)),
        ["0 (Conv2d) has a window of 41 pixels for a height of 32 + 2 x 3 = 38;"],
    ),
    "view": (lambda: Net(flat=1000), ["net (Net), in `view`: shape '[-1, 1000]' is invalid for input of size 2048"]),
    "pictures": (
        lambda: Net(flat=512, linear=512),
        [
            "net gives (4, 10) for 2 pictures; expected (2, 10).",
            "The number of pictures changes in its forward, at view: (2, 64, 4, 4) becomes (4, 512).",
        ],
    ),
    "classes": (lambda: Net(last=7), ["net gives (2, 7) for 2 pictures; expected (2, 10).", "one number a class"]),
    "nothing": (lambda: nn.LSTM(32, 4), ["net (LSTM)", "LSTM: Expected input to be 2D or 3D, got 4D"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mismatch_is_explained_with_its_numbers(mistake: str) -> None:
    make, told = MISTAKES[mistake]
    with pytest.raises(UsageError) as caught:
        examine(make(), (2, 3, 32, 32), classes=10, name="net")
    assert [words for words in told if words not in str(caught.value)] == []


def test_the_notes_network_without_a_mistake_is_accepted() -> None:
    seen, remarks = examine(Net(), (2, 3, 32, 32), classes=10, name="net")
    assert seen.output == (2, 10)
    assert [remark[:25] for remark in remarks] == ["the head of net (fc1, fc2"]


@pytest.mark.parametrize("average", ["mean", "layer"])
def test_one_layer_behind_an_average_is_no_heavy_head(average: str) -> None:
    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x).relu()
            kept = maps.mean((2, 3)) if average == "mean" else nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1)
            return self.fc(kept)

    seen, remarks = examine(Averaged(), (2, 1, 32, 32), classes=10, name="net")
    assert sum(step.parameters for step in seen.head()) == 90 > seen.trained / 2
    assert remarks == []


def test_a_network_that_gives_two_things_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(UsageError, match="net gives a tuple; expected one tensor"):
        examine(Two(), (2, 3, 32, 32), classes=10, name="net")


def ending(*layers: nn.Module) -> nn.Module:
    """A network without anything to remark on, with layers of one's choice in its middle and at its end."""
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), *layers)


def top(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(width), nn.Flatten(), nn.Linear(64 * width * width, 10)]


REMARKS: dict[str, tuple[nn.Module, nn.Module, str]] = {
    "activation": (
        ending(nn.Conv2d(64, 64, 3), nn.Conv2d(64, 64, 3), *top(1)),
        ending(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), *top(1)),
        "a layer with weights follows another 2 times without an activation between them",
    ),
    "even": (
        ending(nn.Conv2d(64, 64, 4), nn.ReLU(), *top(1)),
        ending(nn.Conv2d(64, 64, 4, stride=4), nn.ReLU(), *top(1)),  # patches side by side
        "2: an even kernel, 4 x 4; it has no pixel in its middle, and no padding keeps the size; 3 or 5 are usual",
    ),
    "evens": (
        ending(nn.Conv2d(64, 64, 2), nn.ReLU(), nn.Conv2d(64, 64, 4), nn.ReLU(), *top(1)),
        ending(nn.Conv2d(64, 64, 3), nn.ReLU(), *top(1)),
        "2 and 1 more: an even kernel, 2 x 2; ",
    ),
    "large": (
        ending(nn.Conv2d(64, 16, 11), nn.ReLU(), nn.Conv2d(16, 64, 1), nn.ReLU(), *top(1)),
        ending(nn.Conv2d(64, 16, 11, padding=5), nn.ReLU(), nn.Conv2d(16, 64, 1), nn.ReLU(), *top(1)),
        "2: a large kernel, 11 x 11; without padding it takes much off each side of the map",
    ),
    "head": (
        ending(*top(3)),
        ending(*top(1)),
        "the head of net (4) holds 5,770 of 7,562 parameters (76%); an average over the map before it would need far",
    ),
    "head behind an average": (
        ending(*top(1)[:2], nn.Linear(64, 90), nn.ReLU(), nn.Linear(90, 10)),
        ending(*top(1)[:2], nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10)),
        "the head of net (4, 6) holds 6,760 of 8,552 parameters (79%); narrower layers before its last one would need",
    ),
    "softmax": (
        ending(*top(1), nn.Softmax(dim=1)),
        ending(*top(1)),
        "net ends in softmax (5), and cross entropy contains a softmax",
    ),
    "unused": (Twice(), ending(*top(1)), "16 parameters of net take no part, first spare.weight"),
}


@pytest.mark.parametrize("what", REMARKS)
def test_each_remark_is_made_and_not_made_without_cause(what: str) -> None:
    planted, clean, words = REMARKS[what]
    found = examine(planted, (2, 3, 32, 32), classes=10, name="net")[1]
    assert sum(words in remark for remark in found) == 1, found
    assert not any(words[:30] in remark for remark in examine(clean, (2, 3, 32, 32), classes=10, name="net")[1])


def test_a_network_of_linear_layers_has_no_body_to_compare() -> None:
    assert examine(network("mlp:64", size=32, classes=10), (2, 3, 32, 32), classes=10, name="mlp")[1] == []


# --- the command line -------------------------------------------------------------------------------------------------


def test_show_prints_each_layer_and_its_sums(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "show", "quick", "--batch", "64")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split()[:2] == ["path", "layer"]
    assert re.split(r"  +", lines[3]) == [
        *("2", "Conv2d(32, 32, kernel_size=5, padding=2)", "64x32x16x16 -> 64x32x16x16"),
        *("floor((16 + 2 x 2 - 5) / 1) + 1 = 16", "25,632", "419,430,400", "2,097.2 kB", "14 (2)"),
    ]
    assert "parameters     145,578: 145,578 trained, 0 frozen" in lines
    assert "weight layers  5 (convolutions and linear layers; attention has two)" in lines
    assert "head           66,250 of 145,578 parameters = 45.5%: 7, 8; body 79,328" in lines
    assert lines[-1].startswith("remark: in quick a layer with weights follows another 4 times")


def test_show_prints_the_shape_after_each_layer_as_json(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "show", "resnet18", "--size", "224", "--classes", "1000", "--json")
    facts = json.loads(done.out)
    assert (facts["input"], facts["output"]) == ([1, 3, 224, 224], [1, 1000])
    by_path = {row["path"]: row for row in facts["rows"]}
    assert by_path["layer2.0.downsample.0"]["output"] == [1, 128, 28, 28]
    assert by_path["layer1.0"]["layer"] == "add"
    assert by_path["layer1.0"]["inputs"] == [[1, 64, 56, 56]] * 2
    assert sum(row["parameters"] for row in facts["rows"]) == facts["totals"]["parameters"] == 11_689_512
    assert facts["totals"]["multiply_adds"] == 1_814_073_344
    assert by_path["conv1"]["receptive_field"] == [7, 7]
    assert by_path["conv1"]["jump"] == [2, 2]
    assert by_path["fc"]["jump"] is None


def test_the_tree_prints_the_paths_of_vgg16(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "show", "vgg16", "--size", "224", "--classes", "1000", "--tree")
    lines = done.out.splitlines()
    assert "  classifier.6: Linear(in_features=4096, out_features=1000, bias=True)" in lines
    assert "  classifier.0: Linear(in_features=25088, out_features=4096, bias=True)" in lines
    assert "avgpool: AdaptiveAvgPool2d(output_size=(7, 7))" in lines
    widths = re.findall(r"features\.\d+: (?:Conv2d\(\d+, (\d+)|(M)axPool)", done.out)
    expected = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"
    assert " ".join(conv or pool for conv, pool in widths) == expected


def test_vgg16_has_its_known_parameters_and_most_in_its_head(tmp_path: Path) -> None:
    out = tellapart(tmp_path, "model", "show", "vgg16", "--size", "224", "--classes", "1000").out
    assert "parameters     138,357,544" in out
    assert "remark: the head of vgg16 (classifier.0, classifier.3, classifier.6) holds 123,642,856 of" in out
    assert tellapart(tmp_path, "model", "check", "vgg16", "--size", "224").code == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("t-smal", "t-small"),
        ("runs/t-smal", "t-small"),
        ("net.tom", "net.toml"),
        ("./there/model.safetensor", "there/model.safetensors"),
        ("smal", "small"),
        ("resnet81", "resnet18"),
    ],
)
def test_what_was_meant_may_be_a_run_or_a_file(tmp_path: Path, typed: str, meant: str) -> None:
    for file in ("runs/t-small/status.json", "net.toml", "there/model.safetensors"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    done = tellapart(tmp_path, "model", "show", typed)
    assert (done.code, f"hint: Did you mean '{meant}'?" in done.err) == (2, True), done.err


def test_a_name_that_no_file_can_have_is_refused_like_any_other(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "show", "q" * 400)
    assert (done.code, "is no network, no run in runs and no model file." in done.err) == (2, True), done.err


def test_several_networks_stand_side_by_side(tmp_path: Path) -> None:
    lines = tellapart(tmp_path, "model", "show", "vgg16", "resnet18", "quick").out.splitlines()
    assert [re.split(r"  +", line)[-1] for line in lines] == ["channels", *["64 128 256 512"] * 2, "32 64"]
    assert re.split(r"  +", lines[3])[:5] == ["quick", "1x3x32x32", "145,578", "5", "12,354,176"]


def test_latex_and_markdown_have_as_many_cells_in_every_line(tmp_path: Path) -> None:
    latex = tellapart(tmp_path, "model", "show", "small", "--latex").out.splitlines()
    lines = [line for line in latex if line.endswith(r"\\")]
    assert len(lines) > 20
    assert {line.count(" & ") for line in lines} == {7}
    assert all(line.count("$") % 2 == 0 and line.count("{") == line.count("}") for line in latex)
    assert r"$\lfloor (32 + 2 \times 1 - 3) / 1 \rfloor + 1 = 32$" in lines[1]
    assert r"kernel\_size=3" in lines[1]
    assert latex[0].startswith(r"\begin{longtable}{llllrrrr}")
    table = [
        line for line in tellapart(tmp_path, "model", "show", "small", "--markdown").out.splitlines() if "|" in line
    ]
    assert {line.count(" | ") for line in table} == {7}
    assert len(table) == len(lines) + 1


def test_a_run_and_its_file_are_shown(tmp_path: Path) -> None:
    train(tmp_path, "first", "digits", "--epochs", "1", "--no-test")
    by_name = tellapart(tmp_path, "model", "show", "first", "--json")
    by_file = tellapart(tmp_path, "model", "show", "runs/first/model.safetensors", "--json")
    assert json.loads(by_name.out)["rows"] == json.loads(by_file.out)["rows"]
    assert json.loads(by_name.out)["input"] == [1, 1, 8, 8]
    refused = tellapart(tmp_path, "model", "show", "first", "--classes", "3")
    assert refused.code == 2
    assert "first is a trained model, and --classes cannot change it." in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resnet81"], ["'resnet81' is no network, no run in runs and no model file.", "Did you mean 'resnet18'?"]),
        (["a\x1b[31mb"], ["'a [31mb' is no network, no run"]),
        (["quick", "--tree", "--json"], ["--tree and --json cannot both be printed.", "Choose one of them."]),
        (["quick", "small", "--svg", "a.svg"], ["--svg shows one network; received 2.", "Show them one by one."]),
        (["alexnet"], ["alexnet cannot take (1, 3, 32, 32): features.12 (MaxPool2d) has a window of 3 pixels for a"]),
        (["quick", "--size", "4"], ["quick cannot be built for 4 pixels"]),
        (["quick", "--svg", "none/a.svg"], ["none"]),
    ],
)
def test_what_cannot_be_shown_is_said(tmp_path: Path, words: list[str], told: list[str]) -> None:
    done = tellapart(tmp_path, "model", "show", *words)
    assert done.code in (2, 4)
    assert [one for one in told if one not in done.err] == []
    assert "Traceback" not in done.err


# --- the diagram ------------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"


def drawn(name: str, size: int = 224) -> ElementTree.Element:
    boxes = boxes_of(passed(network(name, size=size), size))
    return ElementTree.fromstring(as_svg(diagram(boxes, title=name, under="")))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_the_diagram_has_a_box_for_each_layer_in_order(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "show", "quick", "--svg", "quick.svg")
    assert (done.code, done.out, done.err) == (0, "", "quick.svg: a diagram of quick, 160 mm wide\n")
    root = ElementTree.parse(tmp_path / "quick.svg").getroot()
    assert root.get("width") == "160mm"
    boxes = [words for words in texts(root) if re.match(r"conv|max pool|flatten|linear", words)]
    assert boxes == [
        *("conv 5x5, 32", "max pool 2x2, /2", "conv 5x5, 32", "max pool 2x2, /2", "conv 5x5, 64", "max pool 2x2, /2"),
        *("flatten", "linear 64", "linear 10"),
    ]
    assert [words for words in texts(root) if "x" in words and words[0].isdigit()] == (
        "3x32x32 32x32x32 32x16x16 32x16x16 32x8x8 64x8x8 64x4x4".split()  # noqa: SIM905
    )
    assert not list(root.iter(f"{SVG}image"))


def paths(root: ElementTree.Element) -> tuple[list[str], list[str]]:
    """The straight arrows, and the rounded ones of shortcuts."""
    lines = [element.get("d", "") for element in root.iter(f"{SVG}path") if element.get("marker-end")]
    return [line for line in lines if "q" not in line], [line for line in lines if "q" in line]


def test_every_residual_block_has_its_shortcut() -> None:
    """Eight additions, each with the line around its block; three shortcuts have a convolution in them, and so two
    lines: from the block's input to it, and from the block's end past it.
    """
    root = drawn("resnet18")
    straight, around = paths(root)
    boxes = [element for element in root.iter(f"{SVG}rect") if element.get("stroke") == "#333"]
    assert (len(boxes), sum(words.startswith("+") for words in texts(root))) == (33, 8)
    assert len(around) == 8 + 3
    assert len(straight) == 33 - 1 - 3
    assert {"layer1", "layer2", "layer3", "layer4"} <= set(texts(root))


def test_branches_lead_to_their_concatenation() -> None:
    """A fire module: two branches from the squeeze; one line past the first, one past the second."""
    root = drawn("squeezenet1_0")
    assert sum(words == "concatenate" for words in texts(root)) == 8
    assert len(paths(root)[1]) == 16


@pytest.mark.parametrize("name", ["googlenet", "densenet121", "vit_b_16", "swin_t", "mobilenet_v2"])
def test_large_networks_are_drawn_by_modules_on_one_page(name: str) -> None:
    root = drawn(name)
    boxes = [element for element in root.iter(f"{SVG}rect") if element.get("stroke") == "#333"]
    assert 8 < len(boxes) <= 80
    assert float(root.get("height", "").removesuffix("mm")) < 265
    for box in boxes:
        assert 0 <= float(box.get("x", "")) < float(box.get("x", "")) + float(box.get("width", "")) < 160


def test_names_are_escaped_in_the_diagram() -> None:
    seen = passed(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert "<title>&lt;a&gt; &amp; b</title>" in as_svg(diagram(boxes_of(seen), title="<a> & b", under=""))


# --- the guide --------------------------------------------------------------------------------------------------------


def test_the_guides_python_gives_what_it_shows() -> None:
    text = (Path(__file__).parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```pycon\n(.*?)^```", text, re.M | re.S)
    example = doctest.DocTestParser().get_doctest(block, {}, "networks.md", None, 0)
    assert doctest.DocTestRunner().run(example).failed == 0
    assert len(example.examples) == 7
