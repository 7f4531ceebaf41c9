"""The residual network for small images, as a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from replication.units import ZeroChannels


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + BN(conv(relu(BN(conv(x)))))); the shortcut halves the image and pads channels by formula.

    Args:
        channels: of x.
        width: channels of the output; if more, the image is halved.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if width == channels else 2
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        # a pooling of single pixels takes every other one
        self.shortcut = nn.Sequential(nn.MaxPool2d(1, stride), ZeroChannels(channels, width))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.shortcut(x) + self.branch(x)
        return total.relu()


class ResNet(nn.Module):
    """Classify images by a residual network without bottlenecks, with shortcuts that have no parameters.

    Source: He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385, section 4.2.

    Args:
        image_shape: (channels, height, width).
        classes: number of classes.
        channels: of each stage.
        blocks: of each stage.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], classes: int, channels: Sequence[int], blocks: Sequence[int]
    ) -> None:
        super().__init__()
        self.image_shape, self.classes = tuple(image_shape), classes
        widths = [channels[0]] + [width for width, number in zip(channels, blocks, strict=True) for _ in range(number)]
        self.layers = 2 * sum(blocks) + 2
        self.body = nn.Sequential(
            nn.Conv2d(image_shape[0], channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(),
            *(ResidualBlock(before, width) for before, width in pairwise(widths)),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, *image_shape)."""
        logits: Tensor = self.classifier(self.body(images))
        return logits
