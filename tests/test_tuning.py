"""How a network that has learned before is trained on: rates by depth, blocks one after the other, norms that are kept,
pictures as large as the time allows, and the stem of a resnet for small ones.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart, train
from torch import nn

from tellapart.errors import UsageError
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.models.start import depths, freeze, into_training
from tellapart.names import RESNETS
from tellapart.recipe import Recipe
from tellapart.training.optim import make_optimiser
from tellapart.training.own import groups_of
from tellapart.workflow import reach
from tellapart.workflow.settle import Settled
from tellapart.workflow.settle_input import settle_input

DIGITS = ("digits", "--limit", "200", "--no-test", "--batch-size", "50")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3))


def test_depth_is_counted_in_blocks_from_the_head():
    resnet = depths(build(Architecture(name="resnet18", num_classes=3, channels=3, size=32)))
    assert resnet["fc.weight"] == 0
    assert (resnet["layer4.1.conv1.weight"], resnet["layer4.0.downsample.0.weight"], resnet["layer1.0.bn1.bias"]) == (
        *(1, 2),
        8,
    )
    assert resnet["bn1.weight"] == 9
    assert resnet["conv1.weight"] == 10
    mobile = depths(build(Architecture(name="mobilenet_v2", num_classes=3, channels=3, size=32)))
    assert (mobile["classifier.1.bias"], mobile["features.18.0.weight"], mobile["features.0.1.weight"]) == (0, 1, 19)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "rmsprop"])
def test_the_rate_falls_by_a_factor_from_block_to_block(name):
    """Against one optimiser a block with the rate that the formula gives."""
    x, y = torch.randn(6, 1, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    whole, parts = net(), net()
    whole(x)  # gives the last layer its size
    parts(x)
    parts.load_state_dict(whole.state_dict())
    more = {"optim.name": name, "optim.weight_decay": 0.01}
    one = make_optimiser(whole, Recipe.from_values({**more, "optim.layer_decay": 0.5}).optim)
    each = [(part, make_optimiser(part, Recipe.from_values(more).optim)) for part in (parts[0], parts[1], parts[3])]
    for _ in range(3):
        for model in (whole, parts):
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
        one.step(0.01)
        for place, (_, other) in enumerate(each):
            other.step(0.01 * 0.5 ** (2 - place))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon", "rmsprop"])
def test_a_block_that_is_not_opened_yet_keeps_every_bit(name):
    x, y = torch.randn(6, 1, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    model = net()
    model(x)
    values = {"optim.name": name, "optim.unfreeze_every": 2, "optim.weight_decay": 0.1}
    optimiser = make_optimiser(model, Recipe.from_values(values).optim)
    before = {key: value.clone() for key, value in model.named_parameters()}
    for depth, open_ones in ((0, {"3"}), (1, {"3", "1"}), (2, {"3", "1", "0"})):
        optimiser.reach(depth)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step(0.1)
        changed = {
            key.partition(".")[0] for key, value in model.named_parameters() if not torch.equal(value, before[key])
        }
        assert changed == open_ones


def test_groups_are_as_few_as_before_where_nothing_is_asked():
    model = net()
    model(torch.zeros(2, 1, 5, 5))
    assert len(groups_of(model, 0.1)) == 2
    assert len(groups_of(model, 0.1, by_depth=True)) == 5
    assert {round(group.factor, 3) for group in groups_of(model, 0.1, layer_decay=0.5)} == {1.0, 0.5, 0.25}


def test_gradual_unfreezing_through_the_command(tmp_path):
    words = (*DIGITS, "--model", "quick", "--set", "optim.unfreeze_every=1", "--set", "input.normalize=none")
    train(tmp_path, "one", *words, "--epochs", "1")
    train(tmp_path, "two", *words, "--epochs", "2")
    fresh = build(load_bundle(tmp_path / "runs/one/model.safetensors").architecture, seed=0).state_dict()
    for name, opened in (("one", {"8"}), ("two", {"8", "7"})):
        state = load_bundle(tmp_path / "runs" / name / "model.safetensors").state
        changed = {key.partition(".")[0] for key in state if not torch.equal(state[key], fresh[key])}
        assert changed <= opened
        assert changed
    done = tellapart(tmp_path, "prove-resume", *DIGITS[:2], "100", "--batch-size", "20", *words[-6:], "--epochs", "2")
    assert done.code == 0, done.out + done.err
    assert len(re.findall(r"  equal ", done.out)) == 5


def test_norms_that_are_kept_stay_to_the_last_bit_and_others_do_not(tmp_path):
    for name, words in (("kept", ("--set", "model.keep_norms=true")), ("learned", ())):
        train(tmp_path, name, *DIGITS, "--epochs", "1", "--lr", "0.01", *words)
        state = load_bundle(tmp_path / "runs" / name / "model.safetensors").state
        means = [value for key, value in state.items() if key.endswith("running_mean")]
        assert means
        assert all(bool((mean == 0).all()) for mean in means) == (name == "kept")
    recipe = (tmp_path / "runs/learned/recipe.toml").read_text()
    assert "keep_norms = false  # auto: they are not pretrained" in recipe


def test_a_norm_without_weights_is_kept_too():
    model = nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.Dropout())
    into_training(model, keep_norms=True)
    assert [one.training for one in model] == [False, True]
    into_training(model)
    assert [one.training for one in model] == [True, True]


def settled(size: int, **values: object) -> Recipe:
    recipe = Recipe.from_values({key.replace("__", "."): value for key, value in values.items()})
    return settle_input(Settled(recipe, {}), np.array([[size, size, 3]]), ()).recipe


@pytest.mark.parametrize(
    ("side", "values", "size", "small"),
    [
        (8, {}, 8, True),
        (28, {}, 28, True),
        (64, {}, 64, True),
        (80, {}, 128, False),
        (28, {"model__small_stem": False}, 32, False),
        (200, {"input__size": 48}, 48, True),
        (28, {"model__weights": "body.pth"}, 224, False),
    ],
)
def test_a_resnet_keeps_small_pictures_large_at_its_start(side, values, size, small):
    recipe = settled(side, model__name="resnet18", **values)
    assert (recipe.input.size, recipe.model.small_stem) == (size, small)


def test_the_stem_is_for_resnets_and_a_run_has_it(tmp_path):
    done = tellapart(tmp_path, "train", "digits", "--model", "vgg11", "--set", "model.small_stem=true")
    assert done.code == 2
    assert "model.small_stem is for resnets; the network is vgg11." in done.err
    train(tmp_path, "r", *DIGITS[:-2], "--model", "resnet18", "--set", "train.max_steps=1", "--set", "input.size=8")
    bundle = load_bundle(tmp_path / "runs/r/model.safetensors")
    assert bundle.architecture.args == {"small_stem": 1}
    assert bundle.state["conv1.weight"].shape == (64, 3, 3, 3)
    assert "resnext50_32x4d" in RESNETS
    assert "vgg11" not in RESNETS


def test_weights_that_want_their_own_size_get_it():
    assert settled(300, model__name="inception_v3", model__weights="a.pth").input.size == 299


@pytest.mark.parametrize(
    ("budget", "side", "pictures", "size"),
    [
        ("1000s", 500, 100, 224),
        ("120s", 28, 600, 128),
        ("1s", 28, 600, 96),
        ("1s", 500, 600, 160),
    ],
)
def test_a_budget_has_the_largest_pictures_it_has_room_for(monkeypatch, budget, side, pictures, size):
    """At 2 microseconds a pixel: 120 s x 0.7 / (4 x 600) = 35 ms = 17,500 pixels, and 132 x 132 of them."""
    monkeypatch.setattr(reach, "_seconds_a_pixel", lambda *_: 2e-6)
    values = {"model.name": "mobilenet_v2", "model.weights": "a.pth", "train.budget": budget}
    sizes = np.array([[side, side, 3]])
    asked = Settled(Recipe.from_values(values), {})
    found = reach.within_reach(asked, pictures, sizes)
    assert found.recipe.input.size == size
    assert found.origins["input.size"].startswith("auto: ")
    for more in ({"input.size": 64}, {"model.freeze": "body"}, {"train.budget": ""}, {"model.weights": ""}):
        other = Settled(Recipe.from_values({**values, **more}), {})
        assert reach.within_reach(other, pictures, sizes) is other


def test_a_step_is_timed_by_the_pixel():
    each = reach._seconds_a_pixel("squeezenet1_1", torch.device("cpu"))
    assert 1e-9 < each < 1e-4


def test_judging_in_pieces_changes_no_answer(tmp_path, monkeypatch):
    from tellapart.evaluation import predict

    train(tmp_path, "a", *DIGITS, "--epochs", "1")
    whole = json.loads((tmp_path / "runs/a/status.json").read_text())["figures"]
    monkeypatch.setattr(predict, "AT_ONCE", 7 * 8 * 8)
    train(tmp_path, "b", *DIGITS, "--epochs", "1")
    pieces = json.loads((tmp_path / "runs/b/status.json").read_text())["figures"]
    assert [one["value"] for one in whole] == pytest.approx([one["value"] for one in pieces], rel=1e-5)


def test_a_plain_script_refuses_what_it_has_no_words_for(tmp_path: Path):
    train(tmp_path, "a", *DIGITS, "--epochs", "1", "--set", "optim.layer_decay=0.9")
    done = tellapart(tmp_path, "export", "script", "a")
    assert done.code == 2
    assert "no words for optim.layer_decay" in done.err


def test_freezing_by_depth_leaves_the_last_blocks(tmp_path: Path):
    model = build(Architecture(name="mobilenet_v2", num_classes=3, channels=3, size=32))
    freeze(model, "15")
    trained = {".".join(name.split(".")[:2]) for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {*(f"features.{n}" for n in range(15, 19)), "classifier.1"}
    with pytest.raises(UsageError, match="99 leaves nothing to train"):
        freeze(model, "99")
    with pytest.raises(UsageError, match="no weight is called 0"):
        freeze(model, "0")


def test_a_branch_sees_what_its_parent_saw(tmp_path: Path):
    words = ("--limit", "40", "--no-test", "--batch-size", "8", "--model", "resnet18", "--set", "train.max_steps=1")
    train(tmp_path, "a", "digits", *words, "--set", "input.size=16")
    done = tellapart(tmp_path, "branch", "a", "--run", "b", "--set", "train.max_steps=1", "--set", "input.size=70")
    assert done.code == 0, done.err
    one, other = (load_bundle(tmp_path / f"runs/{name}/model.safetensors") for name in "ab")
    assert (one.architecture.size, other.architecture.size) == (16, 70)
    assert one.architecture.args == other.architecture.args == {"small_stem": 1}


def test_blocks_are_the_big_parts_of_networks_that_have_no_sequence():
    for name, most in (("inception_v3", 20), ("googlenet", 18), ("vit_b_32", 18), ("densenet121", 14)):
        with torch.device("meta"):
            found = depths(build(Architecture(name=name, num_classes=3, channels=3, size=299)))
        assert 8 <= max(found.values()) <= most, name
        assert next(reversed(found.values())) == 0


def test_the_penalty_is_chosen_on_pictures_of_every_class(monkeypatch):
    from tellapart.training import probe

    torch.manual_seed(0)
    labels = torch.arange(3).repeat_interleave(200)
    features = torch.randn(600, 5) + 2 * nn.functional.one_hot(labels, 3).float() @ torch.randn(3, 5)
    monkeypatch.setattr(probe, "MOST", 300)  # the first 300 of them have no picture of the third class
    found = probe.probed(features, labels, torch.arange(600) % 5, classes=3)
    assert found.accuracy == found.accuracy


def test_frozen_fresh_weights_are_said(tmp_path: Path):
    note = "what is frozen has fresh weights and learned nothing before"
    done = train(tmp_path, "a", *DIGITS, "--freeze", "body", "--epochs", "1")
    assert note in done.err
    assert note not in train(tmp_path, "b", *DIGITS, "--epochs", "1").err
    branched = tellapart(tmp_path, "branch", "b", "--freeze", "body", "--epochs", "1", "--run", "c")
    assert branched.code == 0
    assert note not in branched.err
    other = tellapart(tmp_path, "branch", "b", "--set", "model.weights=x.pth", "--run", "d")
    assert (other.code, "A branch begins with the weights of b." in other.err) == (2, True)


def test_a_picture_that_is_not_ours_is_never_drawn_over(tmp_path: Path):
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "mine.png")
    before = (tmp_path / "mine.png").read_bytes()
    for words in (("data", "show", "digits"), ("model", "activations"), ("model", "kernels", "small")):
        done = tellapart(tmp_path, *words, "--out", "mine.png")
        assert done.code == 4
        assert "mine.png exists, and tellapart did not draw it." in done.err
        assert (tmp_path / "mine.png").read_bytes() == before
        for _ in range(2):  # ours is drawn over
            assert tellapart(tmp_path, *words, "--out", "ours.png").code == 0


@pytest.mark.parametrize(
    ("classes", "grey", "flip"),
    [
        (("0", "1", "2"), 0, False),
        (("a", "B"), 0, False),
        (("one", "seven"), 0, False),
        (("cat", "dog"), 0, True),
        (("1", "cat"), 0, True),
        (("猫", "狗"), 0, True),
        (("cat", "dog"), 95, False),
        (("cat", "dog"), 50, True),
    ],
)
def test_what_may_be_digits_or_letters_is_not_mirrored(classes: tuple[str, ...], grey: int, flip: bool) -> None:
    sizes = np.array([[40, 40, 1]] * grey + [[40, 40, 3]] * (100 - grey))
    settled = settle_input(Settled(Recipe(), {}), sizes, classes)
    assert (settled.recipe.augment.preset, settled.recipe.augment.flip) == ("light", flip)
    asked = Recipe.from_values({"augment.flip": True})
    assert settle_input(Settled(asked, {}), sizes, classes).recipe.augment.flip is True
