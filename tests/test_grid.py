"""The sheet of pictures: its size, single pixels of small pictures, shapes kept, captions inside their tiles."""

import numpy as np
import pytest

from tellapart.figures.grid import GAP, INK, UNDER, grid


def dot(side: int) -> np.ndarray:
    picture = np.zeros((side, side, 1), np.uint8)
    picture[0, 0] = 255
    return picture


def test_small_pictures_grow_by_a_whole_factor_without_smoothing():
    sheet = np.asarray(grid([dot(8)], ["0"], tile=96))
    tile = sheet[GAP : GAP + 96, GAP : GAP + 96]
    assert (tile[:12, :12] == 255).all()
    assert tile[12:].max() == tile[:, 12:].max() == 0


def test_what_does_not_fill_its_tile_is_in_the_middle():
    tile = np.asarray(grid([np.full((28, 28), 9, np.uint8)], [""], tile=96))[GAP : GAP + 96, GAP : GAP + 96]
    assert (tile[6:90, 6:90] == 9).all()
    assert (tile[:6] == UNDER).all()
    assert (tile[90:] == UNDER).all()


def test_large_pictures_shrink_smoothly_and_keep_their_shape():
    stripes = np.zeros((200, 400, 3), np.uint8)
    stripes[:, ::2] = 200
    tile = np.asarray(grid([stripes], ["stripes"], tile=100))[GAP : GAP + 100, GAP : GAP + 100]
    assert (tile[:25] == UNDER).all()
    assert (tile[75:] == UNDER).all()
    assert abs(tile[30:70, 10:90].astype(int) - 100).max() < 12


def test_grey_and_colour_stand_side_by_side():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    sheet = np.asarray(grid([red, dot(4)], ["red", "dot"], columns=2, tile=40))
    assert sheet[GAP + 5, GAP + 5].tolist() == [255, 0, 0]
    assert sheet[GAP + 5, 2 * GAP + 40 + 5].tolist() == [255, 255, 255]
    assert sheet[GAP + 35, 2 * GAP + 40 + 35].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("count", "columns", "wide", "high"),
    [
        (1, 0, 1, 1),
        (10, 0, 4, 3),
        (9, 0, 3, 3),
        (5, 8, 5, 1),
        (5, 2, 2, 3),
    ],
)
def test_rows_and_columns(count, columns, wide, high):
    sheet = grid([dot(8)] * count, ["a"] * count, columns=columns, tile=32)
    assert sheet.width == GAP + wide * (32 + GAP)
    one = grid([dot(8)], ["a"], tile=32).height - GAP
    assert sheet.height == GAP + high * one


def test_captions_are_drawn_and_stay_under_their_own_tile():
    sheet = np.asarray(grid([dot(8), dot(8)], ["a caption far too wide for its tile", ""], columns=2, tile=64))
    under = (sheet[GAP + 64 :] != 255).any(axis=(0, 2))
    assert under[GAP : GAP + 64].any()
    assert not under[GAP + 64 :].any()
    assert sheet[GAP + 64 :].min() <= max(INK) + 40


def test_two_lines_make_the_sheet_higher():
    assert grid([dot(8)], ["ants\nbees"]).height > grid([dot(8)], ["ants"]).height > grid([dot(8)], [""]).height


def test_pictures_and_captions_must_agree():
    with pytest.raises(ValueError, match="received 1 pictures and 2"):
        grid([dot(8)], ["a", "b"])
    with pytest.raises(ValueError, match="received 0 pictures and 0"):
        grid([], [])
