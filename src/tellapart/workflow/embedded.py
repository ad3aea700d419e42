"""What the body of a network makes of pictures, as its head is given it; kept, so that it is made once."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tellapart.data import kept
from tellapart.data.augment import network_input
from tellapart.data.loader import Loader
from tellapart.data.pictures import Pictures
from tellapart.models.build import Architecture
from tellapart.models.frozen import head_of
from tellapart.models.look import still
from tellapart.training.fit import Asked

BATCH, KEPT = 32, 8
"""Pictures at a time; sets of features that are kept."""


@dataclass(frozen=True)
class Body:
    """A network without its head, which is a linear layer; what it is built by, and where it is."""

    model: nn.Module
    architecture: Architecture
    device: torch.device

    @property
    def head(self) -> nn.Module:
        """The layer that is given what the body makes."""
        return self.model.get_submodule(head_of(self.model))


def embedded(
    body: Body, pictures: Pictures, rows: NDArray[np.int64], *, turned: bool = False, asked: Asked = lambda: None
) -> Tensor:
    """What comes to the head (N F) from these pictures, or from their mirror images; taken from the cache where it was
    made before. Raises the ending that `asked` returns.
    """
    found = known(body, pictures, rows, turned=turned)
    if found is None:
        found = _made(body, pictures, rows, turned, asked)
        kept.keep(
            kept.FEATURES, _name(body, pictures, rows, turned), {"values": found.view(np.uint8).ravel()}, most=KEPT
        )
    return torch.from_numpy(found).to(body.device)


def known(
    body: Body, pictures: Pictures, rows: NDArray[np.int64], *, turned: bool = False
) -> NDArray[np.float32] | None:
    """What `embedded` made of these pictures before (N F); None where it did not."""
    columns = kept.kept(kept.FEATURES, _name(body, pictures, rows, turned))
    return None if columns is None else np.array(columns["values"]).view(np.float32).reshape(len(rows), -1)


def _made(body: Body, pictures: Pictures, rows: NDArray[np.int64], turned: bool, asked: Asked) -> NDArray[np.float32]:
    loader = Loader(pictures=pictures, rows=rows, batch_size=BATCH, device=body.device, shuffle=False)
    with given(body.head) as seen, still(body.model), torch.inference_mode():
        for batch in loader.epoch(0):
            images = batch.images.flip(2) if turned else batch.images
            body.model(network_input(images, pictures.preprocess))
            if (ending := asked()) is not None:
                raise ending
    return torch.cat(seen).numpy()


@contextmanager
def given(layer: nn.Module) -> Iterator[list[Tensor]]:
    """All that a layer is given inside, on the CPU."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().float().cpu()))
    try:
        yield seen
    finally:
        hook.remove()


def _name(body: Body, pictures: Pictures, rows: NDArray[np.int64], turned: bool) -> str:
    """What the features depend on: the weights of the body, the pictures, how they are prepared, and where."""
    told, head = hashlib.blake2b(digest_size=16), head_of(body.model)
    for key, value in sorted(body.model.state_dict().items()):
        if not key.startswith(f"{head}."):
            told.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    where = [torch.__version__, str(body.device), torch.get_num_threads(), turned]
    told.update(json.dumps([body.architecture.to_json(), pictures.preprocess.to_json(), where]).encode())
    if pictures.index.digests is not None:
        told.update(pictures.index.digests[rows].tobytes())
    return told.hexdigest()
