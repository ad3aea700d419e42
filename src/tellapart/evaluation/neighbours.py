"""The training pictures that a network holds for most like a picture: nearest by what its last layer is given."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tellapart.models.look import still

WEIGHTED = nn.Linear | nn.Conv2d
FEATURES = NDArray[np.float32]


class Neighbour(NamedTuple):
    """A training picture: its row, and its distance 1 - cos between what the last layer is given for both."""

    row: int
    distance: float


def last_layer(model: nn.Module, pixels: Tensor) -> str:
    """The path of the linear layer or convolution that runs last on pictures (B C S S); "" when there is none, or when
    it has run before.
    """
    ran: list[str] = []

    def note(path: str) -> Callable[..., Any]:
        return lambda module, given: ran.append(path)

    layers = [(path, one) for path, one in model.named_modules() if isinstance(one, WEIGHTED)]
    handles = [one.register_forward_pre_hook(note(path)) for path, one in layers]
    try:
        with still(model):
            model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran and ran.count(ran[-1]) == 1 else ""


def nearest(query: FEATURES, among: FEATURES, rows: NDArray[np.int64], count: int) -> list[Neighbour]:
    """The `count` rows whose features (N F) have the largest cosine with those of one picture (F), nearest first."""
    lengths = np.linalg.norm(among, axis=1) * np.linalg.norm(query)
    cosines = (among @ query) / np.maximum(lengths, 1e-12)
    order = np.argsort(-cosines, kind="stable")[:count]
    return [Neighbour(int(rows[n]), max(0.0, float(1 - cosines[n]))) for n in order]
