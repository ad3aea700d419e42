"""Looking at a network with one dummy batch: what it computes, and what a person should know before training it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tellapart.errors import UsageError

NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm"}
WEIGHTED = {"conv1d", "conv2d", "conv3d", "linear"}
BETWEEN = frozenset(
    """
    relu relu_ gelu silu silu_ hardswish hardswish_ elu leaky_relu sigmoid tanh softmax hardtanh hardtanh_ relu6
    batch_norm layer_norm scaled_dot_product_attention multi_head_attention_forward mul hardsigmoid
    """.split()  # noqa: SIM905 - names read better as words
)


@dataclass(frozen=True)
class Look:
    """What one forward pass of two blank pictures showed: the functions called, the output, and of one picture the
    multiply-adds and the numbers that all functions together gave.
    """

    functions: list[str]
    output: tuple[int, ...]
    multiply_adds: int
    activations: int

    @property
    def normalised(self) -> bool:
        """Whether the network normalises its activations, and so bears a high learning rate."""
        return not NORMS.isdisjoint(self.functions)

    def remarks(self, name: str) -> list[str]:
        """What should be known of this network: layers that follow each other without an activation between them."""
        bare, since_weight = 0, False
        for function in self.functions:
            if function in WEIGHTED:
                bare, since_weight = bare + since_weight, True
            elif function in BETWEEN:
                since_weight = False
        if not bare:
            return []
        times = "once" if bare == 1 else f"{bare} times"
        return [
            f"in {name} a layer with weights follows another {times} without an activation between them, and linear "
            "after linear is still linear; the default, --model small, has activations"
        ]


class _Calls(TorchFunctionMode):
    """Records the name of every torch function called, and counts the multiply-adds of layers with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.multiply_adds = self.activations = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        self.names.append(name)
        self.activations += output.numel() if isinstance(output, torch.Tensor) else 0
        if name in WEIGHTED:
            self.multiply_adds += output.numel() * args[1][0].numel()
        return output


class Sized(Protocol):
    """What is asked of an architecture: the name of the network, and the pictures (C S S) that it takes."""

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...


def look(model: nn.Module, architecture: Sized) -> Look:
    """One forward pass with two blank pictures. Raises UsageError when the network cannot take them."""
    param = next(model.parameters())
    blank = torch.zeros(2, architecture.channels, architecture.size, architecture.size, device=param.device)
    try:
        with still(model), _Calls() as seen:
            output = model(blank)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"{architecture.name} cannot take {tuple(blank.shape)}: {error}",
            "Choose another --set input.size, or another --model.",
        ) from error
    return Look(seen.names, tuple(output.shape), seen.multiply_adds // len(blank), seen.activations // len(blank))


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Eval mode without a graph inside; every module's own training flag afterwards (frozen parts differ)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
