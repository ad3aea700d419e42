"""The numbers of an augmentation: what each picture of a batch draws, as arrays (B). No pixel is touched.

Policies: RandAugment (Cubuk et al., 2020) takes two moves of strength 9 of 30; TrivialAugment (Müller and Hutter, 2021)
one move of any strength of 0 to 30. Moves, their largest strengths and their order are those of torchvision 0.29.
"""

from collections.abc import Mapping
from math import radians

import numpy as np
from numpy.typing import NDArray

from tellapart.data.chance import Purpose, uniform
from tellapart.data.loader import Batch
from tellapart.recipe_augment import Augment

Numbers = Mapping[str, NDArray[np.float64]]

DRAWS = (
    *("rotate", "zoom", "shear_x", "shear_y", "area", "aspect", "crop_x", "crop_y"),
    *("tilt_x", "tilt_y", "blur", "noise", "brightness", "contrast", "saturation", "hue"),
    *("grey", "erase", "erase_area", "erase_aspect", "erase_x", "erase_y", "noise_key", "mix"),
    *("share", "partner", "box_x", "box_y", "first", "first_strength", "second", "second_strength"),
)
"""What each picture draws beside its `chance`, four a call of the hash. The order must never change."""

SPACE = {
    "identity": (0.0, 0.0),
    "shear_x": (0.3, 0.99),
    "shear_y": (0.3, 0.99),
    "shift_x": (150 / 331, 32.0),
    "shift_y": (150 / 331, 32.0),
    "rotate": (radians(30), radians(135)),
    "brightness": (0.9, 0.99),
    "saturation": (0.9, 0.99),
    "contrast": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "posterize": (4.0, 6.0),
    "solarize": (255.0, 255.0),
    "autocontrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
}
"""The moves of the policies, each as likely, and the largest strength of each: RandAugment's, TrivialAugment's. Slopes;
shares of the side, then pixels whatever the side; radians; shares; bits lost; levels below white."""

_ORDER = ("first", "second")


def drawn(batch: Batch) -> Numbers:
    """Uniform numbers in [0, 1), each a function of (seed, epoch, row) and its own name."""
    calls = range(1, len(DRAWS) // 4 + 1)
    more = [uniform(batch.seed, Purpose.AUGMENT, batch.epoch, batch.rows, more=n) for n in calls]
    named = zip(
        ("shift_y", "shift_x", "flip", "flip_vertical", *DRAWS), (*batch.chance, *np.concatenate(more)), strict=True
    )
    return {name: numbers.astype(np.float64) for name, numbers in named}


def numbers(asked: Augment, chance: Numbers, side: int) -> Numbers:
    """What is done to each picture: pixels of shift, radians, slopes, factors; with the moves of the policy."""

    def about(name: str, most: float) -> NDArray[np.float64]:
        return (2 * chance[name] - 1) * most

    most, slant = round((asked.shift or 0) * side), radians(asked.shear or 0)
    made = {
        "shift_y": np.floor(chance["shift_y"] * (2 * most + 1)) - most,
        "shift_x": np.floor(chance["shift_x"] * (2 * most + 1)) - most,
        "flip": np.where((chance["flip"] < 0.5) | (not asked.flip), 1.0, -1.0),
        "flip_vertical": np.where((chance["flip_vertical"] < 0.5) | (not asked.flip_vertical), 1.0, -1.0),
        "rotate": about("rotate", radians(asked.rotate or 0)),
        "zoom": (1 + (asked.scale or 0)) ** about("zoom", 1),
        "shear_x": np.tan(about("shear_x", slant)),
        "shear_y": np.tan(about("shear_y", slant)),
        "tilt_x": about("tilt_x", (asked.perspective or 0) / (2 * side)),
        "tilt_y": about("tilt_y", (asked.perspective or 0) / (2 * side)),
        "brightness": 1 + about("brightness", asked.brightness or 0),
        "contrast": 1 + about("contrast", asked.contrast or 0),
        "saturation": 1 + about("saturation", asked.saturation or 0),
        "hue": about("hue", asked.hue or 0),
        "grey": (chance["grey"] < (asked.grey or 0)).astype(np.float64),
        "sharpness": np.ones_like(chance["grey"]),
        **{f"{draw}_{what}": np.zeros_like(chance[draw]) for draw in _ORDER for what in ("move", "amount")},
    }
    return _with_policy({**made, **_cut(asked, chance)}, asked, chance, side)


def _cut(asked: Augment, chance: Numbers) -> Numbers:
    """Width, height and centre of the cut-out as shares of the side: a random resized crop of 3:4 to 4:3."""
    if asked.crop in (None, 1.0):
        return {name: np.full_like(chance["area"], name[-2:] != "_c") for name in ("wide", "high", "x_c", "y_c")}
    area = asked.crop + (1 - asked.crop) * chance["area"]
    aspect = (4 / 3) ** (2 * chance["aspect"] - 1)
    wide, high = np.minimum(1, np.sqrt(area * aspect)), np.minimum(1, np.sqrt(area / aspect))
    return {
        "wide": wide,
        "high": high,
        "x_c": (chance["crop_x"] - 0.5) * (1 - wide),
        "y_c": (chance["crop_y"] - 0.5) * (1 - high),
    }


def _with_policy(made: Numbers, asked: Augment, chance: Numbers, side: int) -> Numbers:
    """The numbers with the drawn moves laid over them: factors are multiplied, lengths and angles added."""
    trivial, result = asked.policy == "trivial", dict(made)
    units = {} if trivial else {"shift_x": side, "shift_y": side}
    most = np.array([widest[trivial] * units.get(name, 1) for name, widest in SPACE.items()])
    for draw in _ORDER[: {"none": 0, "rand": 2, "trivial": 1}[asked.policy]]:
        chosen, twice = np.floor(chance[draw] * len(SPACE)), 2 * chance[f"{draw}_strength"]
        amount = most[chosen.astype(np.int64)] * (np.floor(31 * (twice % 1)) if trivial else 9) / 30
        result |= {f"{draw}_move": chosen, f"{draw}_amount": amount}
        for number, name in enumerate(SPACE):
            _lay(result, name, np.where(chosen == number, np.where(twice < 1, -amount, amount), 0), side)
    return result


def _lay(result: dict[str, NDArray[np.float64]], name: str, signed: NDArray[np.float64], side: int) -> None:
    """One move, 0 for the pictures that did not draw it; those with tables (posterize …) have no number here."""
    if name in ("brightness", "saturation", "contrast", "sharpness"):
        result[name] = result[name] * (1 + signed)
    elif name in result:
        result[name] = result[name] + (-np.trunc(signed) if name.startswith("shift") else signed)
    if name.startswith("shear"):  # about the corner, as in the papers' programs; `warp` slants about the centre
        result[f"shift_{name[-1]}"] = result[f"shift_{name[-1]}"] + signed * side / 2
