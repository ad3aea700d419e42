"""The fields of a picture: a grid laid over the square a network sees, of which some are taken away and filled in."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

FIELDS = 10
"""Fields along a side; fewer where the picture has fewer pixels."""


def fields_of(size: int) -> NDArray[np.int64]:
    """(S): in which field along its side a pixel lies.

    >>> fields_of(12).tolist()
    [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    """
    return np.arange(size) * min(size, FIELDS) // size


def means(values: Tensor) -> Tensor:
    """(… S S) to (… G G): the mean of each field."""
    where = torch.from_numpy(fields_of(values.shape[-1]))
    members = torch.nn.functional.one_hot(where).to(values)
    members = members / members.sum(0)
    return members.mT @ values @ members


def in_fields(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """A heat map (S S) as the mean of each field (G G)."""
    return means(torch.from_numpy(heat)).numpy()


def without(pixels: Tensor, gone: NDArray[np.bool_]) -> Tensor:
    """(N C S S): the picture (1 C S S) without the fields that are `gone` (N G G), once for each n.

    What is gone takes the colours that the fields around it lead to, by averaging from neighbour to neighbour: linear
    imputation (Rong et al., ICML 2022), which removes what was there and puts no new edge in its place. Where all are
    gone, it is the mean colour of the picture.
    """
    size = pixels.shape[-1]
    away = torch.from_numpy(gone).to(pixels.device)[:, None]
    at = torch.from_numpy(fields_of(size)).to(pixels.device)
    small = _led_to(means(pixels), away.to(pixels))
    filled = interpolate(small, (size, size), mode="bilinear")
    return torch.where(away[:, :, at][:, :, :, at], filled, pixels)


def _led_to(colours: Tensor, away: Tensor) -> Tensor:
    """(N C G G): the colours (1 C G G), and where `away` (N 1 G G) is 1, what their neighbours lead to."""
    known = 1 - away
    values, weight = colours * known, known
    for _ in range(2 * away.shape[-1]):
        total = avg_pool2d(weight, 3, 1, 1)
        spread = avg_pool2d(values * weight, 3, 1, 1) / total.clamp(min=1e-9)
        values = torch.where(away > 0, spread, colours)
        weight = torch.maximum(known, (total > 0).to(known))
    return torch.where(weight > 0, values, colours.mean((2, 3), keepdim=True))
