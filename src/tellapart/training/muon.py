"""Muon: momentum whose matrices are made orthogonal before they are applied (K. Jordan, 2024).

Source: "Muon: an optimizer for hidden layers in neural networks", kellerjordan.github.io/posts/muon. Matrices and
filters, seen as (out, in * height * width), go this way; biases and norms go by Adam. The length of a step is that of
AdamW (`match_rms_adamw` of torch.optim.Muon; Liu et al., "Muon is scalable for LLM training", 2025), so that both kinds
of weights share one learning rate.
"""

import math

import torch
from torch import Tensor

from tellapart.training.own import Adam, Group, reach

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration: five rounds bring every singular value to between 0.7 and 1.2."""


class Muon:
    """Muon for matrices and filters, and Adam for everything else, behind one set of verbs."""

    def __init__(self, groups: list[Group], *, momentum: float, betas: tuple[float, float]) -> None:
        self.matrices = [group for group in groups if group.params[0].ndim > 1]
        self.momentum, self.adam = momentum, Adam([g for g in groups if g.params[0].ndim <= 1], True, betas)
        self.buffers = [[torch.zeros_like(p) for p in group.params] for group in self.matrices]

    def reach(self, depth: int) -> None:
        reach([*self.matrices, *self.adam.groups], depth)

    def zero_grad(self) -> None:
        self.adam.zero_grad()
        for group in self.matrices:
            for param in group.params:
                param.grad = None

    @torch.no_grad()
    def step(self, lr: float, *, skip: Tensor | None = None) -> None:
        if skip is not None and skip.item():
            return
        for group, buffers in zip(self.matrices, self.buffers, strict=True):
            for param, buffer in zip(group.params, buffers, strict=True):
                if param.grad is not None:
                    _step(param, param.grad, buffer, group.rate(lr), group.weight_decay, self.momentum)
        self.adam.step(lr)

    def state(self) -> dict[str, Tensor]:
        buffers = enumerate(buffer for group in self.buffers for buffer in group)
        return {f"matrix.{n}": buffer for n, buffer in buffers} | self.adam.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self.adam.load(state)
        for name, buffer in self.state().items():
            if name.startswith("matrix."):
                buffer.copy_(state[name])


def _step(param: Tensor, grad: Tensor, buffer: Tensor, lr: float, weight_decay: float, momentum: float) -> None:
    """One step with Nesterov momentum; the weight decay is decoupled, as AdamW has it."""
    buffer.lerp_(grad, 1 - momentum)
    update = orthogonal(grad.lerp(buffer, momentum).flatten(1)).view_as(param)
    param.mul_(1 - lr * weight_decay)
    param.add_(update, alpha=-lr * 0.2 * math.sqrt(max(param.shape[0], param[0].numel())))


def orthogonal(matrix: Tensor, *, rounds: int = 5) -> Tensor:
    """About U V^T of the matrix U S V^T (n, m), by products alone; bf16 on a GPU, fp32 on a CPU, where bf16 is slow."""
    a, b, c = QUINTIC
    x = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
