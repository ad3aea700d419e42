"""torchvision's classifiers by name. torchvision is imported here and in catalogue.py, and only when needed."""

import torch
from torch import Tensor, nn

MORE: dict[str, dict[str, object]] = {
    "inception_v3": {"aux_logits": False, "init_weights": True},
    "googlenet": {"aux_logits": False, "init_weights": True},
}
"""Arguments without which a network gives something else than logits, or warns."""


def build_torchvision(name: str, num_classes: int, channels: int = 3) -> nn.Module:
    """A torchvision classifier with fresh weights: (B C H W) -> (B K).

    With other than three channels its first convolution is `adapted`, and all other weights stay those of the seed.
    """
    from torchvision.models import get_model

    network = get_model(name, weights=None, num_classes=num_classes, **MORE.get(name, {}))
    return network if channels == 3 else _with_channels(network, channels)


def adapted(weight: Tensor, channels: int) -> Tensor:
    """Filters for colour (O 3 H W) as filters for other pictures (O channels H W), so that none is lost.

    For one channel the sum over the three, which sees in a grey picture what the filter sees in its copy in colour; for
    more or fewer the three over and over, scaled so that equal channels give what they gave before.
    """
    if channels == 3:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(channels) % 3] * (3 / channels)


def _with_channels(network: nn.Module, channels: int) -> nn.Module:
    """The network with its first convolution made for so many channels."""
    first = next(one for one in network.modules() if isinstance(one, nn.Conv2d))
    first.in_channels, first.weight = channels, nn.Parameter(adapted(first.weight.detach(), channels))
    return network
