"""Looking inside a network: kernels, maps and weights as they are, drawn and on the board, and nothing changed."""

import importlib.util
import io
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from PIL import Image
from torch import nn

from tellapart.errors import DataError, TellapartError, UsageError
from tellapart.figures.grid import GAP
from tellapart.figures.inside import kernel_sheet, map_sheet, weight_sheet
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.models.inside import features, fingerprint, kernels, maps, spreads
from tellapart.recipe import Recipe
from tellapart.reporting.tensorboard import Board
from tellapart.workflow.sees import input_of
from tellapart.workflow.settle import Settled, refuse_impossible, refuse_sharded

FEW = ("digits", "--limit", "120", "--epochs", "1", "--no-test", "--batch-size", "8")
TENSORS = 14
"""Parameter tensors of `small` for digits."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything on its board, one like it with curves only, and a picture of a digit."""
    folder = tmp_path_factory.mktemp("inside")
    train(folder, "all", *FEW, "--board", "profile")
    train(folder, "plain", *FEW)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    Image.fromarray(pixels).save(folder / "digit.png")
    return folder


def board(at: Path, run: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}
    return EventAccumulator(str(at / "runs" / run / "tensorboard"), size_guidance=sizes).Reload()


def facts(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.err
    return json.loads(done.out)


def convolution(channels: int = 3, filters: int = 6) -> nn.Sequential:
    """The convolution of the notes, and a ReLU that works in place."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, filters, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2))


# --- feature maps -----------------------------------------------------------------------------------------------------


def test_a_layer_gives_one_grey_tile_for_each_channel() -> None:
    model, picture = convolution(), torch.randn(1, 3, 32, 32)
    found = maps(model, picture)
    sheet = map_sheet(found.values.numpy())
    assert found.values.shape == (6, 30, 30)
    assert [tile.shape for tile in sheet.images] == [(30, 30)] * 6
    assert [(tile.min(), tile.max()) for tile in sheet.images] == [(0, 255)] * 6
    weight, bias = model[0].weight.detach(), model[0].bias.detach()  # type: ignore[union-attr]
    for n in range(6):
        by_hand = torch.full((30, 30), bias[n].item())
        for c, i, j in product(range(3), repeat=3):
            by_hand += picture[0, c, i : i + 30, j : j + 30] * weight[n, c, i, j]
        assert torch.allclose(found.values[n], by_hand, atol=1e-5)


def test_the_reshape_of_the_notes_would_mix_channels_and_invent_pictures() -> None:
    many = convolution()[0](torch.randn(64, 3, 32, 32))
    mixed = torch.reshape(many, (-1, 3, 30, 30))
    assert many.shape == (64, 6, 30, 30)  # the result of reshape was thrown away
    assert mixed.shape[0] == 128  # twice the pictures
    assert torch.equal(mixed[1], many[0, 3:])  # the "second picture" is three more kernels on the first
    assert len(map_sheet(many[0].detach().numpy()).images) == 6


def test_a_map_is_not_what_the_next_layer_makes_of_it_in_place() -> None:
    model, picture = convolution(), torch.randn(1, 3, 8, 8)
    first, second = maps(model, picture).values, maps(model, picture, "1").values
    assert first.min() < 0
    assert torch.equal(first.relu(), second)


def test_looking_changes_nothing(at: Path) -> None:
    model = build(Architecture(name="small", num_classes=3, channels=3, size=16))
    model.train()
    model.get_submodule("stages.0").eval()
    before = fingerprint(model), [one.training for one in model.modules()]
    picture = torch.randn(1, 3, 16, 16)
    maps(model, picture)
    kernels(model)
    spreads(model)
    features(model, "head", picture)
    with pytest.raises(UsageError):
        maps(model, picture, "head")
    with pytest.raises(RuntimeError):
        maps(model, picture[:, :2])
    assert (fingerprint(model), [one.training for one in model.modules()]) == before
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


def test_maps_of_a_file_go_through_the_models_own_preprocessing(at: Path) -> None:
    words = ("model", "maps", "all", "digit.png", "--layer", "stages.0.norm1", "--out", "maps.png", "--json")
    said = facts(tellapart(at, *words))
    bundle = load_bundle(at / "runs/all/model.safetensors")
    pixels = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) * 3 / 255
    picture = torch.from_numpy((pixels - bundle.preprocess.mean[0]) / bundle.preprocess.std[0])
    assert torch.allclose(input_of(at / "digit.png", bundle.preprocess), picture, atol=1e-5)
    stage = bundle.module().get_submodule("stages.0")
    with torch.no_grad():
        values = stage.norm1(stage.pool(stage.conv1(picture)))[0]  # type: ignore[operator]
    assert said["tiles"] == len(said["maps"]) == 16
    assert (said["shape"], said["kind"], said["times"]) == ([16, 4, 4], "BatchNorm2d", 1)
    for one, value in zip(said["maps"], values, strict=True):
        by_hand = [number.item() for number in (value.mean(), value.min(), value.max())]
        assert [one["mean"], one["min"], one["max"]] == pytest.approx(by_hand, abs=1e-4)
    assert said["dark"] == int((values.amax((1, 2)) <= 0).sum())
    with Image.open(at / "maps.png") as image:
        assert image.width == GAP + 4 * (96 + GAP)
    assert "16 tiles drawn" in tellapart(at, *words).err


def test_dark_maps_are_counted_and_a_layer_that_runs_twice_says_so(at: Path) -> None:
    model = convolution()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, -1  # type: ignore[index, union-attr]
    again = nn.Sequential(model[0], model[1], model[1])
    found = maps(again, torch.rand(1, 3, 8, 8), "1")
    assert found.times == 2
    assert found.values[1].max() == 0
    assert (map_sheet(found.values.numpy()).images[1] == 0).all()
    out = tellapart(at, "model", "maps", "all", "digit.png").out
    assert out.startswith("all: stages.0.conv1 (Conv2d) gives 16 maps of 8 x 8\nmap")
    assert out.endswith("0 of 16 maps have nothing above 0\n")


# --- kernels and weights ----------------------------------------------------------------------------------------------


def test_kernels_of_colours_are_drawn_in_colour_on_their_own_scale() -> None:
    weight = np.zeros((3, 3, 5, 5), np.float32)
    weight[0, 0, 1, 2], weight[1, 1, 0, 0], weight[1, 2, 4, 4] = 0.25, -2.0, 1.0
    sheet = kernel_sheet(weight)
    assert [tile.shape for tile in sheet.images] == [(5, 5, 3)] * 3
    assert sheet.images[0][1, 2].tolist() == [255, 128, 128]
    assert (sheet.images[2] == 128).all()
    assert sheet.images[1][0, 0].tolist() == [128, 0, 128]
    assert sheet.images[1][4, 4].tolist() == [128, 128, 191]
    assert sheet.captions == ["0: ±0.25", "1: ±2", "2: ±0"]
    assert sheet.image().getpixel((GAP + 2, GAP + 2)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("shape", "shown", "of"), [((16, 1), 16, 16), ((8, 4), 32, 32), ((300, 3), 256, 300), ((40, 20), 256, 800)]
)
def test_kernels_of_any_layer_are_bounded_and_counted(shape: tuple[int, int], shown: int, of: int) -> None:
    sheet = kernel_sheet(np.random.default_rng(0).normal(size=(*shape, 3, 3)))
    assert (len(sheet.images), sheet.of) == (shown, of)
    assert sheet.columns == (0 if shape[1] in (1, 3) else min(16, shape[1]))


def test_kernels_of_a_run_and_of_a_network_by_name(at: Path) -> None:
    state = load_bundle(at / "runs/all/model.safetensors").state
    done = tellapart(at, "model", "kernels", "all", "--layer", "stages.1.conv1", "--out", "k.png", "--json")
    said, weight = facts(done), state["stages.1.conv1.weight"]
    assert (said["shape"], said["tiles"], said["of"]) == ([32, 16, 3, 3], 256, 512)
    assert (said["min"], said["max"]) == (weight.min().item(), weight.max().item())
    assert "256 of 512 tiles drawn" in done.err
    out = tellapart(at, "model", "kernels", "resnet18", "--classes", "3").out
    assert out.startswith("resnet18: conv1 (Conv2d), 64 kernels of 3 x 7 x 7, -0.")


def test_the_same_seed_gives_the_same_first_weights_bit_for_bit(at: Path) -> None:
    words = ("model", "weights", "linear", "--size", "8", "--channels", "1", "--json", "--seed")
    three, again, four = (facts(tellapart(at, *words, seed))["sha256"] for seed in ("3", "3", "4"))
    assert three == again != four
    train(at, "still", *FEW, "--model", "linear", "--seed", "3", "--lr", "1e-30", "--set", "train.max_steps=1")
    assert facts(tellapart(at, "model", "weights", "still", "--json"))["sha256"] == three
    moved = build(Architecture(name="linear", num_classes=10, channels=1, size=8), seed=3)
    assert fingerprint(moved) == three
    next(moved.parameters()).data[0, 0].mul_(1 + 2**-23)
    assert fingerprint(moved) != three


def test_weights_in_numbers_are_those_of_the_file(at: Path) -> None:
    said = facts(tellapart(at, "model", "weights", "all", "--out", "w.png", "--json"))["weights"]
    state = load_bundle(at / "runs/all/model.safetensors").state
    assert len(said) == TENSORS
    for one in said:
        values = state[one["name"]].double().numpy()
        numbers = [values.mean(), values.std(), values.min(), values.max(), (values == 0).mean()]
        found = [one[key] for key in ("mean", "sd", "min", "max", "zeros")]
        assert found == pytest.approx(numbers, rel=1e-9, abs=1e-12)
        assert one["shape"] == list(values.shape)
    planted = nn.Linear(4, 2)
    planted.weight.data[0] = 0
    assert spreads(planted)[0]["zeros"] == 0.5
    out = tellapart(at, "model", "weights", "all").out
    assert out.count("\n") == TENSORS + 3
    assert "sha256 of all that all holds: " in out


def test_a_histogram_is_as_high_as_its_counts() -> None:
    values = np.concatenate([np.full(400, -1.0), np.full(200, 0.31), np.full(400, 1.0)])
    (tile,) = weight_sheet({"w": values}).images
    blue = (tile == (31, 87, 164)).all(2).sum(0)
    assert (blue[0], blue[-1], blue[39], blue.sum()) == (59, 59, 30, 148)
    assert (tile[0, 30] == (214, 120, 60)).all()  # zero
    assert not (weight_sheet({"w": values + 2}).images[0] == (214, 120, 60)).all(2).any()
    assert weight_sheet({"w": values}).captions == ["w\n1,000 numbers\n-1 to 1"]
    assert weight_sheet({"one": np.zeros(1)}).images[0].shape == (60, 60, 3)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("kernels linear", 2, "This network has no convolution, and so neither kernels nor feature maps."),
        ("kernels all --layer stages.0.cnv1", 2, "Did you mean 'stages.0.conv1'? The first ones are stages, stages.0,"),
        ("kernels all --layer zzz", 2, "There is no layer 'zzz' in this network."),
        ("kernels all --layer head", 2, "head is a Linear and has no kernels."),
        ("kernels all --seed 3", 2, "all is a trained model, and --seed cannot change it."),
        ("kernels all --size 9", 2, "all is a trained model, and --size cannot change it."),
        ("kernels all --out k.txt", 2, "--out draws a PNG. Received: k.txt."),
        ("weights nosuch", 2, "'nosuch' is no network, no run in runs and no model file."),
        ("maps small digit.png", 2, "small is not trained: how it sees a picture is not settled."),
        ("maps all nosuch.png", 2, "There is no file 'nosuch.png'."),
        ("maps all runs/all/status.json", 3, "runs/all/status.json: It is text, not a picture."),
        ("maps all digit.png --layer head", 2, "head (Linear) gives 1 x 10, not maps"),
        ("maps still digit.png", 2, "This network has no convolution, and so neither kernels nor feature maps."),
        ("activations --out curves.gif", 2, "--out ends in .png or .csv. Received: curves.gif."),
    ],
)
def test_what_cannot_be_shown_is_said(at: Path, words: str, code: int, told: str) -> None:
    if "still" in words:
        train(at, "still", *FEW, "--model", "linear") if not (at / "runs/still").exists() else None
    done = tellapart(at, "model", *words.split())
    assert done.code == code, done.err
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_hostile_name_of_a_picture_is_printable(at: Path) -> None:
    bundle = load_bundle(at / "runs/all/model.safetensors")
    broken = at / "ev\x1b[31mil\n.png"
    broken.write_bytes(b"x")
    with pytest.raises(DataError) as told:
        input_of(broken, bundle.preprocess)
    assert told.value.message.isprintable()
    with pytest.raises(TellapartError) as told:
        input_of(at / "no\n.png", bundle.preprocess)
    assert told.value.message.isprintable()


def test_a_layer_that_takes_no_part_is_said() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    model.add_module("idle", nn.Identity())
    model.forward = lambda x: model[0](x)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"idle \(Identity\) gives nothing in a pass"):
        maps(model, torch.zeros(1, 3, 4, 4), "idle")


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def test_every_parameter_tensor_has_a_histogram_and_so_has_its_gradient(at: Path) -> None:
    found = board(at, "all")
    tags, state = found.Tags()["histograms"], load_bundle(at / "runs/all/model.safetensors").state
    names = [name for name in state if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(names) == TENSORS
    assert sorted(tags) == sorted([*(f"weights/{n}" for n in names), *(f"gradients/{n}" for n in names)])
    for name in names:  # one epoch: what was kept is what stood at its end
        before, last = found.Histograms(f"weights/{name}")
        value, bars = state[name].double().numpy(), last.histogram_value
        assert (before.step, last.step) == (0, 1)
        assert (bars.min, bars.max, bars.num) == (pytest.approx(value.min()), pytest.approx(value.max()), value.size)
        assert (bars.sum, bars.sum_squares) == (pytest.approx(value.sum()), pytest.approx(np.square(value).sum()))
        assert sum(bars.bucket) == value.size
        (gradient,) = found.Histograms(f"gradients/{name}")
        assert gradient.step == 1
        assert gradient.histogram_value.num == value.size
    first = build(Architecture(name="small", num_classes=10, channels=1, size=8), seed=0).get_parameter("head.weight")
    assert found.Histograms("weights/head.weight")[0].histogram_value.sum == pytest.approx(first.double().sum().item())


def test_a_histogram_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    with Board(tmp_path / "runs/x/tensorboard") as made:
        made.histograms(3, {"a": np.array([1.0, np.nan, 2.0, np.inf]), "none": np.array([np.nan])})
    found = board(tmp_path, "x")
    (one,) = found.Histograms("a")
    assert (one.step, one.histogram_value.num, one.histogram_value.sum) == (3, 2, 3)
    assert found.Histograms("none")[0].histogram_value.num == 0


def test_kernels_and_maps_are_on_the_board_after_each_epoch(at: Path) -> None:
    found = board(at, "all")
    for tag, tiles in (("inside/kernels_of_stages.0.conv1", 16), ("inside/maps_of_stages.0.conv1", 16)):
        shown = found.Images(tag)
        assert [one.step for one in shown] == [0, 1]
        assert shown[0].encoded_image_string != shown[1].encoded_image_string
        side = 80 if "kernels" in tag else 96
        assert shown[1].width == GAP + round(tiles**0.5) * (side + GAP)
    drawn = kernel_sheet(load_bundle(at / "runs/all/model.safetensors").state["stages.0.conv1.weight"].numpy()).image()
    last = Image.open(io.BytesIO(found.Images("inside/kernels_of_stages.0.conv1")[1].encoded_image_string))
    assert np.array_equal(np.asarray(drawn), np.asarray(last))


def test_the_projector_has_the_features_of_the_validation_pictures(at: Path) -> None:
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_config_pb2

    folder = at / "runs/all/tensorboard"
    (said,) = text_format.Parse(
        (folder / "projector_config.pbtxt").read_text(), vars(projector_config_pb2)["ProjectorConfig"]()
    ).embeddings
    points = np.loadtxt(folder / said.tensor_path, delimiter="\t")
    names = [line.split("\t") for line in (folder / said.metadata_path).read_text().splitlines()]
    rows = [line.split(",") for line in (at / "runs/all/split.csv").read_text().splitlines()]
    validation = {row[0]: row[1] for row in rows if "validation" in row}
    assert names[0] == ["class", "picture"]
    assert {key: name for name, key in names[1:]} == validation
    assert points.shape == (len(validation), 32)
    sprite = Image.open(io.BytesIO((folder / said.sprite.image_path).read_bytes()))
    across = int(np.ceil(np.sqrt(len(points))))
    assert list(said.sprite.single_image_dim) == [8, 8]
    assert sprite.size == (8 * across, 8 * across)
    bundle = load_bundle(at / "runs/all/model.safetensors")
    for n in (0, len(points) - 1):  # thumbnail and features are of the same picture
        corner = n % across * 8, n // across * 8
        pixels = np.asarray(sprite.convert("L").crop((*corner, corner[0] + 8, corner[1] + 8)), np.float32)
        given = (torch.from_numpy(pixels)[None, None] / 255 - bundle.preprocess.mean[0]) / bundle.preprocess.std[0]
        with torch.no_grad():
            by_hand = bundle.module().get_submodule("stages")(given).amax((2, 3))[0]
        assert points[n] == pytest.approx(by_hand.numpy(), abs=1e-3)


def test_one_flag_fills_every_panel_and_changes_no_bit(at: Path) -> None:
    found, folder = board(at, "all"), at / "runs/all/tensorboard"
    assert all(found.Tags()[kind] for kind in ("scalars", "graph", "histograms", "images"))
    assert (folder / "projector_config.pbtxt").stat().st_size > 0
    events = json.loads((folder / "steps.pt.trace.json").read_text())["traceEvents"]
    steps = {event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}
    assert steps == {f"ProfilerStep#{n}" for n in range(5, 5 + len(steps))}
    assert steps
    assert any("conv" in event.get("name", "") for event in events)
    states = [load_bundle(at / "runs" / name / "model.safetensors").state for name in ("all", "plain")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not board(at, "plain").Tags()["histograms"]
    assert [file.name[:6] for file in (at / "runs/plain/tensorboard").iterdir()] == ["events"]


def test_a_training_too_short_for_a_trace_says_so(tmp_path: Path) -> None:
    words = ("--model", "mlp:8", "--set", "train.max_steps=4", "--board", "profile")
    done = train(tmp_path, "short", *FEW, *words)
    assert "there is no trace: it begins after the fifth step" in done.err
    assert "inside/maps_of" not in str(board(tmp_path, "short").Tags()["images"])
    assert "there is no trace" not in train(tmp_path, "curves", *FEW, "--set", "train.max_steps=4").err


def test_a_board_that_cannot_be_had_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.from_values({"train.board": "inside", "machine.parallel": "fsdp"})
    refuse_sharded(recipe, 1)
    with pytest.raises(UsageError, match="--board inside looks at whole ones"):
        refuse_sharded(recipe, 2)
    refuse_impossible(Settled(recipe, {}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--board inside needs tensorboard"):
        refuse_impossible(Settled(recipe, {}))
    refuse_impossible(Settled(Recipe(), {}))
    with pytest.raises(UsageError, match=r"train\.board"):
        Recipe.from_values({"train.board": "all"})
