"""A network in lines: what each layer does, what a wrong line is told, and how such a network lives in a run."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import tellapart, train
from torch import nn

from tellapart.arith import convolved
from tellapart.errors import StorageError, TellapartError, UsageError
from tellapart.models import build as of_architecture
from tellapart.models.build import Architecture, outline
from tellapart.models.bundle import load_bundle
from tellapart.models.layers import KINDS, build_layers
from tellapart.recipe import Recipe
from tellapart.workflow import search_results
from tellapart.workflow.search_results import Tried
from tellapart.workflow.search_space import fields_of

QUICK = (
    *("conv 32 5 padding=2", "maxpool 2", "conv 32 5 padding=2", "maxpool 2", "conv 64 5 padding=2", "maxpool 2"),
    *("flatten", "linear 64", "linear classes"),
)
"""The notes' quick network in nine lines."""
SMALL = ("conv 8 3", "relu", "gap", "linear classes")


def of_lines(*lines: str, size: int = 8, classes: int = 10) -> Architecture:
    return Architecture(name="layers", num_classes=classes, channels=3, size=size, layers=lines)


def build(architecture: Architecture, *, seed: int = 0) -> Any:
    return of_architecture.build(architecture, seed=seed)


def layer(line: str, *, channels: int = 6, size: int = 8) -> nn.Module:
    """The module of one line, for maps of channels x size x size."""
    return build_layers((line, "gap", "linear classes"), channels, 10, size)[0]


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- what the words mean ----------------------------------------------------------------------------------------------


def test_nine_lines_are_the_quick_network_of_the_notes_to_the_last_bit() -> None:
    made = build(of_lines(*QUICK, size=32), seed=5)
    known = build(Architecture(name="quick", num_classes=10, channels=3, size=32), seed=5)
    assert isinstance(made, nn.Sequential)
    assert str(made) == str(known)
    assert weights(made) == 145_578
    ours, theirs = made.state_dict(), known.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "bias"),
    list(itertools.product((1, 2, 3), (1, 2), (0, 1), (1, 2), (1, 2), (True, False)))[::3],
)
def test_every_option_of_a_convolution_does_what_torch_and_the_formula_say(
    kernel: int, stride: int, padding: int, dilation: int, groups: int, bias: bool
) -> None:
    words = f"stride={stride} padding={padding} dilation={dilation} groups={groups} bias={str(bias).lower()}"
    made = layer(f"conv 4 {kernel} {words}")
    known = nn.Conv2d(6, 4, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    assert str(made) == str(known)
    side = convolved(8, kernel, stride=stride, padding=padding, dilation=dilation)
    assert made(torch.zeros(1, 6, 8, 8)).shape == (1, 4, side, side)
    assert weights(made) == 4 * 6 // groups * kernel**2 + 4 * bias


def test_options_that_are_left_out_are_those_of_torch() -> None:
    assert str(layer("conv 4 3")) == str(nn.Conv2d(6, 4, 3))
    assert str(layer("maxpool 2")) == str(nn.MaxPool2d(2))
    assert str(layer("avgpool 3 stride=1 padding=1")) == str(nn.AvgPool2d(3, stride=1, padding=1))


@pytest.mark.parametrize(
    "line",
    [
        *("conv 5 3 stride=2 padding=1", "conv 6 2 dilation=3 groups=2", "upconv 5 3 stride=2 padding=1", "upconv 4 2"),
        *("maxpool 3", "maxpool 3 stride=1 padding=1", "avgpool 2 stride=3", "upsample 2", "upsample 3 mode=bilinear"),
        *("batchnorm", "layernorm", "relu", "leakyrelu", "gelu", "tanh", "sigmoid", "dropout 0.1", "flatten"),
    ],
)
@pytest.mark.parametrize("size", [7, 8])
def test_the_shape_that_is_worked_out_is_the_one_that_torch_gives(line: str, size: int) -> None:
    made = build_layers((line, "flatten", "linear classes"), 6, 10, size)
    x = torch.zeros(2, 6, size, size)
    assert made[2].in_features == made[0](x)[0].numel()
    assert made(x).shape == (2, 10)


def test_activations_do_what_their_names_say() -> None:
    x = torch.linspace(-9, 9, 7)
    named = {name: layer(name) for name in ("relu", "tanh", "sigmoid", "gelu", "leakyrelu", "leakyrelu slope=0.5")}
    assert named["relu"](torch.tensor([-1.0, 2.0])).tolist() == [0, 2]
    assert named["tanh"](x).abs().max() <= 1
    assert named["tanh"](torch.tensor(1.0)).item() == pytest.approx((2.718281828**2 - 1) / (2.718281828**2 + 1))
    assert named["sigmoid"](torch.tensor(0.0)) == 0.5
    assert ((named["sigmoid"](x) > 0) & (named["sigmoid"](x) < 1)).all()
    assert named["leakyrelu"](torch.tensor(-1.0)).item() == pytest.approx(-0.01)
    assert named["leakyrelu slope=0.5"](torch.tensor(-1.0)).item() == -0.5
    assert named["gelu"](torch.tensor(1.0)).item() == pytest.approx(0.841345, abs=1e-5)


def test_dropout_makes_zeros_while_training_only_and_scales_the_rest() -> None:
    made, ones = layer("dropout 0.25"), torch.ones(4, 6, 8, 8)
    torch.manual_seed(0)
    dropped = made.train()(ones)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert 0.2 < (dropped == 0).float().mean() < 0.3
    assert torch.equal(made.eval()(ones), ones)


def test_normalisations_are_over_the_batch_or_over_each_picture() -> None:
    x = 3 + 2 * torch.randn(5, 6, 8, 8)
    batch, each = layer("batchnorm").train()(x), layer("layernorm")(x)
    assert batch.mean((0, 2, 3)).abs().max() < 1e-5
    assert each.mean((1, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(each, nn.functional.layer_norm(x, (6, 8, 8)), atol=1e-5)
    rows = build_layers(("flatten", "batchnorm", "linear 4", "layernorm", "linear classes"), 3, 2, 4)
    assert isinstance(rows[1], nn.BatchNorm1d)
    assert rows(torch.randn(2, 3, 4, 4)).shape == (2, 2)


@pytest.mark.parametrize("norm", ["batchnorm", "layernorm", ""])
def test_a_network_with_each_normalisation_trains_a_step(norm: str) -> None:
    model = build(of_lines(*filter(None, ("conv 8 3", norm, "relu", "gap", "linear classes"))))
    before = [p.clone() for p in model.parameters()]
    nn.functional.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True) if new.dim() > 1)


def test_a_normalisation_may_stand_before_or_behind_its_activation() -> None:
    """It is usually before; no law, and not the same function."""
    orders = (("conv 8 3", "batchnorm", "relu"), ("conv 8 3", "relu", "batchnorm"))
    before, behind = (build(of_lines(*order, "gap", "linear classes"), seed=1) for order in orders)
    x = torch.randn(4, 3, 8, 8)
    assert weights(before) == weights(behind)
    assert not torch.allclose(before(x), behind(x))


def test_a_head_of_averages_has_fewer_weights_than_a_linear_one() -> None:
    fc = build(of_lines("conv 16 3", "relu", "flatten", "linear classes"))
    gap = build(of_lines("conv 16 3", "relu", "gap", "linear classes"))
    bare = build(of_lines("conv 16 3", "relu", "conv classes 1", "gap"))  # one map a class, and its mean
    x = torch.randn(5, 3, 8, 8)
    assert fc(x).shape == gap(x).shape == bare(x).shape == (5, 10)
    assert weights(gap[-1]) == 16 * 10 + 10 < weights(fc[-1]) == 16 * 36 * 10 + 10
    assert torch.allclose(bare(x), bare[:-2](x).mean((2, 3)), atol=1e-6)


def test_a_linear_layer_is_a_convolution_as_large_as_the_map() -> None:
    linear = build(of_lines("conv 4 3", "flatten", "linear classes"), seed=2)
    conv = build(of_lines("conv 4 3", "conv classes 6", "flatten"), seed=2)
    with torch.no_grad():
        conv[1].weight.copy_(linear[2].weight.view(10, 4, 6, 6))
        conv[1].bias.copy_(linear[2].bias)
    x = torch.randn(3, 3, 8, 8)
    assert torch.allclose(linear(x), conv(x), atol=1e-5)


@pytest.mark.parametrize(
    ("line", "side"),
    [
        *(("maxpool 2", 4), ("avgpool 2", 4), ("conv 6 3 stride=2 padding=1", 4), ("conv 6 2 stride=2", 4)),
        *(("upsample 2", 16), ("upsample 3 mode=bilinear", 24), ("upconv 6 2 stride=2", 16)),
    ],
)
def test_there_are_several_ways_to_sample_up_and_down(line: str, side: int) -> None:
    made = layer(line)
    assert made(torch.zeros(1, 6, 8, 8)).shape == (1, 6, side, side)
    assert bool(weights(made)) == ("conv" in line)  # those that learn how


def test_halving_by_pooling_or_by_a_strided_convolution_trains_either_way(tmp_path: Path) -> None:
    ways = {"pool": "maxpool 2", "conv": "conv 8 2 stride=2"}
    counts = {}
    for name, way in ways.items():
        lines = f"conv 8 3 padding=1, {way}, relu, flatten, linear classes"
        words = ("--epochs", "1", "--no-test", "--set", "data.limit=64", "--set", f"model.layers={lines}")
        done = train(tmp_path, name, "digits", "--model", "layers", *words)
        bundle = load_bundle(done.run(name).bundle)
        assert bundle.architecture.layers[1] == way
        counts[name] = weights(bundle.module())
    assert counts["conv"] - counts["pool"] == 8 * 8 * 4 + 8


# --- what a wrong line is told ----------------------------------------------------------------------------------------

WRONG = {
    ("cnov 3 3",): "line 1, 'cnov 3 3': Unknown layer 'cnov'. Did you mean 'conv'?",
    ("relu", ""): "line 2, '': Unknown layer ''. Choose one of: avgpool,",
    ("relu 3",): "line 1, 'relu 3': That is not how relu is written. It is: relu",
    ("conv 32",): "That is not how conv is written. It is: conv FILTERS KERNEL [stride=] [padding=] [dilation=]",
    ("conv 8 3 3",): "That is not how conv is written.",
    ("conv 8 3 pading=1",): "That is not how conv is written.",
    ("conv 8 3 stride=1 stride=2",): "That is not how conv is written.",
    ("conv 8 3 kernel=2",): "That is not how conv is written.",
    ("conv 0 3",): "conv: filters takes a whole number from 1 to 100,000, or the word classes. Received: '0'.",
    ("conv 8 1e3",): "conv: kernel takes a whole number from 1 to 100,000. Received: '1e3'.",
    ("conv 8 3 padding=-1",): "conv: padding takes a whole number from 0 to 100,000. Received: '-1'.",
    ("conv 8 3 bias=no",): "conv: bias takes true or false. Received: 'no'.",
    ("dropout 1",): "dropout: share takes a number from 0 to below 1. Received: '1'.",
    ("upsample 2 mode=cubic",): "upsample: mode takes nearest or bilinear. Received: 'cubic'.",
    ("linear " + "9" * 50,): "linear: outputs takes a whole number from 1 to 100,000",
    ("relu" + " " * 200,): "A line has 204 letters; a layer takes at most 200.",
    ("conv 8 3\x1b[2J",): "line 1, 'conv 8 3 [2J': That is not how conv is written.",
    ("maxpool 2",) * 4: "line 4: The kernel does not fit: its height is 2 pixels, and the picture has 1. Use a kernel "
    "of at most 1, or a height of at least 2. The sizes so far: 3x8x8 -> 3x4x4 -> 3x2x2 -> 3x1x1.",
    ("maxpool 2 padding=2",): "line 1: The padding of the height, 2, is more than half of the kernel, 2.",
    ("conv 4 3 groups=2",): "line 1: 2 groups do not divide 3 channels and 4 filters. Groups that divide both: 1.",
    (
        "relu",
        "linear classes",
    ): "line 2: 'linear classes' takes a row of numbers, and maps of 3 x 8 x 8 come to it. Put "
    "flatten or gap before it. The sizes so far: 3x8x8 -> 3x8x8.",
    ("flatten", "conv 8 3"): "line 2: 'conv 8 3' takes maps, and a row of 192 numbers comes",
    ("upsample 9999",): "line 1: 'upsample 9999' would give 3 x 79992 x 79992 numbers for one picture; at most",
    ("upconv 3 3 padding=9",): "line 1: A padding of 9 cuts away all that upconv makes of 3 x 8 x 8",
    ("conv 8 3",): "model.layers ends with 8 x 6 x 6 numbers for 10 classes. End with `linear classes`, and flatten",
    ("flatten", "linear 9"): "model.layers ends with 9 numbers for 10 classes. End with `linear classes`.",
    (): "layers is a network of your own lines, and model.layers has none.",
    ("relu",) * 501: "model.layers has 501 lines; at most 500 are possible.",
}


@pytest.mark.parametrize(("lines", "told"), WRONG.items())
def test_a_wrong_line_is_named_with_what_would_be_right(lines: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        build(of_lines(*lines))
    assert told in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_a_network_without_weights_and_lines_of_another_network_are_refused() -> None:
    with pytest.raises(UsageError, match="no layer with weights"):
        build(of_lines("gap", classes=3))
    with pytest.raises(UsageError, match="has the layers of the network layers, and the network is quick"):
        build(replace(of_lines("gap"), name="quick"))


def test_a_good_network_is_refused_nowhere_and_needs_no_memory_to_be_looked_at() -> None:
    every = ("layernorm", "avgpool 2", "upsample 2", "upconv 6 2 stride=2", "batchnorm", "gap", "layernorm", "tanh")
    model = outline(of_lines(*every, "leakyrelu", "gelu", "sigmoid", "dropout 0", "linear classes bias=false"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    used = {line.split()[0] for line in (*every, *QUICK, "leakyrelu", "gelu", "sigmoid", "dropout", "relu")}
    assert used == KINDS.keys()


# --- in a recipe, a run, a bundle -------------------------------------------------------------------------------------


def test_lines_are_a_list_in_a_recipe_and_may_have_commas_between_them_on_the_command_line() -> None:
    as_list = Recipe.from_toml(
        '[model]\nname = "layers"\nlayers = [\n "conv 8 3",\n "relu", "gap", "linear classes"\n]'
    )
    as_text = Recipe.from_values({"model.name": "layers", "model.layers": " conv 8 3, relu,gap , linear classes"})
    quoted = Recipe.from_values({"model.name": "layers", "model.layers": json.dumps(SMALL)})
    assert as_list == as_text == quoted
    assert as_list.model.layers == SMALL
    assert Recipe.from_toml(as_list.to_toml()) == as_list
    assert 'layers = ["conv 8 3", "relu", "gap", "linear classes"]' in as_list.to_toml()
    assert "changes = []" in as_list.to_toml()
    assert Recipe.from_values({"model.layers": " "}).model.layers == ()


@pytest.mark.parametrize("odd", [3, ["relu", 3], [["relu"]], "[relu, gap]", '["relu"', ["a\x00"]])
def test_what_is_no_list_of_lines_is_refused(odd: object) -> None:
    with pytest.raises(UsageError, match=r'model.layers: expected a list \["a", "b"\]. Received: '):
        Recipe.from_values({"model.layers": odd})


def test_a_wrong_line_is_told_before_any_picture_is_read(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "nowhere", "--model", "layers", "--set", "model.layers=relu, lineer classes")
    assert done.code == 2
    assert "model.layers, line 2, 'lineer classes': Unknown layer 'lineer'.\nhint: Did you mean 'linear'?" in done.err
    alone = tellapart(tmp_path, "train", "nowhere", "--set", "model.layers=gap, linear classes")
    assert "and the network is small.\nhint: Say --model layers --set 'model.layers=" in alone.err


def test_a_run_of_lines_is_shown_used_resumed_and_written_as_a_plain_script(tmp_path: Path) -> None:
    words = ("digits", "--model", "layers", "--set", f"model.layers={', '.join(SMALL)}", "--set", "train.max_steps=3")
    done = train(tmp_path, "mine", *words, "--epochs", "1")
    assert "network: layers, 170 parameters" in done.err
    assert "conv 8 3" in (tmp_path / "runs/mine/recipe.toml").read_text()
    shown = tellapart(tmp_path, "model", "show", "mine")
    assert "Conv2d(1, 8, kernel_size=3)" in shown.out
    assert tellapart(tmp_path, "extend", "mine", "--epochs", "2").code == 0
    script = tellapart(tmp_path, "export", "script", "mine")
    assert script.code == 0, script.err
    written = next(tmp_path.rglob("*.py"), None)
    text = written.read_text() if written else script.out
    assert "nn.AdaptiveAvgPool2d(output_size=1)" in text
    assert "out_features=len(CLASSES)" in text


def test_a_recipe_file_can_be_shown_and_checked_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(f'[model]\nname = "layers"\nlayers = {json.dumps(QUICK)}\n')
    shown = tellapart(tmp_path, "model", "show", "net.toml", "--json")
    assert json.loads(shown.out)["totals"]["parameters"] == 145_578
    checked = tellapart(tmp_path, "model", "check", "net.toml", "--size", "16", "--classes", "4")
    assert "net.toml: (2, 3, 16, 16) -> (2, 4)" in checked.out
    small = (tmp_path / "small.toml").write_text("[input]\nsize = 16\nchannels = 1\n[model]\nwidth = 8\n")
    assert small
    assert "small.toml: (2, 1, 16, 16) -> (2, 10)" in tellapart(tmp_path, "model", "check", "small.toml").out
    assert "model.layers has none" in tellapart(tmp_path, "model", "show", "layers").err


def test_a_search_can_compare_networks_of_lines(tmp_path: Path) -> None:
    tries = "model.layers=conv 8 3, relu, maxpool 2, flatten, linear classes; conv 8 3, relu, flatten, linear classes"
    words = ("--model", "layers", "--epochs", "1", "--run", "pooled")
    done = tellapart(tmp_path, "search", "digits", *words, "--try", tries, "--trials", "2", "--set", "data.limit=60")
    assert done.code == 0, done.err
    recipes = [(tmp_path / f"runs/pooled/trial-00{n}/recipe.toml").read_text() for n in (0, 1)]
    assert sorted('"maxpool 2"' in text for text in recipes) == [False, True]
    assert "conv 8 3, relu, maxpool 2, flatten, linear classes" in done.out
    assert (tmp_path / "runs/pooled/trials.png").is_file()
    shown = tellapart(tmp_path, "model", "show", "pooled/trial-000", "pooled/trial-001")
    assert {" 810 ", " 2,970 "} <= {f" {word} " for word in shown.out.split()}


def test_values_that_are_too_long_for_a_plot_are_named_by_a_trial_that_had_them() -> None:
    lines = "flatten, linear 64, relu, linear classes; gap, linear classes"
    long, short = fields_of([f"model.layers={lines}", "model.width=8,16"])
    tried = [
        Tried(number=n, values={"model.layers": network, "model.width": 8}, state="finished")
        for n, network in enumerate(reversed(long.choices))
    ]
    assert [word for _, word in search_results._ticks(tried, long)] == ["as 1", "as 0"]
    assert [word for _, word in search_results._ticks(tried, short)] == ["8", "16"]


# --- the header of a model file ---------------------------------------------------------------------------------------


def test_lines_survive_a_header_and_a_network_without_them_is_written_as_before() -> None:
    lines = replace(of_lines(*SMALL), changes=("remove 1",))
    assert Architecture.from_json(json.loads(json.dumps(lines.to_json()))) == lines
    plain = Architecture(name="quick", num_classes=10, channels=3, size=32)
    assert json.dumps(plain.to_json()) == (
        '{"name": "quick", "num_classes": 10, "channels": 3, "size": 32, "args": {}}'
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"layers": ["import os"]},
        {"layers": [3]},
        {"layers": 3},
        {"layers": "relu"},
        {"layers": []},
        {"layers": [*SMALL] * 200},
        {"layers": ["conv 8 " + "3" * 300]},
        {"layers": None},
        {"changes": ["__class__ = os"]},
        {"changes": {"append relu": 1}},
        {"changes": ""},
        {"name": "quick"},
    ],
)
def test_odd_lines_in_a_header_are_refused(odd: dict[str, object]) -> None:
    with pytest.raises(StorageError, match="The architecture in this file"):
        Architecture.from_json({**of_lines(*SMALL).to_json(), **odd})


def test_a_model_file_whose_lines_do_not_fit_its_weights_is_refused(tmp_path: Path) -> None:
    words = ("digits", "--model", "layers", "--set", "model.layers=gap, linear classes", "--set", "data.limit=60")
    bundle = load_bundle(train(tmp_path, "gap", *words, "--epochs", "1", "--no-test").run("gap").bundle)
    other = replace(bundle, architecture=replace(bundle.architecture, layers=("flatten", "linear classes")))
    with pytest.raises(TellapartError, match="do not fit the architecture layers"):
        other.module()
