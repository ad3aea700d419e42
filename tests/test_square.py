"""The network's square and its input: against Pillow, torchvision and the worked numbers of the notes."""

import numpy as np
import pytest
import torch
from PIL import Image

from tellapart.data import square
from tellapart.data.augment import network_input
from tellapart.data.square import FILTERS, centre, coloured, crop_box, fitted, stored
from tellapart.preprocess import Preprocess

WIDE = np.random.default_rng(4).integers(60, 200, (30, 60, 3), np.uint8)


def to(**values) -> Preprocess:
    return Preprocess(**{"size": 16, "channels": 3, **values})


def by_pillow(pixels: np.ndarray, short: int, size: int, filter: str) -> np.ndarray:
    """The textbook way: take the centre square, resize it, then take its centre."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = Image.fromarray(pixels[top : top + side, left : left + side])
    cut = (short - size) // 2
    resized = np.asarray(square.resize((short, short), getattr(Image.Resampling, filter.upper())))
    return resized[cut : cut + size, cut : cut + size].astype(int)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("short", [16, 20])
@pytest.mark.parametrize("pixels", [WIDE, WIDE.transpose(1, 0, 2).copy()], ids=["wide", "tall"])
def test_crop_is_the_centre_square_resized_and_its_centre(filter, short, pixels):
    expected = by_pillow(pixels, short, 16, filter)
    assert np.abs(fitted(pixels, to(filter=filter, short=short)) - expected).max() <= 1


def test_no_margin_is_the_whole_shorter_side():
    assert np.array_equal(fitted(WIDE, to()), fitted(WIDE, to(short=16)))
    assert crop_box(60, 30) == (30, 0, 15)
    assert crop_box(30, 61) == (30, 15, 0)
    assert (to(short=20).side, to().side, to(fit="pad").side) == (20, 16, 16)


def test_what_is_kept_has_the_margin_and_its_centre_is_what_the_network_sees():
    margin = to(short=20)
    kept = stored(WIDE, margin)
    assert kept.shape == (20, 20, 3)
    assert np.array_equal(centre(kept, 16), fitted(WIDE, margin))
    seen = network_input(torch.from_numpy(kept.copy())[None], margin)
    assert torch.equal(seen, network_input(torch.from_numpy(fitted(WIDE, margin))[None], margin))


def test_squash_resizes_both_sides():
    expected = np.asarray(Image.fromarray(WIDE).resize((16, 16), Image.Resampling.BICUBIC))
    assert np.abs(fitted(WIDE, to(fit="squash", filter="bicubic")) - expected.astype(int)).max() <= 1


def test_pad_keeps_the_shape_and_fills_with_black():
    made = fitted(WIDE, to(fit="pad"))
    inner = np.asarray(Image.fromarray(WIDE).resize((16, 8), Image.Resampling.BILINEAR))
    assert np.abs(made[4:12] - inner.astype(int)).max() <= 1
    assert not made[:4].any()
    assert not made[12:].any()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (16, 16), (17, 15)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_shape_becomes_the_square(fit, shape, channels):
    for held in (1, 3):
        square = fitted(np.full((*shape, held), 77, np.uint8), to(fit=fit, channels=channels))
        assert (square.shape, square.dtype) == ((16, 16, channels), np.uint8)
        assert square.max() == 77


def test_a_square_of_the_right_size_is_left_alone():
    square = WIDE[:16, :16].copy()
    assert all(np.array_equal(fitted(square, to(fit=fit)), square) for fit in ("crop", "pad", "squash"))


def test_colour_becomes_grey_by_luma_and_grey_becomes_three_equal_channels():
    luma = WIDE[:16, :16] @ np.array([0.299, 0.587, 0.114])
    grey = fitted(WIDE[:16, :16].copy(), to(channels=1))
    assert np.abs(grey[:, :, 0] - luma).max() <= 1
    assert np.array_equal(fitted(grey, to()), np.repeat(grey, 3, axis=2))


def test_large_colour_becomes_grey_as_pillow_does_it(monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (301, 97, 3), np.uint8)
    monkeypatch.setattr(square, "STRIP", 1000)  # eleven rows at a time, and a rest
    assert (coloured(pixels, 1)[:, :, 0] == np.asarray(Image.fromarray(pixels).convert("L"))).all()


def test_network_input_equals_totensor_of_torchvision():
    from torchvision.transforms import ToTensor

    expected = ToTensor()(Image.fromarray(WIDE))
    made = network_input(torch.from_numpy(WIDE)[None], to(mean=(0.0,) * 3, std=(1.0,) * 3))
    assert made.shape == (1, 3, 30, 60)
    assert (made[0] - expected).abs().max() <= 1e-7


def test_network_input_equals_normalize_of_torchvision():
    from torchvision.transforms import Normalize, ToTensor

    from tellapart.preprocess import IMAGENET_MEAN, IMAGENET_STD

    expected = Normalize(IMAGENET_MEAN, IMAGENET_STD)(ToTensor()(Image.fromarray(WIDE)))
    made = network_input(torch.from_numpy(WIDE)[None], to(mean=IMAGENET_MEAN, std=IMAGENET_STD))
    assert (made[0] - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("channels_last", [True, False])
def test_network_input_has_the_memory_order_asked_for(channels_last):
    made = network_input(torch.from_numpy(WIDE)[None], to(mean=(0.0,) * 3, std=(1.0,) * 3), channels_last=channels_last)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert made.is_contiguous(memory_format=order)
    assert made.dtype == torch.float32


def test_the_worked_numbers_of_the_notes():
    rows = np.broadcast_to(np.arange(1, 6, dtype=np.uint8)[None, None, :, None], (1, 5, 5, 3)).copy()
    tensor = network_input(torch.from_numpy(rows), to(mean=(0.0,) * 3, std=(1.0,) * 3))[0]
    assert tensor.shape == (3, 5, 5)
    assert [round(value, 4) for value in tensor[0, 0].tolist()] == [0.0039, 0.0078, 0.0118, 0.0157, 0.0196]


def test_half_maps_black_to_minus_one_and_white_to_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1)
    made = network_input(ends, Preprocess(size=4, channels=1, mean=(0.5,), std=(0.5,)))
    assert made.flatten().tolist() == pytest.approx([-1, 1], abs=2e-7)
