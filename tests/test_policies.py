"""RandAugment and TrivialAugment: every move against torchvision, how often each is drawn, and in which order."""

from itertools import product
from math import atan, degrees
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from tellapart.data import augment, moves
from tellapart.data.augment import augmenter
from tellapart.data.chance import Purpose, uniform
from tellapart.data.colour import sharpened
from tellapart.data.loader import Batch
from tellapart.data.table import MOVES, looked_up, tabled
from tellapart.recipe_augment import Augment

SPACES: dict[str, Any] = {"rand": v2.RandAugment, "trivial": v2.TrivialAugmentWide}
THEIRS = {
    "Identity": "identity",
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "shift_x",
    "TranslateY": "shift_y",
    "Rotate": "rotate",
    "Brightness": "brightness",
    "Color": "saturation",
    "Contrast": "contrast",
    "Sharpness": "sharpness",
    "Posterize": "posterize",
    "Solarize": "solarize",
    "AutoContrast": "autocontrast",
    "Equalize": "equalize",
}
NAMES = list(moves.SPACE)
STILL: Any = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
SMOOTH: Any = {"interpolation": TF.InterpolationMode.BILINEAR}


def batch_of(images: torch.Tensor, *, rows: np.ndarray | None = None) -> Batch:
    rows = 50 + np.arange(len(images)) if rows is None else rows
    return Batch(images, torch.arange(len(images)) % 3, rows, uniform(3, Purpose.AUGMENT, 1, rows), 3, 1)


def kinds(side: int, channels: int) -> torch.Tensor:
    """Noise, faint, a slope, two levels, one level, black, white, and dark with one bright pixel: (8 S S C) uint8."""
    chance, shape = np.random.default_rng((side, channels)), (side, side, channels)
    slope = np.broadcast_to(np.linspace(20, 230, side)[:, None, None], shape)
    lonely = np.full(shape, 3)
    lonely[0, 0] = 250
    several = [
        *(chance.integers(0, 256, shape), chance.integers(90, 140, shape), slope, chance.choice([40, 41], shape)),
        *(np.full(shape, 77), np.zeros(shape), np.full(shape, 255), lonely),
    ]
    return torch.from_numpy(np.stack(several).astype(np.uint8))


def by_theirs(name: str, picture: torch.Tensor, magnitude: float) -> torch.Tensor:
    """One move of torchvision's on a picture (C S S) uint8, by what its policies do with that magnitude."""
    ways: dict[str, Any] = {
        "identity": lambda: picture,
        "shear_x": lambda: TF.affine(
            picture, **{**STILL, "shear": [degrees(atan(magnitude)), 0.0]}, center=[0, 0], **SMOOTH
        ),
        "shear_y": lambda: TF.affine(
            picture, **{**STILL, "shear": [0.0, degrees(atan(magnitude))]}, center=[0, 0], **SMOOTH
        ),
        "shift_x": lambda: TF.affine(picture, **{**STILL, "translate": [int(magnitude), 0]}, **SMOOTH),
        "shift_y": lambda: TF.affine(picture, **{**STILL, "translate": [0, int(magnitude)]}, **SMOOTH),
        "rotate": lambda: TF.rotate(picture, magnitude, **SMOOTH),
        "brightness": lambda: TF.adjust_brightness(picture, 1 + magnitude),
        "saturation": lambda: TF.adjust_saturation(picture, 1 + magnitude),
        "contrast": lambda: TF.adjust_contrast(picture, 1 + magnitude),
        "sharpness": lambda: TF.adjust_sharpness(picture, 1 + magnitude),
        "posterize": lambda: TF.posterize(picture, int(magnitude)),
        "solarize": lambda: TF.solarize(picture, 255 * magnitude),
        "autocontrast": lambda: TF.autocontrast(picture),
        "equalize": lambda: TF.equalize(picture),
    }
    return ways[name]()


def magnitude_of(policy: str, name: str, level: int, side: int) -> float:
    """Torchvision's magnitude without its rounding to float32, which makes 15.99 of 16 pixels and 101.99 of 102."""
    values = SPACES[policy]._AUGMENTATION_SPACE[name][0](31, side, side)
    if values is None or name == "Posterize":
        return 0.0 if values is None else float(values[level])
    exact = float(np.linspace(float(values[0]), float(values[-1]), 31)[level])
    assert exact == pytest.approx(float(values[level]), abs=1e-5)
    return exact


def strength(level: int, sign: int) -> float:
    """The number in [0, 1) that draws this level of 0 to 30 and this sign."""
    return (level + 0.5) / 31 / 2 + (0.5 if sign > 0 else 0.0)


def drawing(monkeypatch: pytest.MonkeyPatch, **numbers: Any) -> None:
    """Let the pictures draw these numbers, and a half for all others."""
    number = len(next(iter(numbers.values())))
    names = ("shift_y", "shift_x", "flip", "flip_vertical", *moves.DRAWS)
    given = {name: np.asarray(numbers.get(name, np.full(number, 0.5)), np.float64) for name in names}
    monkeypatch.setattr(augment, "drawn", lambda batch: given)


def picking(*names: str) -> np.ndarray:
    """The numbers in [0, 1) that draw these moves."""
    return np.array([(NAMES.index(name) + 0.5) / len(NAMES) for name in names])


def planes(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2)


# --- the spaces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SPACES)
def test_a_space_has_exactly_the_members_of_torchvision(policy):
    assert [THEIRS[name] for name in SPACES[policy]._AUGMENTATION_SPACE] == NAMES


@pytest.mark.parametrize("side", [28, 100])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", SPACES)
def test_every_move_of_every_strength_equals_that_of_torchvision(policy, channels, side, monkeypatch):
    levels = [9] if policy == "rand" else range(0, 31, 1 if side == 28 else 6)
    cases = list(product(THEIRS, levels, (-1, 1)))
    strengths = [strength(level, sign) for _, level, sign in cases]
    first = picking(*(THEIRS[name] for name, _, _ in cases))
    drawing(monkeypatch, first=first, first_strength=strengths, second=picking(*["identity"] * len(cases)))
    images = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8))
    given = images.expand(len(cases), -1, -1, -1)
    made = augmenter(Augment(policy=policy, padding="constant"), 3)(batch_of(given)).images
    allowed = {"shear": 1, "shift": 0, "rotate": 1, "brightness": 1, "saturation": 2, "contrast": 2, "sharpness": 1}
    for (name, level, sign), ours in zip(cases, made, strict=True):
        magnitude = magnitude_of(policy, name, level, side) * (
            sign if SPACES[policy]._AUGMENTATION_SPACE[name][1] else 1
        )
        theirs = by_theirs(THEIRS[name], images.permute(2, 0, 1), magnitude).permute(1, 2, 0)
        most = int((ours.int() - theirs.int()).abs().max())
        assert most <= allowed.get(THEIRS[name].split("_")[0], 0), (name, level, sign, most)


@pytest.mark.parametrize(("policy", "number"), [("rand", 2), ("trivial", 1)])
def test_every_move_strength_and_side_is_drawn_about_as_often_as_the_others(policy, number):
    chance = moves.drawn(batch_of(torch.zeros(40_000, 1, 1, 1, dtype=torch.uint8)))
    n = moves.numbers(Augment(policy=policy), chance, 100)
    drawn = [n[f"{draw}_move"].astype(int) for draw in ("first", "second")][:number]
    for chosen in drawn:
        assert stats.chisquare(np.bincount(chosen, minlength=14)).pvalue > 1e-3
    if policy == "rand":
        together = np.bincount(14 * drawn[0] + drawn[1], minlength=196)
        assert stats.chisquare(together).pvalue > 1e-3  # neither depends on the other
        assert set(np.abs(n["rotate"]).round(6)) == {0.0, round(np.radians(9), 6), round(np.radians(18), 6)}
        return
    assert not n["second_move"].any()
    for name, widest in (("rotate", np.radians(135)), ("shift_x", None), ("contrast", 0.99), ("solarize", 255.0)):
        mine = drawn[0] == NAMES.index(name)
        levels = np.bincount(np.rint(30 * n["first_amount"][mine] / (widest or 32)).astype(int), minlength=31)
        assert len(levels) == 31
        assert stats.chisquare(levels).pvalue > 1e-3
    for name, none in (("rotate", 0), ("shear_y", 0), ("sharpness", 1)):
        right, left = (n[name] > none).sum(), (n[name] < none).sum()
        assert stats.binomtest(int(right), int(right + left)).pvalue > 1e-3


# --- tables -----------------------------------------------------------------------------------------------------------


def one_move(number: int, name: str, amount: float = 0.0, second: str = "identity") -> dict[str, np.ndarray]:
    values = {"first_move": NAMES.index(name), "first_amount": amount, "second_move": NAMES.index(second)}
    return {key: np.full(number, float(value)) for key, value in {**values, "second_amount": 3.0}.items()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 7, 16, 40])
def test_tables_equal_torchvision_to_the_last_bit(side, channels):
    images = kinds(side, channels)
    cases = [("autocontrast", 0.0, 0.0), ("equalize", 0.0, 0.0)]
    cases += [("posterize", float(lost), 8 - lost) for lost in range(8)]
    cases += [("solarize", 8.5 * level, 1 - level / 30) for level in range(31)]
    for name, amount, magnitude in cases:
        ours = looked_up(images, one_move(len(images), name, amount))
        assert torch.equal(planes(ours), by_theirs(name, planes(images), magnitude)), (name, amount)


@pytest.mark.parametrize("channels", [1, 3])
def test_two_tables_in_one_look_up_equal_one_after_the_other(channels):
    images = kinds(24, channels)
    for first, second in product(MOVES, MOVES):
        ours = looked_up(images, one_move(len(images), first, 3.0, second))
        magnitudes = {"posterize": 5, "solarize": 252 / 255}
        between = by_theirs(first, planes(images), magnitudes.get(first, 0))
        assert torch.equal(planes(ours), by_theirs(second, between, magnitudes.get(second, 0))), (first, second)


def test_each_picture_of_a_batch_goes_by_its_own_table():
    images = kinds(20, 3)
    n = one_move(8, "identity")
    n["first_move"] = np.array([NAMES.index(name) for name in [*MOVES, *MOVES]], float)
    n["first_amount"] = np.array([2.0, 100, 0, 0, 5, 20, 0, 0])
    magnitudes = [6, 155 / 255, 0, 0, 3, 235 / 255, 0, 0]
    for ours, picture, name, magnitude in zip(looked_up(images, n), images, [*MOVES] * 2, magnitudes, strict=True):
        assert torch.equal(ours.permute(2, 0, 1), by_theirs(name, picture.permute(2, 0, 1), magnitude))


def test_only_pictures_that_drew_a_table_are_looked_up():
    for name in NAMES:
        assert tabled(one_move(3, name)).tolist() == [name in MOVES] * 3
        assert tabled(one_move(3, "rotate", second=name)).tolist() == [name in MOVES] * 3


# --- sharpness --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 30])
def test_sharpness_equals_that_of_torchvision(side, channels):
    images = kinds(side, channels)
    for factor in (0.01, 0.1, 0.73, 1.0, 1.27, 1.9, 1.99):
        ours, theirs = sharpened(images, np.full(8, factor)), TF.adjust_sharpness(planes(images), factor)
        away = (planes(ours).int() - theirs.int()).abs()
        assert int(away.max()) <= 1
        assert (away > 0).float().mean() < 0.001  # theirs may add without rounding the product first
    assert torch.equal(sharpened(images, np.ones(8)), images)


# --- the order, and the batch -----------------------------------------------------------------------------------------


def in_turn(picture: torch.Tensor, *names: str) -> torch.Tensor:
    """Moves of RandAugment one after the other by torchvision, each cut off and rounded: (C S S) uint8."""
    for name in names:
        theirs = {ours: theirs for theirs, ours in THEIRS.items()}[name]
        picture = by_theirs(name, picture, magnitude_of("rand", theirs, 9, picture.shape[-1]))
    return picture


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("shift_x", "equalize"),
        ("rotate", "sharpness"),
        ("brightness", "solarize"),
        ("brightness", "equalize"),
        ("sharpness", "solarize"),
    ],
)
def test_two_moves_are_made_in_the_order_that_the_page_says(earlier, later, turn, monkeypatch):
    first, second = (picking(name) for name in (earlier, later)[::turn])
    drawing(monkeypatch, first=first, second=second, first_strength=[0.9], second_strength=[0.9])
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 30, 30, 3), np.uint8))
    ours = planes(augmenter(Augment(policy="rand", padding="constant"), 3)(batch_of(images)).images)[0].float()
    right, wrong = (in_turn(planes(images)[0], *names).float() for names in ((earlier, later), (later, earlier)))
    near, far = (float((ours - other).abs().mean()) for other in (right, wrong))
    assert near < 1.5, (near, far)
    assert far > 3 * near, (near, far)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", SPACES)
def test_a_policy_gives_a_picture_the_same_in_every_batch_and_with_any_threads(policy, channels, monkeypatch):
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (150, 20, 20, channels), np.uint8))
    change, rows, before = augmenter(Augment(policy=policy, flip=True), 3), 50 + np.arange(150), images.clone()
    whole = change(batch_of(images)).images
    assert torch.equal(images, before)
    for at in (np.arange(150)[::-1].copy(), np.arange(7, 120, 11), np.array([3])):
        assert torch.equal(change(batch_of(images[at], rows=rows[at])).images, whole[at])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(change(batch_of(images)).images, whole)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr("tellapart.data.augment.AT_ONCE", 1)
    assert torch.equal(change(batch_of(images)).images, whole)


def test_pictures_that_drew_nothing_keep_every_pixel():
    images = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (300, 20, 20, 3), np.uint8))
    made = augmenter(Augment(policy="trivial"), 3)(batch_of(images)).images
    n = moves.numbers(Augment(policy="trivial"), moves.drawn(batch_of(images)), 20)
    idle = n["first_move"] == 0
    assert 5 < idle.sum() < 60
    assert torch.equal(made[idle], images[idle])
    assert (made[~idle] != images[~idle]).flatten(1).any(1).float().mean() > 0.85
