"""The section [augment] of a recipe: how training pictures are changed, and the presets that name whole sets of it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tellapart import names
from tellapart.recipe_values import setting


def _share(help: str, *, low: float | None = 0.0, high: float = 1.0, above: float | None = None) -> Any:
    return setting(None, help, kind=float, low=low, high=high, above=above)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How training pictures are changed, anew in every epoch. What is left open is as the preset says.

    Each number is the largest change; every picture draws its own between none and that, to either side.
    """

    preset: str = setting(
        None,
        "how much training pictures are changed (light in colour, none in grey)",
        kind=str,
        choices=names.AUGMENTATIONS,
        flag="--augment",
    )
    flip: bool = setting(None, "mirror half of the pictures left to right (never grey ones by itself)", kind=bool)
    flip_vertical: bool = setting(None, "turn half of the pictures upside down", kind=bool)
    shift: float = _share("move by up to this share of the side", high=0.5)
    rotate: float = _share("turn by up to so many degrees", high=180.0)
    scale: float = _share("zoom by 1 / (1 + this) to 1 + this", high=2.0)
    crop: float = _share("cut out at least this share of the area and enlarge it (1: off)", low=None, above=0.0)
    shear: float = _share("slant by up to so many degrees", high=60.0)
    perspective: float = _share("tilt away from the viewer")
    brightness: float = _share("brighter or darker by up to this share")
    contrast: float = _share("more or less contrast by up to this share")
    saturation: float = _share("more or less colour by up to this share")
    hue: float = _share("turn the colours by up to this share of the circle", high=0.5)
    grey: float = _share("share of the pictures that lose their colour")
    blur: float = _share("blur by a Gaussian of up to so many pixels", high=16.0)
    noise: float = _share("add noise with a deviation of up to this share of white")
    erase: float = _share("share of the pictures of which a rectangle is erased")
    mixup: float = _share("blend pairs of pictures; shares from Beta(this, this)", high=100.0)
    cutmix: float = _share("paste a rectangle of another picture; shares from Beta(this, this)", high=100.0)
    policy: str = setting(
        "none", "rand (RandAugment) or trivial (TrivialAugment) moves besides", choices=names.POLICIES
    )
    padding: str = setting("reflect", "what stands beyond the edge of a moved picture", choices=names.PADDINGS)
    fill: int = setting(0, "grey level of constant padding and of erased rectangles", low=0, high=255)
    steps: str = setting("", "named torchvision steps instead, such as random_crop:32,padding=4,flip (`data steps`)")

    def changes(self) -> dict[str, Any]:
        """What is switched on: each setting that is neither open nor off, without preset, padding, fill and steps."""
        values = {key: getattr(self, key) for key in (*OFF, "policy")}
        return {key: value for key, value in values.items() if value not in (None, OFF.get(key, "none"))}


OFF: Mapping[str, Any] = {
    entry.name: entry.metadata["rule"].kind(entry.name == "crop")
    for entry in fields(Augment)
    if entry.default is None and entry.name != "preset"
}
"""The value of each setting that changes nothing."""

COLOURS = ("saturation", "hue", "grey")
"""Settings that mean nothing where there is one channel."""

_LIGHT = {"flip": True, "shift": 0.1}
_MEDIUM = {**_LIGHT, "rotate": 10.0, "scale": 0.1, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
_STRONG = {"rotate": 20.0, "scale": 0.2, "crop": 0.5, "shear": 5.0, "perspective": 0.2, "hue": 0.05, "grey": 0.1}
_HARSH = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "blur": 1.0, "noise": 0.03, "erase": 0.25}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": OFF,
    "light": {**OFF, **_LIGHT},
    "medium": {**OFF, **_MEDIUM},
    "strong": {**OFF, **_LIGHT, **_STRONG, **_HARSH},
}
"""Every setting of each preset."""
