"""Averages of the weights: what is judged and kept instead of the weights of the last step.

EMA after Polyak and Juditsky (1992), with the decay growing from 0.1 as (1 + t) / (10 + t); SWA after Izmailov et al.
(UAI 2018), the mean of the ends of the last epochs. Running statistics of normalisations are averaged like weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tellapart.training.shards import local, spread

FOREACH_LERP = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
"""What torch's own averages are made of."""


class Average:
    """The average of a network's floating-point tensors. With `decay` 0 and `tail` 0 it keeps nothing."""

    def __init__(self, model: nn.Module, *, decay: float, tail: float) -> None:
        self.decay, self.tail, self.count = decay, tail, 0
        kept = {name: t for name, t in model.state_dict().items() if t.is_floating_point() and (decay or tail)}
        self.live, self.tensors = kept, {name: t.clone() for name, t in kept.items()}

    def after_step(self) -> None:
        """EMA: move a little towards the weights of this step."""
        if self.decay:
            self._move(1 - min(self.decay, (1 + self.count) / (10 + self.count)))

    def after_epoch(self, progress: float) -> None:
        """SWA: take the end of this epoch in, when it lies in the last `tail` of the training."""
        if self.tail and progress > 1 - self.tail:
            self.tensors = {name: t.clone() for name, t in self.tensors.items()}  # a checkpoint may hold the old ones
            self._move(1 / (1 + self.count))

    @torch.no_grad()
    def _move(self, weight: float) -> None:
        FOREACH_LERP([local(t) for t in self.tensors.values()], [local(t) for t in self.live.values()], weight)
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While open, the network has the averaged weights, when there are any; its own come back afterwards."""
        if not self.count:
            yield
            return
        own = {name: tensor.clone() for name, tensor in self.live.items()}
        try:
            _copy(self.tensors, self.live)
            yield
        finally:
            _copy(own, self.live)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"count": torch.tensor(self.count), **self.tensors} if self.tensors else {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up the average where it was."""
        if self.tensors:
            self.count = int(state["count"])
            _copy({name: state[name] for name in self.tensors}, self.tensors)


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, tensor in target.items():
        local(tensor).copy_(local(spread(source[name], tensor)))
