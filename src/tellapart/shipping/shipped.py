"""The network as it is shipped: from uint8 pixels to logits and probabilities, in tensor arithmetic that any exporter
can write down.

Cutting, padding and resizing are one matrix for each axis, made from the size of the picture: no runtime has a resize
that gives the same numbers as another. Weights and results are rounded as `data/square.py` has them rounded, so the
square is the same to the bit but for a few values in 100,000, off by one level.
"""

import torch
from torch import Tensor, nn

from tellapart.models.bundle import Bundle
from tellapart.preprocess import Preprocess

BITS, MOST_BITS = 15, 22
"""Weights of a resize are integers below 2^15, over the largest power of two, up to 2^22, that allows it."""


class Pixels(nn.Module):
    """Squares (B S S C) uint8 to the same (B C S S) as float32."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 1, 2).to(torch.float32)


class Square(nn.Module):
    """Pictures of one size, (B H W C) uint8, to the network's squares (B C S S), whole numbers as float32."""

    def __init__(self, to: Preprocess) -> None:
        super().__init__()
        self.to_square = to

    def forward(self, pictures: Tensor) -> Tensor:
        ys, xs = (torch.arange(pictures.shape[axis], device=pictures.device) for axis in (1, 2))
        height, width = ys[-1] + 1, xs[-1] + 1
        down, across = self._axis(ys, height, width), self._axis(xs, width, height)
        wide = _whole(pictures.permute(0, 3, 1, 2).to(torch.float32) @ across.transpose(0, 1))
        return _whole(down @ wide)

    def wide(self, step: Tensor) -> Tensor:
        """How many pixels of the picture the kernel reaches over where each pixel made is `step` of them."""
        return torch.clamp(step, min=1.0)

    def _axis(self, places: Tensor, length: Tensor, other: Tensor) -> Tensor:
        """What each of the S pixels on an axis takes from each pixel of the picture at `places` (L): (S, L)."""
        first, kept, before, inner = self._span(length, other)
        to, cut = self.to_square, (self.to_square.side - self.to_square.size) // 2
        made, here = torch.arange(to.side, device=places.device) - before, places - first
        inside = ((here >= 0) & (here < kept))[None] & ((made >= 0) & (made < inner))[:, None]
        if to.filter == "nearest":  # in float32, as torch has it: the centre may lie between two pixels
            nearest = torch.floor((made.float() + 0.5) * (kept.float() / inner.float())).long()
            weights = ((here[None] == nearest[:, None]) & inside).float()
        else:
            step = kept.double() / inner.double()
            centre = (made.double() + 0.5) * step
            far = (here.double()[None] + 0.5 - centre[:, None]) / self.wide(step)
            weights = _rounded(KERNELS[to.filter](far) * inside)
        return weights[cut : cut + to.size]

    def _span(self, length: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """On one axis: the first pixel and how many are taken, and before and to how many pixels they go."""
        to, none = self.to_square, torch.zeros_like(length)
        if to.fit == "crop":
            kept = torch.minimum(length, other)
            return torch.div(length - kept, 2, rounding_mode="floor"), kept, none, none + to.side
        if to.fit == "squash":
            return none, length, none, none + to.side
        scale = to.side / torch.maximum(length, other).double()
        inner = torch.clamp(torch.round(length.double() * scale).long(), min=1)
        return none, length, torch.div(to.side - inner, 2, rounding_mode="floor"), inner


def _whole(values: Tensor) -> Tensor:
    return torch.floor(values + 0.5).clamp(0.0, 255.0)


def _rounded(weights: Tensor) -> Tensor:
    """Weights (S, L) float64 that sum to 1 in each row, or to 0, as torch rounds them for uint8 pictures."""
    shares = weights / weights.sum(1, keepdim=True).clamp(min=1e-9)
    powers = 2.0 ** torch.arange(1, MOST_BITS + 1, dtype=torch.float64, device=weights.device)
    unit = 2.0 ** (shares.max() * powers + 0.5 < 2.0**BITS).sum().double()
    return (torch.sign(shares) * torch.floor(shares.abs() * unit + 0.5) / unit).float()


def _triangle(far: Tensor) -> Tensor:
    return (1 - far.abs()).clamp(min=0.0)


def _cubic(far: Tensor) -> Tensor:
    """R. Keys, IEEE Trans. ASSP 29, 1981, with a = -1/2."""
    x = far.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    return torch.where(x < 1, near, torch.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, torch.zeros_like(x)))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def shares_of(bundle: Bundle, logits: Tensor) -> Tensor:
    """The probabilities (B K) that a model tells for its logits (B K), as `evaluation.predict.calibrated` has them."""
    return logits.sigmoid() if bundle.thresholds else (logits / bundle.temperature).softmax(1)


class Shipped(nn.Module):
    """A model as one module: uint8 (B H W C) to probabilities (B K) and logits (B K). The logits are those before the
    temperature, which the bound of *unknown* is about. `half`: the network computes in float16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bundle: Bundle, front: nn.Module, *, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.front, self.network, self.kind = front, bundle.module().to(kind), kind
        self.bundle = bundle
        for name in ("mean", "std"):
            values = torch.tensor(getattr(bundle.preprocess, name), dtype=torch.float64)[:, None, None] * 255
            self.register_buffer(name, values.float())

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        squares = (self.front(pictures) - self.mean) / self.std
        logits = self.network(squares.to(self.kind)).float()
        return shares_of(self.bundle, logits), logits
