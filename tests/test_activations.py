"""Activations: the values, slopes and files of `model activations`, and what docs/activations.md says of them."""

import csv
import doctest
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart
from PIL import Image
from torch import nn
from torchvision.models import get_model

from tellapart.models.activations import ACTIVATIONS, activated
from tellapart.models.build import Architecture, outline

PAGE = Path(__file__).parent.parent / "docs" / "activations.md"


def test_its_python_gives_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = "\n".join(re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S))
    page = doctest.DocTestParser().get_doctest(blocks, {}, PAGE.name, str(PAGE), 0)
    found = doctest.DocTestRunner().run(page)
    assert found.failed == 0, capsys.readouterr().out
    assert found.attempted > 15


def test_values_and_slopes_are_those_of_the_formulas() -> None:
    xs = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    found, near = activated(xs), 1e-6
    assert found["relu"][0][500].item() == 0 == found["relu"][0][:600].max()
    assert found["sigmoid"][0][600].item() == 0.5
    assert (found["tanh"][0].abs() < 1).all()
    assert ((found["sigmoid"][0] > 0) & (found["sigmoid"][0] < 1)).all()
    assert torch.allclose(found["sigmoid"][0], 1 / (1 + torch.exp(-xs)))
    assert torch.allclose(found["silu"][0], xs / (1 + torch.exp(-xs)))
    assert torch.allclose(found["gelu"][0], xs * (1 + torch.erf(xs / 2**0.5)) / 2)
    away = xs.abs() > near  # relu has a corner at 0
    for name, (values, slopes) in found.items():
        by_steps = (ACTIVATIONS[name](xs + near) - ACTIVATIONS[name](xs - near)) / (2 * near)
        assert torch.allclose(slopes[away], by_steps[away], atol=1e-6), name
        assert torch.equal(values, ACTIVATIONS[name](xs))


def test_an_activation_leaves_the_shape() -> None:
    maps = torch.randn(4, 6, 30, 30)
    assert {name: values.shape for name, (values, _) in activated(maps).items()} == dict.fromkeys(
        ACTIVATIONS, maps.shape
    )
    assert nn.functional.max_pool2d(maps, 2).shape != maps.shape


def test_relu_is_what_networks_for_pictures_use_and_sigmoid_saturates() -> None:
    far = activated(torch.tensor([10.0]))
    assert far["relu"][1].item() == 1
    assert far["sigmoid"][1].item() < 1e-4
    assert activated(torch.linspace(-9, 9, 999))["sigmoid"][1].max() <= 0.25
    used = {"resnet18": nn.ReLU, "vgg16": nn.ReLU, "efficientnet_b0": nn.SiLU, "convnext_tiny": nn.GELU}
    with torch.device("meta"):
        for name, kind in {**used, "vit_b_16": nn.GELU}.items():
            found = {type(one) for one in get_model(name).modules()} & {nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh}
            assert found == {kind}, name
    quick = outline(Architecture(name="quick", num_classes=10, channels=3, size=32))
    assert {type(one).__name__ for one in quick.children()} == {"Conv2d", "MaxPool2d", "Flatten", "Linear"}


def test_two_linear_layers_are_one_and_with_an_activation_they_are_not() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(20, 50, dtype=torch.float64), nn.Linear(50, 3, dtype=torch.float64)
    x, y = torch.randn(2, 100, 20, dtype=torch.float64)
    one = nn.Linear(20, 3, dtype=torch.float64)
    one.weight.data = second.weight.detach() @ first.weight.detach()
    one.bias.data = second.weight.detach() @ first.bias.detach() + second.bias.detach()
    assert torch.allclose(second(first(x)), one(x))
    between = lambda f, at: second(f(first(at))) - second(f(first(torch.zeros_like(at))))  # noqa: E731
    same = lambda at: at  # noqa: E731
    assert torch.allclose(between(same, x + y), between(same, x) + between(same, y))
    for name, function in ACTIVATIONS.items():
        assert not torch.allclose(between(function, x + y), between(function, x) + between(function, y)), name


def test_the_command_prints_draws_and_lists_them(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "activations", "--out", "a.csv")
    assert done.code == 0, done.err
    assert re.search(r"^sigmoid .* 0\.5000 \(0\.2500\) ", done.out, re.M)
    assert re.search(r"^relu +0\.0000 \(0\.0000\) +0\.0000 \(0\.0000\) .* 3\.0000 \(1\.0000\)$", done.out, re.M)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [len(rows), rows[0]["x"], rows[200]["x"], rows[-1]["x"]] == [401, -5, 0, 5]
    for row in rows[::40]:
        for name, (value, slope) in activated(torch.tensor([row["x"]], dtype=torch.float64)).items():
            assert (row[name], row[f"{name}_slope"]) == (value.item(), slope.item())
    assert tellapart(tmp_path, "model", "activations", "--out", "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (2 * 960, 3 * 540)
        panels = [image.crop((x, y, x + 960, y + 540)) for x in (0, 960) for y in (0, 540, 1080)]
    assert all(np.asarray(panel).min() < 60 for panel in panels)  # something is drawn in each
