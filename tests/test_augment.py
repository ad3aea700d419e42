"""Augmentation of whole batches: against Pillow, torchvision and plain loops; the same whatever the batch is."""

import itertools
import re
from dataclasses import replace
from math import cos, radians, sin, tan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as TF

from tellapart import names
from tellapart.data import augment, colour, mix, moves, warp
from tellapart.data.augment import augmenter
from tellapart.data.chance import Purpose, uniform
from tellapart.data.loader import Batch
from tellapart.recipe_augment import OFF, PRESETS, Augment

ALL = Augment(**{**PRESETS["strong"], "flip_vertical": True}, policy="rand")
EACH: list[dict[str, Any]] = [
    {"flip": True, "flip_vertical": True},
    {"shift": 0.3, "padding": "edge"},
    {"rotate": 40.0},
    {"scale": 0.5},
    {"crop": 0.3},
    {"shear": 20.0},
    {"perspective": 0.8},
    {"brightness": 0.5},
    {"contrast": 0.5},
    {"saturation": 0.9},
    {"hue": 0.3},
    {"grey": 0.5},
    {"blur": 2.0},
    {"noise": 0.1},
    {"erase": 0.7},
    {"policy": "rand"},
    {"policy": "trivial"},
]


def pictures(number: int = 6, side: int = 12, channels: int = 3, low: int = 0, high: int = 256) -> torch.Tensor:
    chance = np.random.default_rng((number, side, channels))
    return torch.from_numpy(chance.integers(low, high, (number, side, side, channels), np.uint8))


def batch_of(images: torch.Tensor, *, seed: int = 3, epoch: int = 1, rows: np.ndarray | None = None) -> Batch:
    rows = 1000 + np.arange(len(images)) if rows is None else rows
    chance = uniform(seed, Purpose.AUGMENT, epoch, rows)
    return Batch(images, torch.arange(len(images)) % 3, rows, chance, seed, epoch)


def changed(images: torch.Tensor, asked: Augment, **more: Any) -> torch.Tensor:
    return augmenter(asked, 3)(batch_of(images, **more)).images


def as_float(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float()


def still(number: int, **more: Any) -> dict[str, np.ndarray]:
    """The numbers of pictures to which nothing is done, but for those given."""
    chance = moves.drawn(batch_of(pictures(number)))
    none = moves.numbers(Augment(**OFF), chance, 12)
    return {**none, **{key: np.full(number, float(value)) for key, value in more.items()}}


# --- nothing asked, nothing done --------------------------------------------------------------------------------------


def test_nothing_asked_gives_the_very_batch():
    batch = batch_of(pictures())
    for asked in (Augment(), Augment(**PRESETS["none"]), Augment(padding="edge", fill=9)):
        assert augmenter(asked, 3)(batch) is batch


@pytest.mark.parametrize("padding", names.PADDINGS)
def test_matrices_that_do_nothing_leave_every_pixel(padding):
    images = as_float(pictures(5, 31))
    same = warp.warped(images, warp.matrices(still(5), 31), padding=padding, fill=7)
    assert torch.equal(same.round(), images)
    assert torch.equal(colour.coloured(images, still(5), colour.means(images)).round(), images)
    assert torch.equal(colour.blurred(images, np.zeros(5), 2.0), images)
    assert torch.equal(colour.noise(images, np.full(5, 0.3), np.zeros(5)).abs(), torch.zeros_like(images))


@pytest.mark.parametrize("asked", EACH, ids=lambda asked: " ".join(map(str, asked.values())))
def test_each_setting_changes_pictures_and_keeps_their_shape(asked):
    images = pictures(8)
    made = changed(images, Augment(**asked))
    assert (made.shape, made.dtype, made.is_contiguous()) == (images.shape, torch.uint8, True)
    assert not torch.equal(made, images)
    assert torch.equal(images, pictures(8))  # the pictures given stay as they are


# --- the same whatever the batch is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [9, 40])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("asked", [*EACH, None], ids=str)
def test_a_picture_is_changed_the_same_alone_in_a_batch_and_in_another_order(asked, channels, side):
    change, batch = augmenter(ALL if asked is None else Augment(**asked), 3), batch_of(pictures(7, side, channels))
    whole = change(batch).images
    assert torch.equal(torch.cat([change(part).images for part in batch.parts(7)]), whole)
    order = np.array([4, 0, 6, 2, 5, 1, 3])
    turned = replace(batch, images=batch.images[order], rows=batch.rows[order], chance=batch.chance[:, order])
    assert torch.equal(change(turned).images, whole[order])


def test_the_number_of_pictures_worked_on_at_once_changes_nothing(monkeypatch):
    whole = changed(pictures(9, 16), ALL)
    monkeypatch.setattr("tellapart.data.augment.AT_ONCE", 4 * 16 * 16 * 3)
    assert torch.equal(changed(pictures(9, 16), ALL), whole)


def test_another_epoch_seed_or_row_is_another_change():
    same = pictures(1, 16).expand(4, -1, -1, -1)
    for asked in (ALL, Augment(**PRESETS["medium"]), Augment(noise=0.1)):
        shown = [changed(same, asked, **more) for more in ({}, {"epoch": 2}, {"seed": 4})]
        different = {made.numpy().tobytes() for one in shown for made in one}
        assert len(different) == 12


# --- geometry ---------------------------------------------------------------------------------------------------------

MODES: dict[str, Any] = {
    "constant": {"mode": "constant", "constant_values": 9},
    **{mode: {"mode": mode} for mode in ("edge", "reflect", "symmetric")},
}


def naive(picture: np.ndarray, n: dict[str, float], padding: str) -> np.ndarray:
    """One picture (S S C), every pixel on its own: the moves undone one after the other, then four neighbours read."""
    side, border = len(picture), 3 * len(picture)
    wide = np.pad(picture.astype(float), ((border, border), (border, border), (0, 0)), **MODES[padding])
    result, middle = np.empty_like(picture, float), (side - 1) / 2
    for row, column in np.ndindex(side, side):
        x, y = column - middle, row - middle
        w = n["tilt_x"] * x + n["tilt_y"] * y + 1
        x, y = x / w, y / w
        x, y = x + n["shear_x"] * y, n["shear_y"] * x + y
        x, y = cos(n["rotate"]) * x - sin(n["rotate"]) * y, sin(n["rotate"]) * x + cos(n["rotate"]) * y
        x, y = x * n["wide"] / n["zoom"] + n["x_c"] * side, y * n["high"] / n["zoom"] + n["y_c"] * side
        x, y = n["flip"] * x + n["shift_x"] + middle + border, n["flip_vertical"] * y + n["shift_y"] + middle + border
        left, top = int(np.floor(x)), int(np.floor(y))
        a, b = x - left, y - top
        four = wide[top : top + 2, left : left + 2]
        weights = np.array([[(1 - a) * (1 - b), a * (1 - b)], [(1 - a) * b, a * b]])
        result[row, column] = (four * weights[:, :, None]).sum((0, 1))
    return result


@pytest.mark.parametrize("padding", names.PADDINGS)
@pytest.mark.parametrize(
    "asked", [ALL, Augment(crop=0.2, rotate=180.0), Augment(perspective=1.0, shift=0.2, flip=True)]
)
def test_one_resampling_equals_the_moves_undone_one_by_one(asked, padding):
    images = pictures(6, 11)
    n = moves.numbers(asked, moves.drawn(batch_of(images)), 11)
    made = warp.warped(as_float(images), warp.matrices(n, 11), padding=padding, fill=9).permute(0, 2, 3, 1)
    for k, picture in enumerate(images.numpy()):
        expected = naive(picture, {key: values[k] for key, values in n.items()}, padding)
        np.testing.assert_allclose(made[k].numpy(), expected, atol=0.02)


def warped_by(images: torch.Tensor, **numbers: float) -> torch.Tensor:
    n = still(len(images), **numbers)
    return warp.warped(as_float(images), warp.matrices(n, images.shape[1]), padding="constant", fill=0)


def test_single_moves_equal_those_of_torchvision():
    images = pictures(3, 33)
    smooth: Any = {"interpolation": TF.InterpolationMode.BILINEAR}
    straight: Any = {"translate": [0, 0], "scale": 1.0, "shear": [0.0], "angle": 0.0, **smooth}
    pairs = [
        (warped_by(images, rotate=radians(25)), TF.affine(as_float(images), **{**straight, "angle": -25.0})),
        (warped_by(images, zoom=1.4), TF.affine(as_float(images), **{**straight, "scale": 1.4})),
        (
            warped_by(images, shear_x=tan(radians(10))),
            TF.affine(as_float(images), **{**straight, "shear": [10.0, 0.0]}),
        ),
        (warped_by(images, flip=-1), TF.horizontal_flip(as_float(images))),
        (warped_by(images, flip_vertical=-1), TF.vertical_flip(as_float(images))),
        (warped_by(images, shift_x=-4, shift_y=3), TF.affine(as_float(images), **{**straight, "translate": [4, -3]})),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours[..., 8:25, 8:25], theirs[..., 8:25, 8:25], atol=0.05, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_and_mirrors_alone_are_exact_and_equal_to_padding_and_cutting(channels):
    images = pictures(40, 10, channels)
    batch = batch_of(images)
    made, many = (
        changed(images, Augment(shift=0.2, flip=True)),
        changed(images, Augment(shift=0.2, flip=True, hue=1e-9)),
    )
    for k, picture in enumerate(images.numpy()):
        wide = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        top, left = (int(np.floor(batch.chance[i, k] * 5)) for i in (0, 1))
        cut = wide[top : top + 10, left : left + 10]
        assert np.array_equal(made[k], cut if batch.chance[2, k] < 0.5 else cut[:, ::-1])
    assert torch.equal(many, made)  # the general way, which resamples, gives the same pixels


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("constant", [9, 9, 1, 2, 3, 9, 9]),
        ("edge", [1, 1, 1, 2, 3, 3, 3]),
        ("reflect", [3, 2, 1, 2, 3, 2, 1]),
        ("symmetric", [2, 1, 1, 2, 3, 3, 2]),
    ],
)
def test_the_four_paddings_on_a_row_of_three(padding, expected):
    row = torch.tensor([1.0, 2, 3]).expand(1, 1, 3, 3)
    shifts = [
        warp.warped(row, warp.matrices(still(1, shift_x=by), 3), padding=padding, fill=9)[0, 0, 0] for by in (-2, 0, 2)
    ]
    assert [*shifts[0][:2].tolist(), *shifts[1].tolist(), *shifts[2][1:].tolist()] == pytest.approx(expected, abs=1e-4)
    page = (Path(__file__).parent.parent / "docs" / "augmentation.md").read_text(encoding="utf-8")
    shown = re.search(rf"^\| {padding} \| (.*?) \|", page, re.M)
    assert shown is not None
    assert [int(v) for v in re.findall(r"\d", shown[1])] == [v % 9 for v in expected]  # the page fills with 0


def test_a_cut_out_stays_inside_the_picture_and_has_the_area_drawn():
    n = moves.numbers(Augment(crop=0.25), moves.drawn(batch_of(pictures(1).expand(500, -1, -1, -1))), 12)
    for size, centre in (("wide", "x_c"), ("high", "y_c")):
        assert np.all(np.abs(n[centre]) + n[size] / 2 <= 0.5 + 1e-9)
    area, aspect = n["wide"] * n["high"], n["wide"] / n["high"]
    assert area.min() >= 0.24
    assert 0.25 <= np.quantile(area, 0.05) < 0.4 < np.quantile(area, 0.5) < 0.8
    assert np.all((aspect > 0.74) & (aspect < 1.34))


# --- colour -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_colour_factors_equal_those_of_torchvision(name, factor):
    images = as_float(
        pictures(4, 20, 3, 90, 150)
    )  # far from black and white, where torchvision cuts off after each step
    ours = colour.coloured(images, still(4, **{name: factor}), colour.means(images))
    theirs = getattr(TF, f"adjust_{name}")(images / 255, factor) * 255
    torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0)


def test_grey_equals_that_of_torchvision():
    images = as_float(pictures(4, 20))
    ours = colour.coloured(images, still(4, grey=1), colour.means(images))
    torch.testing.assert_close(ours, TF.rgb_to_grayscale(images, 3), atol=0.2, rtol=0)


def test_hue_turns_about_grey_keeps_the_luma_and_comes_round():
    images = as_float(pictures(4, 20))
    luma = torch.tensor(colour.LUMA, dtype=torch.float32)
    turned = colour.coloured(images, still(4, hue=0.2), colour.means(images))
    torch.testing.assert_close(turned.movedim(1, 3) @ luma, images.movedim(1, 3) @ luma, atol=1e-2, rtol=0)
    assert (turned - images).abs().max() > 20
    grey = as_float(pictures(4, 20, 1)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(colour.coloured(grey, still(4, hue=0.2), colour.means(grey)), grey, atol=1e-2, rtol=0)
    for _ in range(4):
        turned = colour.coloured(turned, still(4, hue=0.2), colour.means(images))
    torch.testing.assert_close(turned, images, atol=1e-2, rtol=0)


def test_all_colours_at_once_equal_the_steps_in_turn():
    images = as_float(pictures(4, 20, 3, 90, 150))
    steps = {"brightness": 1.2, "contrast": 0.7, "saturation": 1.4, "hue": 0.1, "grey": 0}
    once, turn = colour.coloured(images, still(4, **steps), colour.means(images)), images
    for name, value in steps.items():
        luma = (turn.mean((2, 3)) * torch.tensor(colour.LUMA, dtype=torch.float32)).sum(1)
        turn = colour.coloured(turn, still(4, **{name: value}), luma)
    torch.testing.assert_close(once, turn, atol=0.01, rtol=0)


def test_one_channel_has_brightness_and_contrast_alone():
    images = as_float(pictures(4, 20, 1, 90, 150))
    ours = colour.coloured(
        images, still(4, brightness=1.1, contrast=0.5, saturation=0.2, hue=0.4), colour.means(images)
    )
    bright = images * 1.1
    torch.testing.assert_close(ours, bright * 0.5 + bright.mean((1, 2, 3), keepdim=True) * 0.5, atol=0.01, rtol=0)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_blur_equals_that_of_torchvision(sigma):
    images = as_float(pictures(3, 20))
    theirs = TF.gaussian_blur(images, [13, 13], [sigma, sigma])
    torch.testing.assert_close(colour.blurred(images, np.full(3, sigma), 2.0), theirs, atol=0.05, rtol=0)


def test_blur_wider_than_the_picture_still_works():
    flat = torch.full((2, 3, 5, 5), 77.0)
    torch.testing.assert_close(colour.blurred(flat, np.array([9.0, 16.0]), 16.0), flat)


def lowbias32(x: int) -> int:
    """The published hash, in whole numbers of any size."""
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def test_noise_is_the_published_hash_of_the_place_and_nearly_normal():
    keys = np.array([0.25, 0.7])
    made = colour.noise(torch.zeros(2, 3, 100, 100), keys, np.array([0.1, 0.02])).numpy()
    for k, deviation in enumerate((25.5, 5.1)):
        key = int(keys[k] * 2**24) * 0x9E3779B1 & 0xFFFFFFFF
        flat = made[k].ravel()
        for place in (0, 1, 17, 29_999):
            hashed = lowbias32(place ^ key)
            total = sum(hashed >> shift & 255 for shift in (0, 8, 16, 24))
            assert flat[place] == pytest.approx((total - 510) / np.sqrt(4 * (256**2 - 1) / 12) * deviation, rel=1e-5)
        assert abs(flat.mean()) < 4 * deviation / np.sqrt(flat.size)
        assert flat.std() == pytest.approx(deviation, rel=0.02)
        assert abs(stats.skew(flat)) < 0.1
        assert abs(stats.kurtosis(flat) + 0.3) < 0.1  # that of a sum of four
        assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(made[0].ravel(), made[1].ravel())[0, 1]) < 0.03


def test_erased_rectangles_are_whole_of_the_size_promised_and_as_many():
    white = torch.full((400, 30, 30, 1), 255, dtype=torch.uint8)
    holes = changed(white, Augment(erase=0.5, fill=7)).squeeze(3) == 7
    hit = holes.any((1, 2))
    assert 160 < int(hit.sum()) < 240
    for hole in holes[hit]:
        rows, columns = hole.any(1).nonzero(), hole.any(0).nonzero()
        high, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert int(hole.sum()) == high * wide
        assert 0.01 < high * wide / 900 < 0.36
        assert 0.2 < high / wide < 5


# --- mixing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 4.0, 30.0])
def test_beta_is_the_quantile_function(alpha):
    chance = np.linspace(0.001, 0.999, 301)
    np.testing.assert_allclose(mix.beta(chance, alpha), stats.beta.ppf(chance, alpha, alpha), atol=2e-4)


@pytest.mark.parametrize("asked", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_labels_go_with_the_pixels(asked):
    number, side = 64, 20
    labels = torch.arange(number)
    flat = (labels * 4).to(torch.uint8)[:, None, None, None].expand(-1, side, side, 1).contiguous()
    batch = replace(batch_of(flat), labels=labels)
    mixed = augmenter(Augment(**asked), number)(batch)
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(number))
    expected = mixed.labels @ (labels * 4.0)  # the mean of a mixture is that of its parts, in their shares
    torch.testing.assert_close(mixed.images.float().mean((1, 2, 3)), expected, atol=0.51, rtol=0)
    assert mixed.images.dtype == torch.uint8
    classes = mixed.labels.count_nonzero(1)
    assert set(classes.tolist()) <= {1, 2}
    assert (classes == 2).float().mean() > 0.4
    pasted = (mixed.images.flatten(1).amin(1) != mixed.images.flatten(1).amax(1)).float().mean()
    assert {("mixup",): pasted == 0, ("cutmix",): pasted > 0.6}.get(tuple(asked), 0.2 < pasted < 0.8)


def test_partners_depend_on_the_rows_and_not_on_their_order():
    batch = batch_of(pictures(8))
    change = augmenter(Augment(mixup=1.0), 3)
    order = np.random.default_rng(1).permutation(8)
    turned = replace(
        batch,
        images=batch.images[order],
        labels=batch.labels[order],
        rows=batch.rows[order],
        chance=batch.chance[:, order],
    )
    assert torch.equal(change(turned).images, change(batch).images[order])
    assert torch.equal(change(turned).labels, change(batch).labels[order])
    alone = change(batch.parts(8)[0])
    assert torch.equal(alone.images, batch.images[:1])  # with nobody else, a picture is its own partner


@pytest.mark.parametrize(
    ("side", "shift", "number"), [(1, 0.5, 2), (2, 0.5, 40), (9, 0.5, 200), (9, 0.0, 5), (9, 0.1, 0)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_moved_alike_as_windows_by_one_index_and_pixel_by_pixel(
    channels, side, shift, number, monkeypatch
):
    monkeypatch.setattr(augment, "AT_ONCE", 3 * side * side * channels)  # some pictures at a time, and fewer at the end
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (number, side, side, channels), np.uint8))
    chance = np.random.default_rng(1).random((4, number), np.float32)
    made = augment.moved(images, chance, shift=shift, flip=True)
    most = round(shift * side)
    offsets, mirrored = np.floor(chance[:2] * (2 * most + 1)).astype(np.int64) - most, chance[2] >= 0.5
    assert torch.equal(made, augment._indexed(images, offsets, mirrored))
    for row, place in itertools.product(range(number), itertools.product(range(side), repeat=2)):
        y, x = place[0], side - 1 - place[1] if mirrored[row] else place[1]
        y, x = (_reflected(at + offset[row], side) for at, offset in zip((y, x), offsets, strict=True))
        assert torch.equal(made[(row, *place)], images[row, y, x])


def _reflected(at: int, side: int) -> int:
    return -at if at < 0 else 2 * (side - 1) - at if at >= side else at
