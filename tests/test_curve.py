"""A curve lies where its numbers say, and its ticks are round."""

import math

import numpy as np
import pytest

from tellapart.figures.curve import FAINT, HIGH, INK, LINE, WIDE, Axis, curve, place

ACROSS, UP = Axis("step", 0, 100), Axis("rate", 0, 2)


def colour_at(image, across: Axis, up: Axis, x: float, y: float) -> np.ndarray:
    left, top = place(across, up, x, y)
    return np.asarray(image)[round(top), min(WIDE - 1, round(left))].astype(int)


def near(colour: np.ndarray, wanted: tuple[int, int, int], by: int = 60) -> bool:
    return bool(np.abs(colour - wanted).max() < by)


@pytest.mark.parametrize("x", [5, 20, 50, 80, 95])
def test_the_line_goes_through_its_points_and_not_beside_them(x: int) -> None:
    xs = list(range(101))
    ys = [1 + math.sin(n / 15) for n in xs]
    image = curve(xs, ys, across=ACROSS, up=UP, title="sine")
    assert image.size == (WIDE, HIGH)
    assert near(colour_at(image, ACROSS, UP, x, ys[x]), LINE)
    assert not near(colour_at(image, ACROSS, UP, x, ys[x] + (0.3 if ys[x] < 1 else -0.3)), LINE)


def test_a_logarithmic_axis_gives_each_power_of_ten_the_same_width() -> None:
    axis = Axis("rate", 1e-5, 10, "log")
    places = [place(axis, UP, 10.0**n, 0)[0] for n in range(-5, 2)]
    np.testing.assert_allclose(np.diff(places), places[1] - places[0])
    assert axis.ticks() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10])
    xs = np.geomspace(1e-5, 10, 50).tolist()
    image = curve(xs, [1.0] * 50, across=axis, up=UP, title="flat", under=[0.5] * 50, mark=(0.01, "here"))
    assert near(colour_at(image, axis, UP, 1e-4, 1.0), LINE)
    assert near(colour_at(image, axis, UP, 1e-4, 0.5), FAINT)
    assert near(colour_at(image, axis, UP, 0.01, 0.2), INK, 130)


def test_what_lies_beyond_an_axis_is_drawn_at_its_end() -> None:
    assert place(ACROSS, UP, 500, -3) == place(ACROSS, UP, 100, 0)


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    xs = list(range(100_000))
    across = Axis("step", 0, 100_000)
    image = curve(xs, [2 * n / 100_000 for n in xs], across=across, up=UP, title="long")
    for x in (1_000, 50_000, 99_000):
        assert near(colour_at(image, across, UP, x, x / 50_000), LINE)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 7, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0.37, 0.52, [0.38, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(low: float, high: float, ticks: list[float]) -> None:
    assert Axis("", low, high).ticks() == pytest.approx(ticks)
