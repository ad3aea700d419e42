"""The default network for small pictures. Its choices and what lost to them are in docs/log.md."""

import torch
from torch import Tensor, nn


def pooling_stages(size: int) -> int:
    """How often the picture is halved: until the map is at most 4 pixels a side, at least twice.

    >>> [pooling_stages(size) for size in (8, 28, 32, 64)]
    [2, 3, 3, 4]
    """
    stages = 0
    while size > 4 or stages < 2:
        size, stages = size // 2, stages + 1
    return stages


class Stage(nn.Module):
    """(B C S S) -> (B W S/2 S/2): convolution, pooling, norm, ReLU; then a second convolution is added to the result.

    Pooling stands before the norm and the ReLU: the same function for a quarter of the element-wise work.
    """

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.pool(self.conv1(x))))
        return x + torch.relu(self.norm2(self.conv2(x)))


class SmallNet(nn.Module):
    """(B C S S) -> (B K) for pictures of 4 to 256 pixels: stages of W, 2 W, 4 W, 4 W … channels, then the maximum of
    each channel, then one linear layer.
    """

    def __init__(self, channels: int, num_classes: int, size: int, width: int = 16) -> None:
        super().__init__()
        widths = [width * min(2**stage, 4) for stage in range(pooling_stages(size))]
        self.stages = nn.Sequential(*map(Stage, [channels, *widths[:-1]], widths))
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(x).amax((2, 3)))
