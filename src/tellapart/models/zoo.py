"""torchvision's classifiers by name. torchvision is imported here and nowhere else, and only when one is asked for."""

from torch import nn

MORE: dict[str, dict[str, object]] = {
    "inception_v3": {"aux_logits": False, "init_weights": True},
    "googlenet": {"aux_logits": False, "init_weights": True},
}
"""Arguments without which a network gives something else than logits, or warns."""


def build_torchvision(name: str, num_classes: int) -> nn.Module:
    """A torchvision classifier with fresh weights: (B 3 H W) -> (B K)."""
    from torchvision.models import get_model

    return get_model(name, weights=None, num_classes=num_classes, **MORE.get(name, {}))
