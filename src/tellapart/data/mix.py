"""Pictures mixed in pairs within a batch, and their labels with them: mixup and CutMix."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tellapart.data.colour import box
from tellapart.data.moves import Numbers
from tellapart.recipe_augment import Augment


def mixed(images: Tensor, labels: Tensor, chance: Numbers, asked: Augment, num_classes: int) -> tuple[Tensor, Tensor]:
    """(B S S C) uint8 pictures, each with a part of its partner; the shares of the classes (B K) go with the pixels,
    as those of pictures with several classes (B K) do.

    mixup (Zhang et al., 2018) blends the two, CutMix (Yun et al., 2019) pastes a rectangle; where both are on, each
    picture draws one of them. The partner is the next in an order that the rows themselves draw.
    """
    order = np.argsort(chance["partner"], kind="stable")
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    mixup, cutmix, side = asked.mixup or 0.0, asked.cutmix or 0.0, images.shape[1]
    cuts = chance["mix"] < (0.5 if mixup and cutmix else float(cutmix > 0))
    kept = np.where(cuts, beta(chance["share"], cutmix or 1.0), beta(chance["share"], mixup or 1.0))
    edges = _edges(chance, np.where(cuts, kept, 1.0), side)
    inside = (edges[2] - edges[0]) * (edges[3] - edges[1]) / side**2
    shares = torch.from_numpy(np.where(cuts, 1 - inside, kept).astype(np.float32)).to(images.device)
    blend = torch.from_numpy(np.where(cuts, 1.0, kept).astype(np.float32)).to(images.device)[:, None, None, None]
    other = torch.from_numpy(partner).to(images.device)
    pasted = torch.where(box(images, *edges), images[other], images) if cutmix else images
    few = zip(images[other].split(8), pasted.split(8), blend.split(8), strict=True)  # what the caches hold
    blended = [torch.lerp(o.float(), p.float(), b).round_().to(torch.uint8) for o, p, b in few] if mixup else [pasted]
    return torch.cat(blended), torch.lerp(_hot(labels[other], num_classes), _hot(labels, num_classes), shares[:, None])


def _hot(labels: Tensor, num_classes: int) -> Tensor:
    return (labels if labels.ndim == 2 else F.one_hot(labels, num_classes)).to(torch.float32)


def _edges(chance: Numbers, kept: NDArray[np.float64], side: int) -> list[NDArray[np.float64]]:
    """Top, left, bottom, right of a rectangle of 1 - `kept` of the area about a random centre, cut at the border."""
    half = side * np.sqrt(1 - kept) / 2
    y, x = chance["box_y"] * side, chance["box_x"] * side
    return [np.clip(np.round(edge), 0, side) for edge in (y - half, x - half, y + half, x + half)]


def beta(chance: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Beta(alpha, alpha) from uniform numbers, by its quantile function, to about 1e-4.

    The density of t below a half is integrated over u = t**p, where it has no pole; above, it is its mirror image.
    """
    p = min(alpha, 1.0)
    u = np.linspace(0, 0.5**p, 4097)
    t = u ** (1 / p)
    density = (t * (1 - t)) ** (alpha - p) * (1 - t) ** (p - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    low = np.interp(np.minimum(chance, 1 - chance), mass * (0.5 / mass[-1]), u) ** (1 / p)
    return np.where(chance < 0.5, low, 1 - low)
