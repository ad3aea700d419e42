"""Three plain networks: the notes' quick CNN, a linear classifier, and a multi-layer perceptron."""

from torch import nn

from tellapart.arith import pooled


def build_quick(channels: int, num_classes: int, size: int) -> nn.Module:
    """The CIFAR-10 quick network of the notes: three 5 x 5 convolutions with pooling, two linear layers, no activation.

    (B C S S) -> (B K). 145,578 parameters for 3 x 32 x 32 and 10 classes. Raises ValueError below 8 pixels.
    """
    side = pooled(pooled(pooled(size, 2), 2), 2)
    if side < 1:
        raise ValueError("it halves the picture three times and needs at least 8 pixels")
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side * side, 64),
        nn.Linear(64, num_classes),
    )


def build_linear(channels: int, num_classes: int, size: int) -> nn.Module:
    """Softmax regression on the pixels: (B C S S) -> (B K). 30,730 parameters for CIFAR-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, num_classes))


def build_mlp(channels: int, num_classes: int, size: int, *, hidden: tuple[int, ...]) -> nn.Module:
    """Fully connected layers with ReLU between them: (B C S S) -> (B K)."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = channels * size * size
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), nn.ReLU()]
        width = next_width
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
