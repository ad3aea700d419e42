"""`tellapart advise`: other advice for other pictures, the numbers `train` would take; networks tried side by side."""

import csv
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import NET, write_body
from commands import Done, tellapart
from numpy.typing import NDArray
from pictures import make_folder
from torch import nn

from tellapart.data.index import NO_PART, Index, Strings
from tellapart.models.build import Architecture, build
from tellapart.models.catalogue import default_file
from tellapart.models.zoo import build_torchvision
from tellapart.recipe import Recipe
from tellapart.workflow import advise as advising
from tellapart.workflow.advise import Advised, Seen, advise, choice
from tellapart.workflow.pace import Pace
from tellapart.workflow.train import Asking

ROOT = Path(__file__).parent.parent
SEEN = {"source": "x", "validation": 100, "classes": 2, "least": 50, "side": 256, "grey": False, "cpu": True}


def chosen(**more: object) -> tuple[str, str, str]:
    """Network, weights and what stays, for SEEN with some of it changed."""
    seen = Seen(**{"training": 100, **SEEN, **more, "pictures": 0})  # type: ignore[arg-type]
    values, advice = choice(seen)
    assert [one.what for one in advice] == ["model", "weights", "freeze"]
    assert [one.value for one in advice] == [value or "none" for value in values]
    assert all(len(one.why) > 10 for one in advice)
    return values


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"training": 100}, ("mobilenet_v2", "default", "body")),
        ({"training": 1_999}, ("mobilenet_v2", "default", "body")),
        ({"training": 2_000}, ("mobilenet_v2", "default", "")),
        ({"training": 100_000}, ("mobilenet_v2", "default", "")),
        ({"training": 100, "cpu": False}, ("resnet50", "default", "body")),
        ({"training": 100, "side": 64}, ("mobilenet_v2", "default", "body")),
        ({"training": 2_000, "side": 64}, ("small", "", "")),
        ({"training": 2_000, "side": 65}, ("mobilenet_v2", "default", "")),
        ({"training": 100, "side": 28, "grey": True}, ("small", "", "")),
        ({"training": 100, "file": "/w/r.pth", "network": "resnet34"}, ("resnet34", "/w/r.pth", "body")),
    ],
)
def test_the_rules(more: dict, expected: tuple[str, str, str]) -> None:
    assert chosen(**more) == expected


class Noise:
    """A store of pictures that are made when they are read; which were read is remembered."""

    def __init__(self) -> None:
        self.read_rows: set[int] = set()

    def read(self, row: int, most: int = -1, /) -> NDArray[np.uint8]:
        self.read_rows.add(row)
        return np.random.default_rng(row).integers(0, 256, (240, 320, 3), np.uint8)

    def stamps(self, rows: NDArray[np.int64]) -> None:
        return None


def made(n: int) -> tuple[Index, Noise]:
    """An index of n pictures of four classes."""
    store = Noise()
    labels, parts = np.arange(n) % 4, np.full(n, NO_PART, np.uint8)
    keys = Strings.of(str(row) for row in range(n))
    return Index(
        name="made", classes=("ant", "bee", "cat", "dog"), keys=keys, labels=labels, parts=parts, store=store
    ), store


PACE = Pace(first=1.0, step=0.4, low=0.4, high=0.5, steps=7, judging=0.02, saving=0.1, checkpoint=1000)


def advised(n: int) -> Advised:
    index, store = made(n)
    *_, found = advise(Recipe.from_values({"machine.device": "cpu"}), Asking(index=index))
    assert isinstance(found, Advised)
    assert len(store.read_rows) <= 256
    return found


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Advised, Advised]]:
    """The advice for 100 pictures and for 100,000, where a step takes what PACE says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(advising, "measured", lambda _: PACE)
        yield advised(100), advised(100_000)


def test_a_hundred_pictures_and_a_hundred_thousand_get_other_advice(both: tuple[Advised, Advised]) -> None:
    few, many = ({one.what: one.value for one in found.advice} for found in both)
    assert (few["freeze"], few["epochs"]) == ("body", "0")
    assert (many["freeze"], many["epochs"]) == ("none", "6")
    assert few["weights"] == many["weights"] == "default"
    assert float(many["learning rate"]) == pytest.approx(3e-3 / 15, rel=1e-3)
    assert "learning rate" not in few  # nothing is trained by steps


def test_the_seconds_are_those_of_the_measured_step(both: tuple[Advised, Advised]) -> None:
    few, many = both
    assert (few.seen.training, few.seen.validation) == (70, 15)
    assert few.epoch_seconds == pytest.approx(70 * 0.4 / 8 + 15 * 0.02)
    assert few.seconds == pytest.approx((2 * 70 + 15) * 0.02)  # the head alone, on pictures and their mirror images
    epoch = 70_000 * 0.4 / 8 + 15_000 * 0.02
    assert many.epoch_seconds == pytest.approx(epoch)
    assert many.seconds == pytest.approx(6 * epoch + (2 * 70_000 + 15_000) * 0.02)


def test_the_advice_is_what_train_would_take_by_itself(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "advise", "digits", "--limit", "400", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    advice = {one["what"]: one["value"] for one in found["advice"]}
    assert found["commands"]["the training that is advised"] == "tellapart train digits --limit 400"
    assert found["epoch_seconds"] > 0
    dry = tellapart(tmp_path, "train", "digits", "--limit", "400", "--dry-run", "--json")
    values = {path: why.split("  (")[0] for path, why in json.loads(dry.out)["settled"].items()}
    assert values["input.size"] == advice["input size"]
    assert values["train.epochs"] == advice["epochs"]
    assert values["optim.lr"] == advice["learning rate"]
    assert json.loads(dry.out)["epoch"] > 0
    assert not (tmp_path / "runs").exists()


def test_it_is_said_in_words_with_the_next_commands(class_folder: Path) -> None:
    done = tellapart(class_folder.parent, "advise", "pets", "--split", "new")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("pets: 36 colour pictures of 3 classes, 12 of the rarest; about 26 to train on;")
    assert re.search(r"an epoch of steps takes about \S+ s \(\d+ made-up pictures in \S+ ms a step", done.out)
    assert re.search(r"freeze +body +26 pictures fit a head; millions of weights would learn them by heart", done.out)
    assert "  tellapart train pets --split new --model mobilenet_v2 --weights default --freeze body" in lines
    assert "  tellapart baseline pets --split new --model mobilenet_v2 --weights default" in lines
    other = tellapart(class_folder.parent, "advise", "nowhere")
    assert (other.code, "nowhere" in other.err) == (2, True)
    other = tellapart(class_folder.parent, "advise", "pets", "--weights", "none")
    assert (other.code, "Leave --weights none out." in other.err) == (2, True)


# --- networks side by side --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets`, and `body.safetensors`, weights of a network."""
    at = tmp_path_factory.mktemp("advise")
    make_folder(at / "pets")
    write_body(at / "body.safetensors")
    return at


def searched(at: Path, name: str, *words: str) -> tuple[Done, list[dict[str, str]]]:
    done = tellapart(at, "search", "pets", "--epochs", "1", "--run", name, *words)
    assert done.code == 0, done.err
    with (at / "runs" / name / "trials.csv").open(newline="") as file:
        return done, list(csv.DictReader(file))


def test_several_networks_are_ranked_by_validation_with_what_they_took(pets: Path) -> None:
    done, rows = searched(pets, "networks", "--try", "model.name=small,linear,mlp:8")
    head, *lines = done.out.splitlines()[:4]
    costs = "parameters  best epoch  seconds  state"
    assert re.split(r"  +", head) == ["trial", "model.name", "validation accuracy [95 % interval]", *costs.split("  ")]
    shares = [float(re.search(r"([\d.]+) % \[", line)[1]) for line in lines]  # type: ignore[index]
    assert shares == sorted(shares, reverse=True)
    for row in rows:
        network = build(Architecture(name=row["model.name"], num_classes=3, channels=3, size=12))
        assert int(row["parameters"]) == sum(weight.numel() for weight in network.parameters())
        assert row["best_epoch"] == "1"
        assert float(row["seconds"]) > 0


def test_from_scratch_and_pretrained_are_compared_with_the_epoch_each_was_best_in(pets: Path) -> None:
    words = ("--model", NET, "--try", "model.weights=none,body.safetensors", "--set", "input.size=32", "--lr", "1e-20")
    done, rows = searched(pets, "scratch", *words)
    epochs = {row["model.weights"]: row["best_epoch"] for row in rows}
    assert epochs == {"none": "1", "body.safetensors": "0"}, done.out  # at such a rate no epoch beats the fitted head
    assert len({row["parameters"] for row in rows}) == 1


def says(*phrases: str) -> None:
    text = " ".join((ROOT / "docs" / "advise.md").read_text(encoding="utf-8").split())
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_the_page_states_the_facts() -> None:
    says("it begins from the present weights, with a small rate", "Only `--weights none` trains from scratch")
    says("Neither the accuracy on ImageNet nor the year decides", "Try several on some of the pictures")
    says("let a network do more, and over-fit more, and are harder to train")
    says("Few pictures: keep most of the published network and change a small part. Many: the opposite.")
    says("double after every pooling but the last: 64, 128, 256, 512, 512")
    for path, value in {"LITTLE": "side up to 64", "FEW": "below 2,000", "MANY": "from 50,000"}.items():
        assert f"{getattr(advising, path):,}" in value
        says(value)


def test_vgg_doubles_its_maps_after_every_pooling_but_the_last() -> None:
    with torch.device("meta"):
        layers = list(build_torchvision("vgg16", 10).features)  # type: ignore[arg-type]
    widths, kinds = [], (nn.Conv2d, nn.MaxPool2d)
    for before, after in pairwise(one for one in layers if isinstance(one, kinds)):
        widths += [before.out_channels] if isinstance(after, nn.MaxPool2d) else []  # type: ignore[list-item]
    assert widths == [64, 128, 256, 512, 512]


def test_the_figures_of_the_reasons_are_torchvisions() -> None:
    for name in (advising.QUICK, advising.STRONG):
        entry = advising.stated(name)
        assert (entry.name, entry.file) == (name, default_file(name))
