"""Our own optimisers over all weights at once: SGD, Adam and AdamW, equal to torch.optim's (tests hold them to it).

Making the first object of `torch.optim` loads half of a compiler (seconds); these functions do not.
"""

import fnmatch
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tellapart.errors import UsageError
from tellapart.models.start import depths
from tellapart.training.shards import local, spread

FUSED_SGD = torch._fused_sgd_  # pyright: ignore[reportPrivateImportUsage]
FUSED_ADAM = torch._fused_adam_  # pyright: ignore[reportPrivateImportUsage]
FUSED_ADAMW = torch._fused_adamw_  # pyright: ignore[reportPrivateImportUsage]
"""The functions under `torch.optim`'s `fused=True`, in every release since 2.3; a test holds them to its results."""

NO_RATES: Mapping[str, float] = {}


@dataclass
class Group:
    """Weights that share a weight decay and a factor of the learning rate, with the buffers kept for each. `depth`:
    blocks between them and the head, counted where they are opened one after the other.
    """

    params: list[Tensor]
    weight_decay: float
    factor: float = 1.0
    depth: int = 0
    opened: bool = True
    buffers: dict[str, list[Tensor]] = field(default_factory=dict)

    def rate(self, lr: float) -> float:
        """Their own learning rate; 0, which leaves every bit, until they are opened."""
        return lr * self.factor if self.opened else 0.0


def groups_of(
    model: nn.Module,
    weight_decay: float,
    rates: Mapping[str, float] = NO_RATES,
    *,
    layer_decay: float = 1.0,
    by_depth: bool = False,
) -> list[Group]:
    """Matrices and filters decay; norms and biases (one dimension) do not. `rates` are factors of the learning rate by
    patterns of names (`features.*`), the first that fits counts; `layer_decay` is one more for each block away from the
    head. Raises UsageError for a pattern that fits no weight.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    idle = [pattern for pattern in rates if not fnmatch.filter(trained, pattern)]
    if idle:
        raise UsageError(
            f"optim.rates: no weight is called {idle[0]}.", f"The first ones: {', '.join([*trained][:4])}."
        )
    depth = depths(model)
    groups: dict[tuple[float, float, int], list[Tensor]] = {}
    for decay, spared in ((weight_decay, False), (0.0, True)):
        for name, param in trained.items():
            if (param.ndim <= 1) == spared:
                factor = next((f for pattern, f in rates.items() if fnmatch.fnmatchcase(name, pattern)), 1.0)
                key = (-1.0 if spared else decay, factor * layer_decay ** depth[name], depth[name] if by_depth else 0)
                groups.setdefault(key, []).append(param)
    return [Group(params, max(decay, 0.0), factor, away) for (decay, factor, away), params in groups.items()]


def reach(groups: list[Group], depth: int) -> None:
    """Open the groups with at most so many blocks between them and the head; the others stay as they are."""
    for group in groups:
        group.opened = group.depth <= depth


def rates_of(asked: str) -> dict[str, float]:
    """The factors in "features.*=0.1,head.*=1". Raises UsageError.

    >>> rates_of("features.*=0.1, head.*=1")
    {'features.*': 0.1, 'head.*': 1.0}
    """
    found = {}
    for pair in filter(None, (part.strip() for part in asked.split(","))):
        pattern, _, factor = pair.partition("=")
        try:
            found[pattern.strip()] = float(factor)
        except ValueError:
            found[pattern.strip()] = -1.0
        if not (pattern.strip() and 0 <= found[pattern.strip()] < math.inf):
            raise UsageError(f"optim.rates: '{pair}' is no NAME=FACTOR.", "Write it as features.*=0.1,classifier.*=1.")
    return found


class _Own:
    """What our own optimisers share: clearing gradients, and buffers as named tensors."""

    def __init__(self, groups: list[Group], names: Iterable[str]) -> None:
        self.groups, self.steps = groups, 0
        for group in groups:
            group.buffers = {name: [torch.zeros_like(p) for p in group.params] for name in names}

    def reach(self, depth: int) -> None:
        reach(self.groups, depth)

    def zero_grad(self) -> None:
        for group in self.groups:
            for param in group.params:
                param.grad = None

    def state(self) -> dict[str, Tensor]:
        named = {
            f"{g}.{name}.{n}": buffer
            for g, group in enumerate(self.groups)
            for name, buffers in group.buffers.items()
            for n, buffer in enumerate(buffers)
        }
        return {"steps": torch.tensor(self.steps), **named}

    def load(self, state: dict[str, Tensor]) -> None:
        self.steps = int(state["steps"])
        for key, buffer in self.state().items():
            if key != "steps":
                local(buffer).copy_(local(spread(state[key], buffer)))


class Sgd(_Own):
    """SGD with momentum, as torch.optim.SGD has it: v = m v + (1 - dampening) g; w -= lr (g + m v) or lr v."""

    def __init__(self, groups: list[Group], *, momentum: float, dampening: float, nesterov: bool) -> None:
        super().__init__(groups, ["momentum"] if momentum else [])
        self.momentum, self.dampening, self.nesterov = momentum, dampening, nesterov

    @torch.no_grad()
    def step(self, lr: float, *, skip: Tensor | None = None) -> None:
        for group in self.groups:
            params, grads = _with_gradients(group)
            if params:
                FUSED_SGD(
                    params,
                    grads,
                    _parts(group, "momentum"),
                    weight_decay=group.weight_decay,
                    momentum=self.momentum,
                    lr=group.rate(lr),
                    dampening=self.dampening,
                    nesterov=self.nesterov,
                    maximize=False,
                    is_first_step=self.steps == 0,
                    found_inf=skip,
                )
        self.steps += 1


class Adam(_Own):
    """Adam (Kingma and Ba, 2015), and AdamW (Loshchilov and Hutter, 2019) when the decay is decoupled."""

    def __init__(self, groups: list[Group], decoupled: bool, betas: tuple[float, float], eps: float = 1e-8) -> None:
        super().__init__(groups, ["mean", "square"])
        self.decoupled, self.betas, self.eps = decoupled, betas, eps

    @torch.no_grad()
    def step(self, lr: float, *, skip: Tensor | None = None) -> None:
        self.steps += 1
        fused = FUSED_ADAMW if self.decoupled else FUSED_ADAM
        for group in self.groups:
            params, grads = _with_gradients(group)
            if params:
                count = [torch.tensor(float(self.steps), device=params[0].device)] * len(params)
                fused(
                    params,
                    grads,
                    _parts(group, "mean"),
                    _parts(group, "square"),
                    [],
                    count,
                    lr=group.rate(lr),
                    beta1=self.betas[0],
                    beta2=self.betas[1],
                    weight_decay=group.weight_decay,
                    eps=self.eps,
                    amsgrad=False,
                    maximize=False,
                    found_inf=skip,
                )


def _with_gradients(group: Group) -> tuple[list[Tensor], list[Tensor]]:
    """The weights and gradients of a group; a weight the loss does not reach counts as having a zero gradient."""
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group.params]
    return [local(p) for p in group.params], [local(grad) for grad in grads]


def _parts(group: Group, name: str) -> list[Tensor]:
    """The buffers of that name, as far as this process has them."""
    return [local(buffer) for buffer in group.buffers.get(name, [])]
