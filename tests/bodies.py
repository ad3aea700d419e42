"""Pretrained weights that a test makes: of a real network, random, with statistics of the pictures it will meet."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from tellapart.models.zoo import build_torchvision

NET = "mobilenet_v3_small"


def write_body(path: Path, *, size: int = 32) -> Path:
    """Write the tensors of NET for 1,000 classes to `path`."""
    torch.manual_seed(1)
    body, seen = build_torchvision(NET, 1000), torch.randn(32, 3, size, size)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all calls
    with torch.no_grad():
        body(seen)
        body(seen)
    save_file(body.state_dict(), path)  # what torch.save wrote is read by a child, which takes its time
    return path
