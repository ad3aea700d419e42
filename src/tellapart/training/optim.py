"""Optimisers: one step over all weights at once. SGD, Adam, AdamW and Muon are our own, the others are torch's."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tellapart.recipe import Optim
from tellapart.training.muon import Muon
from tellapart.training.own import Adam, Group, Sgd, groups_of, rates_of, reach
from tellapart.training.shards import spread


class Optimiser(Protocol):
    """What the loop needs: gradients cleared, one step at a learning rate, and its state as tensors.

    `skip` is 1.0 for a step that must not be taken: a tensor, so that no one waits for the device. `reach` opens the
    blocks up to so many before the head.
    """

    def reach(self, depth: int) -> None: ...
    def zero_grad(self) -> None: ...
    def step(self, lr: float, *, skip: Tensor | None = None) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: dict[str, Tensor]) -> None: ...


class FromTorch:
    """An optimiser of torch.optim behind the same four verbs."""

    def __init__(self, groups: list[Group], kind: str, **options: Any) -> None:
        described = [{"params": g.params, "weight_decay": g.weight_decay} for g in groups]
        self.groups, self.inner = groups, getattr(torch.optim, kind)(described, lr=1.0, **options)

    def reach(self, depth: int) -> None:
        reach(self.groups, depth)

    def zero_grad(self) -> None:
        self.inner.zero_grad(set_to_none=True)

    def step(self, lr: float, *, skip: Tensor | None = None) -> None:
        if skip is not None and skip.item():
            return
        for known, group in zip(self.inner.param_groups, self.groups, strict=True):
            known["lr"] = group.rate(lr)
        self.inner.step()

    def state(self) -> dict[str, Tensor]:
        entries = self.inner.state_dict()["state"]
        return {f"{n}.{key}": torch.as_tensor(value) for n, entry in entries.items() for key, value in entry.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        whole = self.inner.state_dict()
        whole["state"] = {}
        params = [param for group in self.inner.param_groups for param in group["params"]]
        for name, value in state.items():
            number, _, key = name.partition(".")
            like = params[int(number)]
            whole["state"].setdefault(int(number), {})[key] = spread(value, like) if value.ndim else value
        self.inner.load_state_dict(whole)


def _sgd(groups: list[Group], o: Optim) -> Optimiser:
    return Sgd(
        groups,
        momentum=o.momentum,
        dampening=o.dampening,
        nesterov=o.plain_momentum() if o.nesterov is None else o.nesterov,
    )


def _adam(groups: list[Group], o: Optim) -> Optimiser:
    return Adam(groups, decoupled=False, betas=(o.beta1, o.beta2))


def _adamw(groups: list[Group], o: Optim) -> Optimiser:
    return Adam(groups, decoupled=True, betas=(o.beta1, o.beta2))


def _muon(groups: list[Group], o: Optim) -> Optimiser:
    return Muon(groups, momentum=o.momentum, betas=(o.beta1, o.beta2))


def _rmsprop(groups: list[Group], o: Optim) -> Optimiser:
    return FromTorch(groups, "RMSprop", momentum=o.momentum)


def _of_torch(kind: str, *, betas: bool = False) -> Callable[[list[Group], Optim], Optimiser]:
    return lambda groups, o: FromTorch(groups, kind, **({"betas": (o.beta1, o.beta2)} if betas else {}))


OPTIMISERS: dict[str, Callable[[list[Group], Optim], Optimiser]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "muon": _muon,
    "adagrad": _of_torch("Adagrad"),
    "adadelta": _of_torch("Adadelta"),
    "adamax": _of_torch("Adamax", betas=True),
    "nadam": _of_torch("NAdam", betas=True),
    "radam": _of_torch("RAdam", betas=True),
    "rmsprop": _rmsprop,
}


def make_optimiser(model: nn.Module, optim: Optim) -> Optimiser:
    """The optimiser a recipe names, over the weights of `model` (already on its device)."""
    more = {"layer_decay": optim.layer_decay, "by_depth": optim.unfreeze_every > 0}
    return OPTIMISERS[optim.name or "sgd"](groups_of(model, optim.weight_decay, rates_of(optim.rates), **more), optim)
