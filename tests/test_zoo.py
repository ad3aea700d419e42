"""Networks that have a name: their list, their channels and sizes, and what torchvision states of them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import tellapart, train
from torch import nn

from tellapart.cli import model_list
from tellapart.models import catalogue
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.models.catalogue import Entry, chosen, own, published
from tellapart.models.look import look
from tellapart.models.resnet import build_resnet
from tellapart.models.zoo import adapted, build_torchvision
from tellapart.names import OWN_MODELS, TORCHVISION_MODELS

FAMILIES = tuple(
    """
    alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mobilenet_v2 mobilenet_v3_small regnet_x_400mf resnet18 resnext50_32x4d shufflenet_v2_x1_0 squeezenet1_0 swin_t
    swin_v2_t vgg11_bn vit_b_32 wide_resnet50_2
    """.split()  # noqa: SIM905 - names read better as words
)
ATTENTIVE = ("maxvit_t", "swin_t", "swin_v2_t", "vit_b_32")
"""Of these torchvision counts the products of activations with each other, too; ours counts layers with weights."""


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    stated, missing = published()
    assert missing == []
    return [*own(), *stated]


def listed(at: Path, *words: str) -> list[dict[str, Any]]:
    done = tellapart(at, "model", "list", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["networks"]


def shell(name: str, channels: int = 3) -> nn.Module:
    """The network without values; a RegNet finds its widths with tensors."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build(Architecture(name=name, num_classes=1000, channels=channels, size=224))


# --- the list ---------------------------------------------------------------------------------------------------------


def test_every_network_is_listed_and_the_smallest_comes_first(tmp_path: Path) -> None:
    rows = listed(tmp_path)
    assert {row["name"] for row in rows} == {*OWN_MODELS, "mlp:256", *TORCHVISION_MODELS}
    assert {"vgg16", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"} < {row["name"] for row in rows}
    sizes = [row["parameters"] for row in rows]
    assert sizes == sorted(sizes)
    told = tellapart(tmp_path, "model", "list").out.splitlines()
    assert len([line for line in told if "IMAGENET1K" in line]) + len(own()) == len(rows) > 100
    assert f"n = 84 of 84 networks, {len(rows)} of {len(rows)} rows" in told


def test_what_is_chosen_fits_every_bound(tmp_path: Path) -> None:
    rows = listed(tmp_path, "RES", "--most-parameters", "30M", "--most-flops", "4.1g", "--least-accuracy", "75")
    every = listed(tmp_path)
    fit = [
        row
        for row in every
        if "res" in row["name"]
        and row["parameters"] <= 30e6
        and row["multiply_adds"] <= 4.1e9
        and row["top_1"] is not None
        and row["top_1"] >= 75
    ]
    assert rows == fit
    assert [(row["name"], row["weights"]) for row in rows] == [
        ("resnet50", "IMAGENET1K_V1"),
        ("resnet50", "IMAGENET1K_V2"),
    ]


@pytest.mark.parametrize(
    ("bound", "value"),
    [("most_parameters", 25_557_032), ("most_multiply_adds", 4_089_000_000), ("least_top_1", 80.858)],
)
def test_a_bound_holds_what_is_equal_to_it(entries: list[Entry], bound: str, value: float) -> None:
    def names(value: float) -> set[str]:
        return {one.weights for one in chosen(entries, **{bound: value}) if one.name == "resnet50"}  # type: ignore[arg-type]

    assert "IMAGENET1K_V2" in names(value)
    assert "IMAGENET1K_V2" not in names(value * (1.001 if bound == "least_top_1" else 0.999))


def test_the_table_is_read_with_its_words(tmp_path: Path) -> None:
    out = tellapart(tmp_path, "model", "list", "resnet18").out.splitlines()
    row = ["resnet18", "11.7 M", "1.81 G", "224", "69.8", "45 MB", "IMAGENET1K_V1", "not stated"]
    assert re.split(r"  +", out[1]) == row
    assert out[2] == "n = 1 of 84 networks, 1 of 119 rows"
    assert out[3].startswith("top-1: on the validation part of ImageNet-1K")
    assert "counted here" not in "\n".join(out)
    ours = tellapart(tmp_path, "model", "list", "quick").out.splitlines()
    assert re.split(r"  +", ours[1]) == ["quick", "146 k", "12.4 M", "32", "–", "–", "–", "–"]
    assert ours[3:] == [
        "counted here, with 32 x 32 pictures in colour and 10 classes, without published weights: quick"
    ]
    assert "second head" in tellapart(tmp_path, "model", "list", "inception").out
    assert tellapart(tmp_path, "model", "list", "--least-accuracy", "99").out.splitlines() == [
        "n = 0 of 84 networks, 0 of 119 rows",
        "No network fits; loosen a bound.",
    ]


def test_licences_are_those_stated_and_nothing_is_claimed_of_others(tmp_path: Path) -> None:
    stated = listed(tmp_path, "--licence", "swag")
    assert {row["name"] for row in stated} == {
        *("regnet_y_16gf", "regnet_y_32gf", "regnet_y_128gf", "vit_b_16", "vit_l_16", "vit_h_14")
    }
    assert all("SWAG" in row["weights"] and "LICENSE" in row["licence"] for row in stated)
    silent = listed(tmp_path, "--licence", "Not Stated")
    assert len(silent) + len(stated) + len(own()) == len(listed(tmp_path))
    assert "none for most weights" in tellapart(tmp_path, "model", "list", "vgg").out


def test_weights_without_a_head_have_no_accuracy(entries: list[Entry]) -> None:
    (features,) = (one for one in entries if one.weights == "IMAGENET1K_FEATURES")
    assert (features.name, features.classes, features.top_1) == ("vgg16", 0, None)
    assert all(one.classes == 1000 and one.top_1 for one in entries if one.weights and one is not features)
    digests = [one.file.rpartition("-")[2] for one in entries if one.weights]
    assert all(digest.endswith(".pth") and int(digest[:8], 16) for digest in digests)


def test_a_network_that_the_installed_torchvision_lacks_is_named(tmp_path: Path, monkeypatch) -> None:
    assert "not in the torchvision" not in tellapart(tmp_path, "model", "list", "resnet").out
    monkeypatch.setattr(catalogue, "TORCHVISION_MODELS", ("resnet18", "resnet17"))
    done = tellapart(tmp_path, "model", "list", "resnet")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "not in the torchvision that is installed: resnet17"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resnet81",), "Unknown network 'resnet81'.\nhint: Did you mean 'resnet18'?"),
        (("a\x1b[31m\nb",), "Unknown network 'a [31m b'."),
        (("--most-parameters", "30X"), "'30X' is not a number such as 30M, 5G or 250k."),
        (("--most-parameters", "-3M"), "'-3M' is not a number such as"),
        (("--most-flops", "nan"), "'nan' is not a number such as"),
        (("--most-flops", "G"), "'G' is not a number such as"),
        (("--most-flops", "infG"), "'infG' is not a number such as"),
        (("--least-accuracy", "0.75"), "0.75 is not in the range 1<=x<=100"),
    ],
)
def test_what_cannot_be_listed_is_said(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = tellapart(tmp_path, "model", "list", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


def test_numbers_are_short_and_read_back() -> None:
    for number in (1, 12, 999, 1000, 1004, 145_578, 999_499, 999_500, 999_999, 25_557_032, 4_089_000_000, 10**13):
        text = model_list.short(number)
        assert math.isclose(model_list.number_of(text.replace(" ", "")), number, rel_tol=0.005), text
        assert len(text) <= 6
        assert "e" not in text
    assert [model_list.short(n) for n in (999_499, 999_500, 10**12)] == ["999 k", "1 M", "1 T"]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_stated_is_what_is_built(entries: list[Entry], name: str) -> None:
    (first, *_) = (one for one in entries if one.name == name)
    network = shell(name)
    parameters = sum(param.numel() for param in network.parameters())
    assert (parameters == first.parameters) == (name != "inception_v3")
    architecture = Architecture(name=name, num_classes=1000, channels=3, size=first.size)
    share = look(network, architecture).multiply_adds / first.multiply_adds
    assert share == pytest.approx(1, abs=0.01) if name not in ATTENTIVE else 0.6 < share < 1


# --- other channels, other sizes --------------------------------------------------------------------------------------


def test_every_family_is_built_for_other_channels() -> None:
    for name in FAMILIES:
        network, size = shell(name, channels=4), 299 if name == "inception_v3" else 224
        images = torch.zeros(1, 4, size, size, device=next(network.parameters()).device)
        with torch.no_grad():
            assert network.eval()(images).shape == (1, 1000), name


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_a_grey_picture_gives_what_its_copy_in_colour_gives(name: str) -> None:
    colour, grey, five = (
        build(Architecture(name=name, num_classes=5, channels=channels, size=64), seed=4).eval()
        for channels in (3, 1, 5)
    )
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = colour(image.expand(2, 3, 64, 64))
        scale = expected.abs().max()
        torch.testing.assert_close(grey(image) / scale, expected / scale, rtol=0, atol=1e-3)
        assert not torch.allclose(grey(image.flip(2)) / scale, expected / scale, rtol=0, atol=1e-2)
        assert five(torch.rand(2, 5, 64, 64)).shape == (2, 5)
    first, *others = colour.state_dict()
    assert all(torch.equal(colour.state_dict()[key], grey.state_dict()[key]) for key in others if key != first)


def test_filters_are_adapted_without_losing_any() -> None:
    weight = torch.randn(8, 3, 5, 5)
    conv = torch.nn.functional.conv2d
    assert adapted(weight, 3) is weight
    image = torch.rand(2, 1, 9, 9)
    colour = conv(image.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(conv(image, adapted(weight, 1)), colour, rtol=1e-4, atol=1e-5)
    for channels in (6, 9):  # whole copies: equal channels give what they gave before
        made = adapted(weight, channels)
        torch.testing.assert_close(conv(image.expand(-1, channels, -1, -1), made), colour, rtol=1e-4, atol=1e-5)
    for channels in (2, 4, 5):
        made = adapted(weight, channels)
        assert made.shape == (8, channels, 5, 5)
        for n in range(channels):
            torch.testing.assert_close(made[:, n], weight[:, n % 3] * 3 / channels)


def test_pretrained_filters_serve_grey_pictures() -> None:
    """Weights for colour, put into a network for grey pictures, give the features of their copies in colour."""
    colour, grey = (build_resnet("resnet18", include_top=False, channels=channels).eval() for channels in (3, 1))
    state = colour.state_dict()
    grey.load_state_dict({**state, "conv1.weight": adapted(state["conv1.weight"], 1)})
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = colour(image.expand(2, 3, 64, 64))
        torch.testing.assert_close(grey(image), expected, rtol=1e-3, atol=1e-4)
    assert float(expected.std()) > 0.01


def test_it_trains_and_is_kept_with_one_channel(tmp_path: Path) -> None:
    words = ("--model", "squeezenet1_1", "--set", "input.channels=1", "--set", "input.size=32", "--limit", "64")
    run = train(tmp_path, "a", "digits", *words, "--epochs", "1").run("a")
    assert tellapart(tmp_path, "test", "a").code == 0
    assert load_bundle(run.bundle).state["features.0.weight"].shape == (64, 1, 3, 3)


def test_vgg_takes_small_pictures_and_large_ones() -> None:
    for size in (32, 224):
        assert look(shell("vgg16"), Architecture(name="vgg16", num_classes=1000, channels=3, size=size)).output == (
            2,
            1000,
        )


def test_vgg16_has_the_parameters_of_the_notes_and_its_head_fits_the_classes() -> None:
    with torch.device("meta"):
        usual, ten = build_torchvision("vgg16", 1000), build_torchvision("vgg16", 10)
    for network, count, classes in ((usual, 138_357_544, 1000), (ten, 134_301_514, 10)):
        assert sum(param.numel() for param in network.parameters()) == count
        last = network.get_submodule("classifier.6")
        assert isinstance(last, nn.Linear)
        assert (last.in_features, last.out_features) == (4096, classes)
