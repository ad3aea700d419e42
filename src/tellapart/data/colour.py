"""Colour: brightness, contrast, saturation, hue and grey as one matrix a picture; blur, noise, sharpness, erasing."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tellapart.data.moves import Numbers
from tellapart.recipe_augment import Augment

LUMA = np.array([0.299, 0.587, 0.114])
"""Brightness as the eye sees it (ITU-R BT.601)."""

_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_BYTES_DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)


def matrices(n: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrix (B, 3, 3) of each picture, and how much of its mean luma (B) is added: x -> A x + o mean(luma(x)).

    In turn: brightness, contrast about the mean luma, saturation about the luma of each pixel, hue as a rotation about
    the grey axis in YIQ, grey. Each of them leaves grey grey, so the mean needs no matrix.
    """
    grey = np.tile(LUMA, (3, 1))
    s, g = n["saturation"][:, None, None], n["grey"][:, None, None]
    colours = (g * grey + (1 - g) * np.eye(3)) @ _turned(2 * np.pi * n["hue"]) @ (s * np.eye(3) + (1 - s) * grey)
    return colours * (n["contrast"] * n["brightness"])[:, None, None], (1 - n["contrast"]) * n["brightness"]


def _turned(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations of I and Q, seen from RGB, (B, 3, 3)."""
    zero, cos, sin = np.zeros_like(angle), np.cos(angle), np.sin(angle)
    turn = np.stack([zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos], axis=-1).reshape(-1, 3, 3)
    return np.linalg.inv(_YIQ) @ turn @ _YIQ


def tinted(n: Numbers) -> NDArray[np.bool_]:
    """Which pictures (B) their matrix changes."""
    none = {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0, "grey": 0}
    return np.any([n[name] != value for name, value in none.items()], axis=0)


def means(images: Tensor) -> Tensor:
    """The mean luma (B) of (B C S S) float pictures of whole numbers; sums are exact, however the work is divided."""
    totals = images.sum(3).to(torch.int64).sum(2).to(torch.float32)
    luma = torch.tensor(LUMA if images.shape[1] == 3 else [1.0], dtype=torch.float32, device=images.device)
    return (totals * luma).sum(1) / images[0, 0].numel()


def coloured(images: Tensor, n: Numbers, luma: Tensor) -> Tensor:
    """(B C S S) float pictures by their matrices; `luma` (B) is their mean luma."""
    turns, shares = matrices(n)
    channels = images.shape[1]
    m = torch.from_numpy((turns if channels == 3 else turns.sum(2)[:, :1, None]).astype(np.float32)).to(images.device)
    added, result = luma * torch.from_numpy(shares.astype(np.float32)).to(images.device), torch.empty_like(images)
    for to in range(channels):
        # Products, then sums: a matrix product's last bits would depend on how many pictures there are.
        plane = torch.mul(images[:, 0], m[:, to, 0, None, None], out=result[:, to])
        for of in range(1, channels):
            plane += images[:, of] * m[:, to, of, None, None]
    return result.add_(added[:, None, None, None])


def blurred(images: Tensor, sigmas: NDArray[np.float64], most: float) -> Tensor:
    """(B C S S) pictures blurred by a Gaussian each, of `sigmas` (B) pixels, at most `most`; edges are reflected."""
    batch, channels, side, _ = images.shape
    radius = min(math.ceil(3 * most), side - 1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / np.maximum(sigmas, 1e-3)[:, None]) ** 2)
    weights = torch.from_numpy((taps / taps.sum(1, keepdims=True)).astype(np.float32)).to(images.device)
    kernel = weights.repeat_interleave(channels, 0)[:, None, None]
    flat = images.reshape(1, batch * channels, side, side)
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), "reflect"), kernel, groups=batch * channels)
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), "reflect"), kernel.mT, groups=batch * channels)
    return flat.reshape(images.shape)


def noise(images: Tensor, keys: NDArray[np.float64], deviations: NDArray[np.float64]) -> Tensor:
    """Noise of these deviations (B), as a pure function of the keys (B) in [0, 1) and of the place in the picture.

    A 32-bit hash of the place gives four bytes, whose sum is nearly normal (Irwin-Hall); whole numbers all the way, so
    that every device draws the same. The hash: "lowbias32" (C. Wellons, "Prospecting for hash functions", 2018).
    """
    key = ((keys * 2**24).astype(np.uint64) * 0x9E3779B1 & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    places = torch.arange(images[0].numel(), dtype=torch.int32, device=images.device).reshape(images[0].shape)
    x = places ^ torch.from_numpy(key).to(images.device)[:, None, None, None]
    x = (x ^ (x >> 16 & 0xFFFF)) * 0x7FEB352D
    x = (x ^ (x >> 15 & 0x1FFFF)) * -0x7B935975  # 0x846CA68B in 32 bits
    x ^= x >> 16 & 0xFFFF
    total = (x & 255) + (x >> 8 & 255) + (x >> 16 & 255) + (x >> 24 & 255)
    width = torch.from_numpy((deviations * 255 / _BYTES_DEVIATION).astype(np.float32)).to(images.device)
    return (total - 510) * width[:, None, None, None]


def sharpened(images: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """(B S S C) uint8 pictures drawn from their smooth selves by `factors` (B): 0 smooth, 1 as they are; borders stay.

    Smooth is the mean of 3 x 3 pixels of which the middle counts five times, as in Pillow and torchvision.
    """
    wide = images.to(torch.int16)
    rows = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner, made = wide[:, 1:-1, 1:-1].to(torch.float32), images.clone()
    smooth = total.to(torch.float32).add_(inner, alpha=4).div_(13).round_()
    shares = torch.from_numpy((1 - factors).astype(np.float32)).to(images.device)[:, None, None, None]
    made[:, 1:-1, 1:-1] = smooth.sub_(inner).mul_(shares).add_(inner).clamp_(0, 255)  # cut, not rounded, as theirs
    return made


def erased(images: Tensor, chance: Numbers, asked: Augment) -> Tensor:
    """(B S S C) uint8 pictures, some with a rectangle of `fill`: 2 to 33 % of the area, sides 3:10 to 10:3.

    Zhong et al., "Random erasing data augmentation", 2020.
    """
    side = images.shape[1]
    area, aspect = 0.02 + 0.31 * chance["erase_area"], (10 / 3) ** (2 * chance["erase_aspect"] - 1)
    chosen = chance["erase"] < (asked.erase or 0)
    high, wide = (np.minimum(side, np.round(side * np.sqrt(area * a))) * chosen for a in (aspect, 1 / aspect))
    top, left = np.floor(chance["erase_y"] * (side - high + 1)), np.floor(chance["erase_x"] * (side - wide + 1))
    return torch.where(box(images, top, left, top + high, left + wide), asked.fill, images)


def box(images: Tensor, *edges: NDArray[np.float64]) -> Tensor:
    """(B S S 1) of bool: which pixels lie in the rectangle top, left, bottom, right (B each) of their picture."""
    top, left, bottom, right = (torch.from_numpy(e.astype(np.int64)).to(images.device)[:, None] for e in edges)
    places = torch.arange(images.shape[1], device=images.device)
    rows, columns = (places >= top) & (places < bottom), (places >= left) & (places < right)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
