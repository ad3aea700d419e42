"""Robustness: pictures spoilt on purpose, in six ways of five strengths each, and how often the model is still right.

In the manner of D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019; strengths are in shares of the side and of white, so that they mean the same at any size.
"""

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tellapart.data.chance import Purpose, uniform
from tellapart.data.colour import blurred, noise
from tellapart.data.warp import warped

STRENGTHS: Mapping[str, tuple[float, float, float, float, float]] = {
    "blur": (0.01, 0.02, 0.03, 0.045, 0.06),
    "noise": (0.03, 0.06, 0.1, 0.15, 0.2),
    "darker": (0.8, 0.6, 0.45, 0.3, 0.2),
    "brighter": (0.1, 0.2, 0.3, 0.4, 0.5),
    "JPEG": (60, 40, 25, 15, 8),
    "rotation": (5, 10, 15, 25, 40),
}
"""Deviation of the blur in sides; of the noise in shares of white; factor; share of white that is added; quality;
degrees, every second picture to the left.
"""

REMEDY: Mapping[str, tuple[str, float]] = {
    "blur": ("blur", 1),
    "noise": ("noise", 0.1),
    "darker": ("brightness", 0.5),
    "brighter": ("brightness", 0.5),
    "JPEG": ("blur", 1),
    "rotation": ("rotate", 20),
}
"""The setting of `augment` that trains a network against each, and its value."""


def spoilt(images: Tensor, way: str, strength: int, rows: NDArray[np.int64]) -> Tensor:
    """(B S S C) uint8 pictures spoilt with a strength from 1 to 5; `rows` (B) number them, and decide their noise."""
    return _WAYS[way](images, STRENGTHS[way][strength - 1], rows)


def _blur(images: Tensor, share: float, rows: NDArray[np.int64]) -> Tensor:
    sigmas = np.full(len(images), share * images.shape[1])
    return _back(blurred(_planes(images), sigmas, float(sigmas[0])))


def _noise(images: Tensor, share: float, rows: NDArray[np.int64]) -> Tensor:
    keys = uniform(0, Purpose.AUGMENT, 0, rows)[0].astype(np.float64)
    return _back(_planes(images) + noise(_planes(images), keys, np.full(len(images), share)))


def _darker(images: Tensor, factor: float, rows: NDArray[np.int64]) -> Tensor:
    return _back(_planes(images) * factor)


def _brighter(images: Tensor, share: float, rows: NDArray[np.int64]) -> Tensor:
    return _back(_planes(images) + share * 255)


def _jpeg(images: Tensor, quality: float, rows: NDArray[np.int64]) -> Tensor:
    """Each picture through a JPEG file; of other than one or three channels, each channel through one of its own."""
    pixels = images.cpu().numpy()
    if pixels.shape[3] != 3:
        planes = [np.stack([_through_jpeg(one[..., c], quality) for one in pixels]) for c in range(pixels.shape[3])]
        return torch.from_numpy(np.stack(planes, -1)).to(images.device)
    return torch.from_numpy(np.stack([_through_jpeg(one, quality) for one in pixels])).to(images.device)


def _through_jpeg(pixels: NDArray[np.uint8], quality: float) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))


def _rotation(images: Tensor, degrees: float, rows: NDArray[np.int64]) -> Tensor:
    angles = np.radians(degrees) * np.where(rows % 2, -1.0, 1.0)
    places = np.zeros((len(images), 3, 3))
    places[:, 0, 0] = places[:, 1, 1] = np.cos(angles)
    places[:, 0, 1], places[:, 1, 0], places[:, 2, 2] = -np.sin(angles), np.sin(angles), 1.0
    return _back(warped(_planes(images), places, padding="edge", fill=0))


def _planes(images: Tensor) -> Tensor:
    """(B C S S) float."""
    return images.permute(0, 3, 1, 2).to(torch.float32).contiguous()


def _back(images: Tensor) -> Tensor:
    """(B S S C) uint8."""
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


_WAYS: Mapping[str, Callable[[Tensor, float, NDArray[np.int64]], Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "darker": _darker,
    "brighter": _brighter,
    "JPEG": _jpeg,
    "rotation": _rotation,
}
