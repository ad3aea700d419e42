"""Chains of named steps, such as "resize:16,center_crop:10,to_tensor,normalize:half", made of torchvision's v2.

A comma ends a step; `name=value` after it is an option of the step; numbers that belong together are joined by x.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tellapart import names
from tellapart.errors import UsageError, did_you_mean, unknown
from tellapart.preprocess import IMAGENET_MEAN, IMAGENET_STD

Reader = Callable[[str], Any]
"""Reads the value of an option; its docstring says what it takes."""


def _number(text: str) -> float:
    """a number"""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _numbers(text: str) -> Any:
    """numbers such as 32 or 32x48"""
    values = [_number(part) for part in text.split("x")]
    return values if len(values) > 1 else values[0]


def _yes(text: str) -> bool:
    """true or false"""
    return {"true": True, "false": False}[text]


def _mode(text: str) -> str:
    """one of constant, edge, reflect, symmetric"""
    return names.PADDINGS[names.PADDINGS.index(text)]


def _statistics(text: str) -> tuple[Any, Any]:
    """half (0 to 1 becomes -1 to 1) or imagenet"""
    return {"half": ([0.5], [0.5]), "imagenet": (IMAGENET_MEAN, IMAGENET_STD)}[text]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A step that can be named.

    `example`: a value of its first option, which may be given by `:`, and must be when there is an example. `makes`
    takes torchvision.transforms.v2 and the options. `needs`: anything, tensor, or pixels, which normalize takes away.
    """

    about: str
    example: str
    options: Mapping[str, Reader]
    makes: Callable[[Any, Mapping[str, Any]], Any]
    needs: str = "anything"


def _of(name: str, about: str, example: str, options: Mapping[str, Reader], needs: str = "anything") -> Kind:
    """A step that is one class of v2, whose arguments have the names of the options."""
    turn = (0,) if name == "RandomAffine" else ()  # its degrees, which it cannot do without
    return Kind(
        about=about,
        example=example,
        options=options,
        needs=needs,
        makes=lambda v2, options: getattr(v2, name)(*turn, **options),
    )


def _to_tensor(v2: Any, options: Mapping[str, Any]) -> Any:
    import torch

    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


_SIDE, _PAD = {"size": _numbers}, {"padding": _numbers, "fill": _numbers, "padding_mode": _mode}
_P = {"p": _number}

STEPS: Mapping[str, Kind] = {
    "resize": _of("Resize", "the shorter side to a length, or height x width", "32", _SIDE),
    "center_crop": _of("CenterCrop", "the middle", "32", _SIDE),
    "random_crop": _of("RandomCrop", "a random part", "32", {**_SIDE, **_PAD, "pad_if_needed": _yes}),
    "random_resized_crop": _of("RandomResizedCrop", "a random part, resized", "32", {**_SIDE, "scale": _numbers}),
    "pad": _of("Pad", "a border: all sides, left/right x top/bottom, or left x top x right x bottom", "4", _PAD),
    "flip": _of("RandomHorizontalFlip", "mirror left to right", "", _P),
    "flip_vertical": _of("RandomVerticalFlip", "turn upside down", "", _P),
    "rotate": _of("RandomRotation", "up to so many degrees", "15", {"degrees": _numbers, "fill": _numbers}),
    "translate": _of("RandomAffine", "by shares of width x height", "0.1x0.1", {"translate": _numbers}),
    "scale": _of("RandomAffine", "zoom between two factors", "0.8x1.2", {"scale": _numbers}),
    "shear": _of("RandomAffine", "slant by up to so many degrees", "10", {"shear": _numbers}),
    "perspective": _of("RandomPerspective", "tilt", "", {"distortion_scale": _number, **_P}),
    "brightness": _of("ColorJitter", "brighter or darker", "0.2", {"brightness": _number}, "pixels"),
    "contrast": _of("ColorJitter", "more or less contrast", "0.2", {"contrast": _number}, "pixels"),
    "saturation": _of("ColorJitter", "more or less colour", "0.2", {"saturation": _number}, "pixels"),
    "hue": _of("ColorJitter", "turn the colours", "0.1", {"hue": _number}, "pixels"),
    "grey": _of("RandomGrayscale", "take the colour away", "", _P),
    "blur": _of("GaussianBlur", "blur, with an odd window", "3", {"kernel_size": _numbers, "sigma": _numbers}),
    "noise": _of("GaussianNoise", "add noise of a deviation", "", {"sigma": _number}, "tensor"),
    "erase": _of("RandomErasing", "erase a rectangle", "", _P, "tensor"),
    "rand_augment": _of("RandAugment", "RandAugment", "", {"num_ops": _number, "magnitude": _number}, "pixels"),
    "trivial_augment": _of("TrivialAugmentWide", "TrivialAugment", "", {}, "pixels"),
    "to_tensor": Kind(about="0..255 to 0..1, H x W x C to C x H x W", example="", options={}, makes=_to_tensor),
    "normalize": Kind(
        about="(x - mean) / std",
        example="half",
        options={"by": _statistics},
        makes=lambda v2, options: v2.Normalize(*options["by"]),
        needs="tensor",
    ),
}
"""Every step by its name."""

CHAINS = {"notes": "random_crop:180,pad_if_needed=true,flip,to_tensor,normalize:half"}
"""Whole chains by name: that of the notes, which takes smaller pictures too."""

SHORT = {"mode": "padding_mode"}


@dataclass(frozen=True)
class Step:
    """One step of a chain: as it was written, its name, and its options by the names torchvision has for them."""

    text: str
    name: str
    options: dict[str, Any]


def parsed(text: str) -> list[Step]:
    """The steps of a chain, or of the name of one. Raises UsageError for an unknown step or option, a bad value, or an
    order that cannot work.

    >>> [(step.name, step.options) for step in parsed("pad:2,mode=reflect,flip")]
    [('pad', {'padding': 2, 'padding_mode': 'reflect'}), ('flip', {})]
    """
    words: list[list[str]] = []
    for word in CHAINS.get(text.strip(), text).split(","):
        option = "=" in word and ":" not in word.partition("=")[0]
        if option and words:
            words[-1].append(word.strip())
        else:
            words.append([word.strip()])
    steps = [_step(first, options) for first, *options in words]
    _refuse_order(steps)
    return steps


def _step(first: str, options: list[str]) -> Step:
    name, colon, value = first.partition(":")
    if name not in STEPS:
        raise unknown("step", name, [*STEPS, *CHAINS])
    kind = STEPS[name]
    if colon and not kind.options:
        raise UsageError(f"The step {name} takes no value. Received: {first!r}.", f"Write {name}.")
    given = ([f"{next(iter(kind.options))}={value}"] if colon else []) + options
    read = dict(_option(name, kind, *option.partition("=")[::2]) for option in given)
    if len(read) < len(given):
        raise UsageError(f"An option of the step {name} is given twice.", "Leave one out.")
    if kind.example and next(iter(kind.options)) not in read:
        raise UsageError(f"The step {name} needs a value.", f"For example {name}:{kind.example}.")
    return Step(",".join([first, *options]), name, read)


def _option(step: str, kind: Kind, name: str, value: str) -> tuple[str, Any]:
    name = SHORT.get(name.strip(), name.strip())
    if name not in kind.options:
        raise UsageError(f"The step {step} has no option '{name}'.", did_you_mean(name, kind.options or ["none"]))
    try:
        return name, kind.options[name](value.strip())
    except (KeyError, ValueError):
        wants = kind.options[name].__doc__
        raise UsageError(f"{step}: {name} takes {wants}. Received: {value!r}.") from None


def _refuse_order(steps: list[Step]) -> None:
    """A step that takes a tensor stands after to_tensor, one that takes pixels before normalize."""
    seen: list[str] = []
    for step in steps:
        needs, name = STEPS[step.name].needs, step.name
        if needs == "tensor" and "to_tensor" not in seen:
            raise UsageError(f"{name} stands before to_tensor, but takes tensors.", f"Put to_tensor before {name}.")
        if needs == "pixels" and "normalize" in seen:
            raise UsageError(f"{name} stands after normalize, but takes pixels.", f"Put {name} before normalize.")
        seen.append(step.name)


def for_training(text: str) -> list[Step]:
    """The steps of a chain for training pictures. Raises UsageError when they normalise: that is the recipe's part."""
    steps = parsed(text)
    if any(step.name == "normalize" for step in steps):
        raise UsageError(
            "augment.steps cannot hold normalize: pictures are normalised alike in training and test.",
            "Leave it out, and say --set input.normalize=half.",
        )
    return steps


def made(step: Step) -> Callable[[Any], Any]:
    """The step as a function of pictures (PIL), arrays (H W C) and tensors (C H W), by torchvision.transforms.v2.

    Raises UsageError when torchvision refuses the options, or later the picture.
    """
    from PIL import Image
    from torchvision.transforms import v2

    def refused(error: Exception, what: str, hint: str) -> UsageError:
        return UsageError(f"The step {step.text} {what}: {str(error).rstrip('.')}.", hint)

    try:
        transform = STEPS[step.name].makes(v2, step.options)
    except (ValueError, TypeError) as error:
        raise refused(error, "cannot be made", "`tellapart data steps` lists them all.") from None

    def applied(picture: Any) -> Any:
        try:
            # v2 would pass an array on as it is, without a word.
            return transform(Image.fromarray(picture) if type(picture).__name__ == "ndarray" else picture)
        except (ValueError, TypeError, RuntimeError) as error:
            hint = "Give pad_if_needed=true, or larger pictures." if step.name == "random_crop" else ""
            raise refused(error, "cannot take this picture", hint) from None

    return applied
