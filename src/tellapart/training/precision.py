"""Precision: in which numbers the forward pass is computed, and the scale that keeps small gradients above zero."""

import contextlib
import math
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from tellapart.training.shards import is_shard, local, summed

FIRST_SCALE, GROWTH_INTERVAL = 2.0**16, 2000
"""As torch.amp.GradScaler has them: halved at each step that overflows, doubled after so many that do not."""

FOREACH_MUL = torch._foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
FOREACH_NORM = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
AMP_CHECK = torch._amp_foreach_non_finite_check_and_unscale_  # pyright: ignore[reportPrivateImportUsage]
AMP_UPDATE_SCALE = torch._amp_update_scale_  # pyright: ignore[reportPrivateImportUsage]
"""What torch's own clipping and scaler are made of."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Casts the forward pass, scales the loss, and brings gradients back to their size.

    Weights, gradients and the optimiser stay fp32 (Micikevicius et al., "Mixed precision training", 2018). `seen_bad`
    is the first step whose loss, gradients or running statistics were not finite although they were not scaled, or -1.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device, self.dtype = name, device, DTYPES[name]
        self.scale = torch.full((), FIRST_SCALE if name == "fp16" else 1.0, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)
        self.seen_bad, self.fine = torch.full((), -1, device=device), torch.zeros((), device=device)
        self.found, self.one = torch.zeros(1), torch.ones(())
        self.weights: list[nn.Parameter] | None = None
        self.statistics: list[Tensor] | None = None

    def cast(self) -> AbstractContextManager:
        """While open, matrix products and convolutions are computed in this precision."""
        return contextlib.nullcontext() if self.name == "fp32" else torch.autocast(self.device.type, self.dtype)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss * self.scale if self.name == "fp16" else loss

    @torch.no_grad()
    def gradients(
        self, model: nn.Module, loss: Tensor, step: int, *, clip: float, wanted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Unscale the gradients, and shorten them to the norm `clip` (0: any length). Gives their 2-norm before that,
        0 where it is not `wanted` and not needed, and 1 when it, the loss or a buffer is not finite: such a step must
        not be taken.
        """
        if self.weights is None:  # the tree of modules is not walked again in every step
            self.weights = list(model.parameters())
        shards = [p.grad for p in self.weights if p.grad is not None]
        sharded = is_shard(shards[0])
        at_hand = self.device.type == "cpu" and self.name != "fp16"  # no one waits for the answer, and it is seldom no
        if at_hand and not (clip or sharded) and self._finite(model, shards, loss):
            return norm_of(shards) if wanted else self.fine, self.fine
        grads = [local(grad) for grad in shards] if sharded else shards
        if self.name == "fp16":
            FOREACH_MUL(grads, 1 / self.scale)
        norm = norm_of(grads)
        if sharded:
            norm = summed(norm.double().square(), shards[0]).sqrt().float()
        if clip:
            FOREACH_MUL(grads, (clip / (norm + 1e-6)).clamp(max=1.0))
        statistics = self._sum_of_buffers(model)
        if at_hand and math.isfinite(norm.item() + loss.item() + statistics.item()):
            return norm, self.fine
        bad = ~torch.isfinite(norm + loss + statistics)
        hopeless = bad & (self.scale <= 1) & (self.seen_bad < 0)
        self.seen_bad = torch.where(hopeless, step, self.seen_bad)
        found = bad.float()
        if self.name == "fp16":
            AMP_UPDATE_SCALE(self.scale, self.good, found, 2.0, 0.5, GROWTH_INTERVAL)
        return norm, found

    def _finite(self, model: nn.Module, grads: list[Tensor], loss: Tensor) -> bool:
        """Whether all of these and the running statistics are finite: each times 1, a fifth of the time of the norm."""
        AMP_CHECK([*grads, *self._buffers(model), loss], self.found.zero_(), self.one)
        return not self.found.item()

    def _buffers(self, model: nn.Module) -> list[Tensor]:
        """All running statistics, which a mean of batches may make something else than finite."""
        if self.statistics is None:
            self.statistics = [b for b in model.buffers() if b.is_floating_point()]
        return self.statistics

    def _sum_of_buffers(self, model: nn.Module) -> Tensor:
        """Not finite when one of them is not."""
        flat = [b if b.ndim == 1 else b.flatten() for b in self._buffers(model)]
        return torch.cat(flat).sum() if flat else self.fine

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold: nothing where nothing is scaled and nothing bad was seen."""
        own = {"scale": self.scale, "good": self.good} if self.name == "fp16" else {}
        return {**own, "seen_bad": self.seen_bad} if self.device.type != "cpu" else own

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up the scale where it was."""
        for name, value in state.items():
            getattr(self, name).copy_(value)


def norm_of(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients together, on their device."""
    return torch.linalg.vector_norm(torch.stack(FOREACH_NORM(grads)).float())
