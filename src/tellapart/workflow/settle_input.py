"""Settle the input: size, channels, stem and augmentation that a recipe leaves open, found out from the pictures."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import UsageError
from tellapart.names import RESNETS, TIMM, TORCHVISION_MODELS
from tellapart.recipe import Recipe
from tellapart.recipe_augment import COLOURS, PRESETS
from tellapart.workflow.settle import Settled, filled

FIXED_SIZES = {
    **dict.fromkeys(("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "maxvit_t"), 224),
    "inception_v3": 299,
}
"""Networks that take one size only, or were made for one."""

OWN_LARGEST, SMALL = 96, 64
"""Pixels: the largest size of our own networks, and up to which a resnet begins without halving the picture twice."""


SIGN = re.compile("[0-9]{1,2}|[a-z]|zero|one|two|three|four|five|six|seven|eight|nine", re.I | re.A)
"""What a class of digits or letters is called."""
MOSTLY = 0.9
"""The share of grey pictures from which on all are treated as such, but for their colours."""


def settle_input(settled: Settled, sizes: NDArray[np.int64], classes: Sequence[str]) -> Settled:
    """Fill in size, channels and augmentation from the heights, widths and channels (n, 3) of the pictures, and from
    what their classes are called.
    """
    recipe = settled.recipe
    own = recipe.model.name not in TORCHVISION_MODELS
    short = int(np.median(sizes[:, :2].min(axis=1)))
    size, why = _size(recipe, short)
    grey = bool((sizes[:, 2] == 1).all())
    channels = 1 if grey and own else 3
    coloured = f"{recipe.model.name} takes colour pictures" if grey else "the pictures are in colour"
    of = "the pictures are grey" if channels == 1 else coloured
    normalize = ("imagenet", "as its weights know it") if recipe.model.weights else ("data", "of the training pictures")
    found = {"input.size": (size, why), "input.channels": (channels, of), "input.normalize": normalize}
    found["model.small_stem"] = _stem(recipe, recipe.input.size or size)
    return filled(_augmentation(settled, grey=grey, upright=_upright(sizes, classes)), found)


def _stem(recipe: Recipe, size: int) -> tuple[bool, str]:
    """Whether a resnet keeps the size of small pictures at its start. Raises UsageError for other networks."""
    if recipe.model.name not in RESNETS:
        if recipe.model.small_stem:
            raise UsageError(f"model.small_stem is for resnets; the network is {recipe.model.name}.", "Leave it out.")
        return False, f"{recipe.model.name} is no resnet"
    if recipe.model.weights:
        if recipe.model.small_stem:
            raise UsageError("Pretrained weights are for the usual stem, not for model.small_stem.", "Leave it out.")
        return False, "its weights are for the usual one"
    return size <= SMALL, f"pictures of {size} pixels"


def _upright(sizes: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Why pictures are not mirrored unless that is asked for; "" where they may be."""
    grey = float((sizes[:, 2] == 1).mean())
    if grey >= MOSTLY:
        return "grey pictures are not mirrored" if grey == 1 else "nearly all are grey, and such are not mirrored"
    if classes and all(SIGN.fullmatch(name) for name in classes):
        return f"'{classes[0]}' and the like may be digits or letters, which are not mirrored"
    return ""


def _augmentation(settled: Settled, *, grey: bool, upright: str) -> Settled:
    """The preset by the pictures, and every open setting by the preset. Raises UsageError for colours of grey ones."""
    asked = settled.recipe.augment
    preset = asked.preset or ("none" if grey or asked.steps else "light")
    why = "steps are given" if asked.steps else f"{'grey' if grey else 'colour'} pictures"
    found = {f"augment.{key}": (value, f"preset {preset}") for key, value in PRESETS[preset].items()}
    if upright:
        found["augment.flip"] = (False, upright)
    if grey or settled.recipe.input.channels == 1:
        if coloured := [key for key in COLOURS if key in asked.changes()]:
            raise UsageError(f"augment.{coloured[0]} means nothing here: the pictures are grey.", "Leave it out.")
        found |= {f"augment.{key}": (0.0, "grey pictures have no colour") for key in COLOURS}
    return filled(settled, {"augment.preset": (preset, why), **found})


def _size(recipe: Recipe, short: int) -> tuple[int, str]:
    """The side of the square for pictures with this shorter side, and why."""
    name = recipe.model.name
    if name in FIXED_SIZES:
        return FIXED_SIZES[name], f"{name} was made for it"
    if recipe.model.weights:
        return 224, "what its weights were made for"
    if name in RESNETS and short <= SMALL and recipe.model.small_stem is not False:
        return max(8, short), f"the shorter side of the pictures, {short}"
    if name in TORCHVISION_MODELS or name.startswith(TIMM):
        size = next((size for size in (32, 64, 128) if short <= size * 1.1), 224)
        return size, f"fits pictures with a shorter side of {short}"
    if short <= OWN_LARGEST:
        return max(4, short), f"the shorter side of the pictures, {short}"
    return OWN_LARGEST, f"the largest for our own networks; the pictures have {short}"
