"""The residual networks: torchvision's bits, the counts and shapes of the notes, small stems, the recipe, the guide."""

import re
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart, train
from pictures import make_folder
from test_laws import loaded_by
from torch import nn
from torchvision.models import get_model

from tellapart.data.sources import SOURCES, cifar
from tellapart.errors import StorageError, UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.resnet import KINDS, BasicBlock, Bottleneck, ResNet, build_resnet
from tellapart.preprocess import Preprocess
from tellapart.recipe import Recipe
from tellapart.shipping.script import script_of

PAGE = Path(__file__).parent.parent / "docs" / "resnet.md"


def architecture(name: str = "resnet18", **changes: object) -> Architecture:
    return replace(Architecture(name=name, num_classes=5, channels=3, size=32), **changes)


def shell(name: str, num_classes: int = 1000, **changes: bool) -> ResNet:
    """The network without values, which costs nothing."""
    with torch.device("meta"):
        return build_resnet(name, num_classes, **changes)


def numel(network: nn.Module) -> int:
    return sum(param.numel() for param in network.parameters())


def shapes(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(key, tuple(tensor.shape)) for key, tensor in network.state_dict().items()]


def shapes_on_the_way(network: ResNet, size: int) -> dict[str, tuple[int, ...]]:
    """What every child of the network gives for one picture."""
    found: dict[str, tuple[int, ...]] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        found[name] = tuple(out.shape)

    for name, child in network.named_children():
        child.register_forward_hook(partial(keep, name))
    network.eval()(torch.zeros(1, 3, size, size, device="meta"))
    return found


# --- equal to torchvision's -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_every_layer_is_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = get_model(name, weights=None), build_resnet(name)

    def leaves(network: nn.Module) -> list[tuple[str, str]]:
        return [(place, repr(one)) for place, one in network.named_modules() if not list(one.children())]

    assert [leaf for leaf in leaves(ours) if leaf[0] != "avgpool"] == [
        leaf for leaf in leaves(theirs) if leaf[0] != "avgpool"
    ]
    assert shapes(ours) == shapes(theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_the_same_seed_gives_the_same_weights_and_outputs(name: str) -> None:
    torch.manual_seed(7)
    theirs = get_model(name, weights=None, num_classes=5)
    ours, images = build(architecture(name), seed=7), torch.randn(3, 3, 40, 33)
    state = ours.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in theirs.state_dict().items())
    for network in (theirs, ours):  # in training mode, with a step's gradients
        network.zero_grad()
        network(images).square().sum().backward()
    pairs = zip(theirs.parameters(), ours.parameters(), strict=True)
    assert all(
        one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad) for one, other in pairs
    )
    with torch.no_grad():  # the running statistics have moved alike
        assert torch.equal(theirs.eval()(images), ours.eval()(images))
        assert torch.equal(theirs.train()(images), ours.train()(images))


def test_weights_of_before_batches_were_counted_load_strictly() -> None:
    theirs = get_model("resnet34", weights=None)
    for key, value in theirs.state_dict().items():
        if "running" in key:
            value.copy_(torch.rand_like(value) + 0.5)
    old = OrderedDict((key, one) for key, one in theirs.state_dict().items() if "num_batches" not in key)
    ours = build_resnet("resnet34")
    ours.load_state_dict(old, strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(images), ours.eval()(images))
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict({key: one for key, one in old.items() if key != "fc.bias"}, strict=True)


def test_building_one_loads_no_torchvision(tmp_path: Path) -> None:
    """Another network, built after it in the same process, does."""
    make = "build(Architecture(name={!r}, num_classes=2, channels=3, size=64))"
    work = (
        "from tellapart.models.build import Architecture, build; "
        f"{make.format('resnet18')}; assert 'torchvision' not in sys.modules; {make.format('squeezenet1_1')}"
    )
    code, modules = loaded_by(work, tmp_path)
    assert (code, "torchvision" in modules) == (0, True)


# --- the numbers of the notes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block", "depths", "parameters"),
    [
        ("resnet18", BasicBlock, [2, 2, 2, 2], 11_689_512),
        ("resnet34", BasicBlock, [3, 4, 6, 3], 21_797_672),
        ("resnet50", Bottleneck, [3, 4, 6, 3], 25_557_032),
        ("resnet101", Bottleneck, [3, 4, 23, 3], 44_549_160),
        ("resnet152", Bottleneck, [3, 8, 36, 3], 60_192_808),
    ],
)
def test_five_depths_have_the_blocks_and_counts_of_the_notes(name, block, depths, parameters) -> None:
    network = shell(name)
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert [len(stage) for stage in stages] == depths
    assert {type(one) for stage in stages for one in stage} == {block}
    assert numel(network) == parameters
    layers = sum(isinstance(one, nn.Conv2d | nn.Linear) for one in network.modules())
    bypasses = sum(place.endswith("downsample") for place, _ in network.named_modules())
    assert layers - bypasses == int(name.removeprefix("resnet"))
    assert f"{' '.join(map(str, depths))} | {parameters:,}" in PAGE.read_text(encoding="utf-8")


def test_a_basic_block_adds_what_came_in() -> None:
    block, x = BasicBlock(64, 64), torch.rand(1, 64, 56, 56)
    assert block.eval()(x).shape == (1, 64, 56, 56)
    nn.init.zeros_(block.bn2.weight)  # F = 0
    assert torch.equal(block(x), x)
    assert [one.bias for one in block.modules() if isinstance(one, nn.Conv2d)] == [None, None]
    for groups, width in ((32, 64), (1, 128)):  # which it has not
        with pytest.raises(TypeError, match="unexpected keyword argument 'groups'"):
            ResNet(BasicBlock, (2, 2, 2, 2), groups=groups, width_per_group=width)


def test_a_bottleneck_has_groups_and_widths() -> None:
    wider = nn.Conv2d(64, 256, 1)
    assert Bottleneck(64, 64, downsample=wider).eval()(torch.rand(1, 64, 8, 8)).shape == (1, 256, 8, 8)
    grouped = Bottleneck(64, 64, groups=32, width_per_group=4).conv2
    assert (grouped.in_channels, grouped.out_channels, grouped.groups) == (128, 128, 32)
    for channels, per_group, groups in ((128, 64, 1), (64, 4, 32), (512, 8, 32), (256, 4, 64), (64, 128, 1)):
        told = int(channels * (per_group / 64.0)) * groups  # as the notes have it
        assert Bottleneck(64, channels, groups=groups, width_per_group=per_group).conv1.out_channels == told


def test_the_stride_is_on_the_middle_convolution() -> None:
    stage = shell("resnet50").layer2
    first, second = stage.get_submodule("0"), stage.get_submodule("1")
    assert isinstance(first, Bottleneck)
    assert isinstance(second, Bottleneck)
    assert isinstance(first.downsample, nn.Sequential)
    assert (first.conv1.stride, first.conv2.stride, first.downsample[0].stride) == (
        (1, 1),
        (2, 2),
        (2, 2),
    )
    assert (second.conv2.stride, second.downsample) == ((1, 1), None)


def test_sizes_on_the_way_are_those_of_the_guide() -> None:
    names = ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4")
    columns = (shell("resnet18"), 224), (shell("resnet18"), 32), (shell("resnet18", small_stem=True), 32)
    found = [shapes_on_the_way(network, size) for network, size in columns]
    table = re.findall(r"^\| (\w+), .*? \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert [row[0] for row in table] == list(names)
    for name, *sizes in table:
        assert [shapes[name][2] for shapes in found] == [int(size) for size in sizes]
    assert [found[0][name][2] for name in names] == [112, 56, 56, 28, 14, 7]
    assert [found[0][name][1] for name in names] == [64, 64, 64, 128, 256, 512]


def test_without_the_top_it_gives_maps() -> None:
    image, maps, whole = (
        torch.zeros(1, 3, 224, 224, device="meta"),
        shell("resnet50", include_top=False),
        shell("resnet50"),
    )
    assert (maps(image).shape, whole(image).shape) == ((1, 2048, 7, 7), (1, 1000))
    assert whole.state_dict().keys() - maps.state_dict().keys() == {"fc.weight", "fc.bias"}


def test_the_head_has_as_many_outputs_as_classes() -> None:
    ten = shell("resnet50", 10)
    assert ten(torch.zeros(3, 3, 64, 64, device="meta")).shape == (3, 10)
    assert numel(shell("resnet50")) - numel(ten) == 990 * (2048 + 1)


# --- small pictures, other channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_a_small_stem_and_any_channels_are_built_by_their_arguments(channels: int) -> None:
    asked = architecture(channels=channels, args={"small_stem": 1})
    assert Architecture.from_json(asked.to_json()) == asked
    network = build(asked)
    assert isinstance(network, ResNet)
    assert (network.conv1.weight.shape, network.conv1.stride) == ((64, channels, 3, 3), (1, 1))
    assert network(torch.randn(2, channels, 8, 8)).shape == (2, 5)
    usual = build(replace(asked, args={}))
    assert isinstance(usual, ResNet)
    assert (usual.conv1.weight.shape, usual.conv1.stride) == ((64, channels, 7, 7), (2, 2))


def test_other_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match=r"resnet18 cannot be built for 32 pixels: it has no argument x  y$"):
        build(architecture(args={"x\n\x1by": 1}))
    with pytest.raises(UsageError, match=r"squeezenet1_1 cannot be built .* no argument small_stem"):
        build(architecture("squeezenet1_1", args={"small_stem": 1}))
    with pytest.raises(StorageError, match="not one that can be built"):
        Architecture.from_json({**architecture().to_json(), "args": {"small_stem": True}})


@pytest.mark.parametrize(
    ("name", "changes"),
    [("resnet18", {"channels": 1}), ("resnext50_32x4d", {"args": {"small_stem": 1}}), ("resnet18", {})],
)
def test_the_plain_script_has_the_same_network(name: str, changes: dict[str, object]) -> None:
    asked = architecture(name, **changes)
    values = {"optim.lr": 0.1, "train.epochs": 2, "train.patience": 2, "model.name": name}
    settled = {**values, "augment.shift": 0.0, "augment.flip": False, "optim.nesterov": False}
    look = Preprocess(size=32, channels=asked.channels, mean=(0.5,) * asked.channels, std=(0.2,) * asked.channels)
    text = script_of(Recipe.from_values(settled), asked, look, tuple("abcde"), run="r")
    assert ("class ResNet" in text) == bool(changes)
    script: dict[str, Any] = {"__name__": "script"}
    exec(text, script)
    state = build(asked, seed=0).state_dict()
    made = script["make_network"]().state_dict()
    assert made.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in made.items())


def test_a_plain_script_says_which_channels_it_has_no_words_for() -> None:
    values = {"optim.lr": 0.1, "train.epochs": 2, "train.patience": 2, "optim.nesterov": False}
    recipe = Recipe.from_values({**values, "augment.shift": 0.0, "augment.flip": False, "model.name": "vgg11"})
    look = Preprocess(size=32, channels=1, mean=(0.5,), std=(0.2,))
    with pytest.raises(UsageError, match=r"no words for vgg11 with 1 channels instead of 3\. Export from a run of a R"):
        script_of(recipe, architecture("vgg11", channels=1), look, ("a", "b"), run="r")
    assert "vgg11" in script_of(
        recipe, architecture("vgg11"), replace(look, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3), ("a", "b"), run="r"
    )


# --- it trains --------------------------------------------------------------------------------------------------------


def test_the_recipe_trains_on_small_pictures_and_the_model_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what, chance = replace(cifar.CIFAR10, rows=(20,) * 6), np.random.default_rng(0)
    (tmp_path / what.binary_folder).mkdir()
    for file in what.binary_files:
        raw = b"".join(bytes([n % 10]) + chance.integers(0, 256, 3072, np.uint8).tobytes() for n in range(20))
        (tmp_path / what.binary_folder / file).write_bytes(raw)
    monkeypatch.setitem(SOURCES, "cifar10", lambda root: cifar.read(root, what))
    words = ("--recipe", "resnet18-cifar10", "--set", "train.max_steps=5", "--batch-size", "8", "--no-test")
    run = train(tmp_path, "a", *words, "--root", str(tmp_path)).run("a")
    assert run.status()["step"] == 5
    make_folder(tmp_path / "more", classes=("cat",), per_class=1, size=32)
    done = tellapart(tmp_path, "predict", "a", "more/cat/00.png")
    assert (done.code, done.err) == (0, "")
    assert 'name = "resnet18"' in (run.folder / "recipe.toml").read_text()


# --- the guide --------------------------------------------------------------------------------------------------------


def test_the_guide_recommends_and_explains() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for phrase in (
        "`resnet18`, then `resnet34` or `resnet50`",
        "`int(128 * (64 / 64.)) * 1 = 128`",
        "`relu(F(x) + x)`",
    ):
        assert phrase in text
    assert "resnet34-333f7ec4" in text
    assert int(128 * (64 / 64.0)) * 1 == 128


def test_the_python_of_the_guide_runs() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(block, {})
