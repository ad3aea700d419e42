"""The network by code that torch.compile made for it, where a training asks for that; everything else goes without."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tellapart.errors import UsageError


class Compiled:
    """(B C S S) to (B K), as the network itself gives it up to rounding.

    The code is made for batches of `size`. Others, such as the last of an epoch, go the plain way: each size would be
    compiled anew, and which way a batch goes must not depend on what came before, so that a resumed run computes the
    same. Raises UsageError when the network cannot be compiled here.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage] - what it knows of earlier networks counts as limits
        self.network, self.size, self.fast = network, size, torch.compile(network, dynamic=False)

    def __call__(self, pixels: Tensor) -> Tensor:
        if len(pixels) != self.size:
            return self.network(pixels)
        with explained():
            return self.fast(pixels)


@contextmanager
def explained() -> Iterator[None]:
    """Makes what the compiler cannot do a UsageError. Code for the way back is made only when that is gone."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith("torch._"):  # of the network, not of its compiler
            raise
        why = str(error).strip().partition("\n")[0]
        raise UsageError(f"The network cannot be compiled here: {why}", "Leave out machine.compile.") from error
