"""Batch normalisation over the whole batch when several processes share it: what one process would have computed."""

from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

LENT: ContextVar[bool] = ContextVar("LENT", default=False)
"""Whether the pictures of this process are only lent, and have no say in means and deviations."""


class _Sum(torch.autograd.Function):
    """The sum over all processes, of values on the way there and of gradients on the way back."""

    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        total = args[0].clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone()
        dist.all_reduce(total)
        return total


class SyncNorm(_BatchNorm):
    """Batch normalisation of (B C ...) whose mean and deviation are those over the batches of all processes.

    Unlike torch.nn.SyncBatchNorm it works on a CPU too. Mean first, then squares about it: two sums a layer, exact.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of places."""

    def forward(self, input: Tensor) -> Tensor:
        """(B C ...) to the same, normalised; all processes must come here together while they train."""
        if not self.training:
            own = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(input, *own, training=False, eps=self.eps)
        values, counts = input.float(), float(not LENT.get())
        places = [0, *range(2, values.ndim)]
        shape = [1, -1] + [1] * (values.ndim - 2)
        own = values.new_tensor([counts * values.numel() / values.shape[1]])
        sums = _Sum.apply(torch.cat([values.sum(places) * counts, own]))
        n, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        apart = values - mean.view(shape)
        var = _Sum.apply(apart.square().sum(places) * counts) / n
        self._track(mean.detach(), var.detach() * n / (n - 1).clamp_min(1))
        scale = torch.rsqrt(var + self.eps) * (1 if self.weight is None else self.weight)
        made = apart * scale.view(shape)
        return (made if self.bias is None else made + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, step)
        self.running_var.lerp_(var, step)


def synced(model: nn.Module) -> nn.Module:
    """The model with every batch normalisation made one over all processes. Names and values stay."""
    for name, child in model.named_children():
        setattr(model, name, _synced(child) if isinstance(child, _BatchNorm) else synced(child))
    return model


def _synced(norm: _BatchNorm) -> SyncNorm:
    made = SyncNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.load_state_dict(norm.state_dict())
    made.requires_grad_(all(p.requires_grad for p in norm.parameters()))
    return made.to(next(iter(norm.state_dict().values())).device).train(norm.training)
