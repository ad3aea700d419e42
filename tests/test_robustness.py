"""Pictures spoilt on purpose, against plain versions of each way; and slices, with planted weak ones."""

import io
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import make_folder
from PIL import Image, ImageFilter

from tellapart.evaluation.metrics import proportion
from tellapart.evaluation.robustness import REMEDY, STRENGTHS, spoilt
from tellapart.evaluation.slices import binned, slices
from tellapart.recipe_augment import Augment
from tellapart.workflow.robust import Robustness

ROWS = np.arange(2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on the digits that come with us."""
    return train(tmp_path_factory.mktemp("digits"), "a", "digits")


def noisy(channels: int = 3, side: int = 40) -> torch.Tensor:
    """Two pictures (2 S S C) uint8, smooth enough for a comparison."""
    chance = np.random.default_rng(channels)
    small = chance.integers(0, 256, (2, 6, 6, channels), np.uint8)
    large = [[np.asarray(Image.fromarray(one[..., c]).resize((side, side))) for c in range(channels)] for one in small]
    return torch.from_numpy(np.stack([np.stack(one, -1) for one in large]))


@pytest.mark.parametrize("way", STRENGTHS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_way_spoils_more_with_strength_and_keeps_the_shape(way, channels):
    images = noisy(channels)
    off = []
    for strength in range(1, 6):
        made = spoilt(images, way, strength, ROWS)
        assert (made.shape, made.dtype) == (images.shape, torch.uint8)
        off.append((made.float() - images.float()).abs().mean().item())
    assert off[0] > 0
    assert all(later > before * 0.98 for before, later in pairwise(off)), off


def test_blur_is_pillows():
    images = noisy(1, side=100)
    pillows = Image.fromarray(images[0, ..., 0].numpy()).filter(ImageFilter.GaussianBlur(3))
    inner = slice(12, -12)
    ours = spoilt(images, "blur", 3, ROWS)[0, ..., 0].numpy()[inner, inner].astype(int)
    assert np.abs(ours - np.asarray(pillows)[inner, inner]).mean() < 1


def test_rotation_is_pillows_to_either_side():
    images = noisy(1, side=101)
    for row, angle in ((0, 25), (1, -25)):
        pillows = np.asarray(Image.fromarray(images[row, ..., 0].numpy()).rotate(angle, Image.Resampling.BILINEAR))
        inner = slice(25, -25)
        ours = spoilt(images, "rotation", 4, ROWS)[row, ..., 0].numpy()[inner, inner].astype(int)
        turned = [np.abs(ours - one[inner, inner]).mean() for one in (pillows, np.asarray(images[row, ..., 0]))]
        assert turned[0] < 2 < turned[1]


def test_light_is_arithmetic():
    images = noisy()
    whole = images.numpy().astype(float)
    assert np.array_equal(spoilt(images, "darker", 2, ROWS).numpy(), np.round((whole * np.float32(0.6)).clip(0, 255)))
    assert np.array_equal(spoilt(images, "brighter", 2, ROWS).numpy(), np.round((whole + 51).clip(0, 255)))


def test_noise_has_its_deviation_and_is_that_of_the_row():
    images = torch.full((2, 64, 64, 1), 128, dtype=torch.uint8)
    made = spoilt(images, "noise", 3, ROWS)
    assert made.float().std().item() == pytest.approx(0.1 * 255, rel=0.05)
    assert not torch.equal(made[0], made[1])
    assert torch.equal(spoilt(images[1:], "noise", 3, ROWS[1:])[0], made[1])


def test_a_jpeg_is_pillows():
    images = noisy()
    file = io.BytesIO()
    Image.fromarray(images[1].numpy()).save(file, "JPEG", quality=15)
    assert np.array_equal(spoilt(images, "JPEG", 4, ROWS)[1].numpy(), np.asarray(Image.open(file)))


def test_robustness_is_judged_kept_and_said(digits):
    done = tellapart(digits.at, "test", "a", "--robustness", "--json")
    assert done.code == 0, done.err
    kept = json.loads((digits.run("a").folder / "robustness.json").read_text())
    assert json.loads(done.out)["robustness"] == kept
    assert [one["about"] for one in kept["figures"]] == ["", *(f"{way} {n}" for way in STRENGTHS for n in range(1, 6))]
    clean = digits.run("a").status()["figures"][0]
    assert (kept["figures"][0]["value"], kept["figures"][0]["n"]) == (clean["value"], clean["n"])
    table = tellapart(digits.at, "test", "a", "--robustness").out
    assert all(f"\n{way} " in table for way in STRENGTHS)  # a row for each
    assert "darker: falls from " in table
    assert "; try --set augment.brightness=0.5" in table


def test_a_fall_is_said_where_it_is_sure_and_not_elsewhere():
    def made(weak: int, n: int, blur: float = 0.0) -> list[str]:
        kinds = [(way, strength) for way in STRENGTHS for strength in range(1, 6)]
        rest = [
            proportion("accuracy", weak if kind == ("blur", 4) else n - 5, n, "validation", "{} {}".format(*kind))
            for kind in kinds
        ]
        figures = [proportion("accuracy", n - 5, n, "validation"), *rest]
        return list(Robustness(figures=figures, augment=Augment(blur=blur)).findings())

    falls = "blur: falls from 95.0 to 60.0 % at strength 4 of 5"
    assert made(60, 100) == [f"{falls}; try --set augment.blur=1"]
    assert made(60, 100, blur=0.5) == [f"{falls}; try --set augment.blur=1 (it had 0.5)"]
    assert made(60, 100, blur=1.0) == [f"{falls}; it was trained against that already, with augment.blur = 1"]
    assert made(94, 100) == []
    assert made(6, 10) == []  # ten pictures show nothing


def test_each_remedy_can_be_typed(tmp_path):
    for name, value in set(REMEDY.values()):
        done = tellapart(tmp_path, "train", "digits", "--set", f"augment.{name}={value:g}", "--dry-run")
        assert done.code == 0, done.err


def test_a_run_that_was_not_judged_has_no_robustness(tmp_path):
    done = tellapart(tmp_path, "test", "a", "digits", "--robustness")
    assert (done.code, "--robustness, --views and --slice are of a run" in done.err) == (2, True)


def test_a_planted_weak_slice_is_found_and_its_clean_twin_is_silent():
    chance = np.random.default_rng(0)
    names = chance.choice(["north", "south", "east", "west"], 800).tolist()
    right = chance.random(800) < np.where(np.array(names) == "south", 0.75, 0.95)
    worst, *rest = slices(right, names, "test")
    assert (worst.figure.about, worst.sure) == ("south", True)
    assert worst.off == pytest.approx(
        right[np.array(names) == "south"].mean() - right[np.array(names) != "south"].mean()
    )
    assert worst.low < worst.off < worst.high < 0
    assert len(rest) == 3
    even = np.arange(800) % 10 > 0
    assert not any(one.sure for one in slices(even, names, "test"))


def test_names_stand_the_worst_first_and_numbers_from_the_least():
    right = np.arange(80) % 8 > 0
    right[20:40] = np.arange(20) % 2 > 0
    for names, order in (
        (["b", "a", "d", "c"], ["a", "b", "d", "c"]),
        (["9", "10", "2", ""], ["2", "9", "10", "(none)"]),
    ):
        found = [one.figure.about for one in slices(right, np.repeat(names, 20).tolist(), "test")]
        assert found[0] == order[0] if names[0] == "b" else found == order
    quarters = [one.figure.about for one in slices(right, [f"{n / 7:.3f}" for n in range(80)], "test")]
    assert quarters == sorted(quarters, key=lambda name: float(name.split()[0]))


def test_slices_of_chance_are_seldom_sure():
    """Of twenty slices one would be, each for itself; Holm's method knows how many were looked at."""
    chance, told = np.random.default_rng(1), 0
    for _ in range(200):
        names = chance.integers(0, 20, 1000).astype(str).tolist()
        told += any(one.sure for one in slices(chance.random(1000) < 0.8, names, "test"))
    assert told / 200 < 0.08


def test_numbers_of_many_values_are_quarters_and_names_stay():
    values = [f"{n / 100:.2f}" for n in range(100)]
    found = binned(values)
    assert sorted(set(found)) == ["0 to 0.247", "0.247 to 0.495", "0.495 to 0.742", "0.742 to 0.99"]
    assert [found.count(one) for one in sorted(set(found))] == [25, 25, 25, 25]
    assert binned([*values, ""])[-1] == ""
    assert binned([*values, "red"]) == [*values, "red"]
    assert binned(["1", "2"] * 30) == ["1", "2"] * 30
    assert math.isclose(float(found[0].split()[0]), 0)


def test_pictures_are_sliced_by_what_is_known_of_them(tmp_path):
    make_folder(tmp_path / "pets")
    train(tmp_path, "a", "pets", "--epochs", "2", "--no-test")
    keys = [line.split(",")[0] for line in (tmp_path / "runs/a/split.csv").read_text().splitlines()[1:]]
    (tmp_path / "meta.csv").write_text(
        "path,camera\n" + "".join(f"{key},{'new' if 'cat' in key else 'old'}\n" for key in keys)
    )
    for by in ("brightness", "size", "aspect", "meta.csv:camera"):
        done = tellapart(tmp_path, "test", "a", "--slice", by)
        assert done.code == 0, done.err
        assert f"by {by}" in done.out
    said = json.loads(tellapart(tmp_path, "test", "a", "--slice", "meta.csv:camera", "--json").out)["slices"]
    assert {one["figure"]["about"] for one in said["meta.csv:camera"]} <= {"new", "old"}


@pytest.mark.parametrize(
    ("by", "code", "words"),
    [
        ("colour", 2, "Pictures are not sliced by 'colour'."),
        ("nothing.csv:x", 2, "There is no table 'nothing.csv'."),
        ("meta.csv:camra", 2, "Did you mean 'camera'?"),
        ("other.csv:camera", 3, "No column of other.csv names the pictures."),
        ("strange.csv:camera", 3, "strange.csv names none of the 269 pictures"),
        ("group", 3, "The pictures of a have no groups."),
    ],
)
def test_what_cannot_be_sliced_by_is_said(digits, by, code, words):
    for name, text in (("meta", "path,camera\na,b\n"), ("other", "x,camera\na,b\n"), ("strange", "path,camera\na,b\n")):
        (digits.at / f"{name}.csv").write_text(text)
    done = tellapart(digits.at, "test", "a", "--slice", by)
    assert (done.code, words in done.err) == (code, True), done.err
