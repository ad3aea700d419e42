"""Shards: weights, gradients and what an optimiser remembers, divided among the processes (FSDP2, fully_shard).

Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel" (VLDB 2023). A network is whole one
block at a time: while the block computes, its weights are gathered from all processes. Tensors that are not sharded
pass through every function here as they are.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

LARGEST = 10_000_000
"""Weights of a block above which its own blocks are gathered one by one."""


def sharded(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with its weights divided among all processes, on their devices. All must have the same weights; none
    waits for another.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    mesh = DeviceMesh.from_group(dist.group.WORLD, device.type)  # type: ignore[arg-type]
    for block in [*_blocks(model), model]:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    return model


def awake(model: nn.Module) -> nn.Module:
    """A sharded model that has gathered each block once; all must ask together. One that is judged before it trains
    would make its room in inference mode, and could not train in it.
    """
    from torch.distributed.fsdp import FSDPModule

    for block in model.modules():
        if isinstance(block, FSDPModule):
            block.unshard()
            block.reshard()
    return model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at once: children with weights, the inner ones first."""
    for child in module.children():
        weights, runs = sum(p.numel() for p in child.parameters()), type(child).forward is not nn.Module.forward
        if not runs or (weights > LARGEST and "Attention" not in type(child).__name__):  # it reads inner weights itself
            yield from _blocks(child)
        if runs and weights:
            yield child


def is_shard(tensor: Tensor) -> bool:
    """Whether this is one process's part of a larger tensor."""
    if type(tensor) in (Tensor, nn.Parameter):  # without loading what shards are made of
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """The part that this process has. Writing into it changes the shard; not to be differentiated."""
    return tensor.to_local() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """The larger tensor, on the device of this process; all must ask together."""
    return tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def spread(full: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, divided as `like` is; the others are not asked."""
    if not is_shard(like) or is_shard(full):
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


@torch.no_grad()
def gathered(tensors: Mapping[str, Tensor], *, wanted: bool) -> dict[str, Tensor]:
    """The whole tensors, on the CPU, where they are wanted; all must ask together. One at a time is on a device."""
    found = {}
    for name in sorted(tensors):  # one that went on from a file has another order
        full = whole(tensors[name])
        if wanted:
            found[name] = full.cpu()
    return found


def fresh(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of an optimiser that has not stepped, whole: where it has shards, they are zeros."""
    return {name: torch.zeros(t.shape, dtype=t.dtype) if is_shard(t) else t for name, t in state.items()}


def summed(mine: Tensor, like: Tensor) -> Tensor:
    """The sum over all processes of what each found for its shards, when `like` is one; all must ask together."""
    if is_shard(like):
        dist.all_reduce(mine)
    return mine
