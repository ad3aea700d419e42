"""The usual activations with their slopes, by torch itself."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def activated(xs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Values and slopes of each activation at `xs`, in their shape; the slope of relu at 0 is 0, as torch has it.

    >>> values, slopes = activated(torch.tensor([-1.0, 2.0]))["relu"]
    >>> values.tolist(), slopes.tolist()
    ([0.0, 2.0], [0.0, 1.0])
    """
    found = {}
    for name, function in ACTIVATIONS.items():
        at = xs.detach().clone().requires_grad_()
        values = function(at)
        (slopes,) = torch.autograd.grad(values.sum(), at)
        found[name] = values.detach(), slopes
    return found
