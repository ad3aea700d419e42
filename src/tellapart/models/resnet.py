"""The residual networks of the notes (He et al. 2015, arXiv:1512.03385), readable; equal to torchvision's."""

import torch
from torch import Tensor, nn


def conv3x3(inside: int, outside: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """(B I H W) -> (B O H/stride W/stride). No bias: the norm that follows has one."""
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(inside: int, outside: int, *, stride: int = 1) -> nn.Conv2d:
    """(B I H W) -> (B O H/stride W/stride), one pixel at a time."""
    return nn.Conv2d(inside, outside, 1, stride=stride, bias=False)


class BasicBlock(nn.Module):
    """relu(F(x) + x) with two 3 x 3 convolutions as F: (B I H W) -> (B C H/stride W/stride).

    `downsample` gives x the shape of F(x) where that differs.
    """

    expansion = 1

    def __init__(self, inside: int, channels: int, *, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = conv3x3(inside, channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    """relu(F(x) + x) with F = 1 x 1 to the width, 3 x 3, 1 x 1 to 4 C: (B I H W) -> (B 4C H/stride W/stride).

    The width is C * width_per_group / 64 for each of the groups. The stride is that of the 3 x 3 convolution ("v1.5"):
    on the first 1 x 1, as in the paper, three of four pixels would never be looked at.
    """

    expansion = 4

    def __init__(
        self,
        inside: int,
        channels: int,
        *,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        width = channels * width_per_group // 64 * groups
        self.conv1 = conv1x1(inside, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride=stride, groups=groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """(B C H W) -> (B K); with include_top=False the last feature maps, (B 512*expansion H/32 W/32).

    The stem takes 224 pixels to 56. A small stem, one 3 x 3 convolution, leaves the picture its size: for pictures of
    about 32 pixels, which the usual stem has shrunk to 8 before the first block (He et al. do the same for CIFAR-10).
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, ...],
        *,
        num_classes: int = 1000,
        channels: int = 3,
        groups: int = 1,
        width_per_group: int = 64,
        include_top: bool = True,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        self.inside, usual = 64, (groups, width_per_group) == (1, 64)
        self.wide = {} if usual else {"groups": groups, "width_per_group": width_per_group}
        kernel, stride = (3, 1) if small_stem else (7, 2)
        self.conv1 = nn.Conv2d(channels, 64, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._make_layer(block, 64, depths[0])
        self.layer2 = self._make_layer(block, 128, depths[1], stride=2)
        self.layer3 = self._make_layer(block, 256, depths[2], stride=2)
        self.layer4 = self._make_layer(block, 512, depths[3], stride=2)
        self.include_top = include_top
        if include_top:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(512 * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _make_layer(
        self, block: type[BasicBlock | Bottleneck], channels: int, depth: int, *, stride: int = 1
    ) -> nn.Sequential:
        """One stage: the first block may halve the picture and widen it, the others keep the shape."""
        outside, downsample = channels * block.expansion, None
        if stride != 1 or self.inside != outside:
            downsample = nn.Sequential(conv1x1(self.inside, outside, stride=stride), nn.BatchNorm2d(outside))
        blocks = [block(self.inside, channels, stride=stride, downsample=downsample, **self.wide)]
        self.inside = outside
        blocks += [block(outside, channels, downsample=None, **self.wide) for _ in range(1, depth)]
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1)) if self.include_top else x


KINDS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int], dict[str, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), {}),
    "resnet34": (BasicBlock, (3, 4, 6, 3), {}),
    "resnet50": (Bottleneck, (3, 4, 6, 3), {}),
    "resnet101": (Bottleneck, (3, 4, 23, 3), {}),
    "resnet152": (Bottleneck, (3, 8, 36, 3), {}),
    "resnext50_32x4d": (Bottleneck, (3, 4, 6, 3), {"groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": (Bottleneck, (3, 4, 23, 3), {"groups": 32, "width_per_group": 8}),
    "resnext101_64x4d": (Bottleneck, (3, 4, 23, 3), {"groups": 64, "width_per_group": 4}),
    "wide_resnet50_2": (Bottleneck, (3, 4, 6, 3), {"width_per_group": 128}),
    "wide_resnet101_2": (Bottleneck, (3, 4, 23, 3), {"width_per_group": 128}),
}
"""Of each name: its block, how many of it each stage has, and its groups and their width where not usual."""


def build_resnet(
    name: str, num_classes: int = 1000, *, channels: int = 3, include_top: bool = True, small_stem: bool = False
) -> ResNet:
    """One of KINDS with fresh weights: the same that torchvision draws from the same seed."""
    block, depths, wide = KINDS[name]
    return ResNet(
        block,
        depths,
        num_classes=num_classes,
        channels=channels,
        include_top=include_top,
        small_stem=small_stem,
        **wide,
    )
