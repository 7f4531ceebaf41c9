"""Plain pre-activation blocks with free kernels, and a network of them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from replication.units import Orthogonal1x1, SpaceToDepth, ZeroChannels


class PreactivationBlock(nn.Module):
    """x + conv(relu(BN(conv(relu(BN(x)))))) on images of one size: nothing is guaranteed of it.

    Source: He, Zhang, Ren, Sun, ECCV 2016, arXiv 1603.05027, Fig. 1b.

    Args:
        channels: of x.
        image_size: (height, width) of x.
    """

    def __init__(self, channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return total

    def monotone_parts(self) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
        """Return the weights by running statistics, as `monotone_defect` takes them."""
        first, second = scale(self.norm1), scale(self.norm2)
        return first, second[:, None, None, None] * self.conv1.weight, self.conv2.weight, self.image_size


def scale(norm: nn.BatchNorm2d) -> Tensor:
    """Return the factors (channels,) of a normalisation in evaluation mode."""
    return norm.weight * torch.rsqrt(cast("Tensor", norm.running_var) + norm.eps)


class PreactivationNetwork(nn.Module):
    """Classify images by pre-activation blocks, after a space-to-depth step and padding with channels of zeros.

    An orthogonal 1×1 convolution mixes the channels first: normalisations divide by what a channel varies, and channels
    of zeros do not vary, so that the blocks' derivatives would be as large as 1/√eps.

    Source: He, Zhang, Ren, Sun, ECCV 2016, arXiv 1603.05027 (the blocks).

    Args:
        image_shape: (channels, height, width), with even height and width.
        classes: number of classes.
        channels: of the blocks.
        blocks: number of blocks.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, channels: int, blocks: int) -> None:
        super().__init__()
        colours, height, width = image_shape
        self.image_shape, self.classes = tuple(image_shape), classes
        size = height // 2, width // 2
        self.first = nn.Sequential(SpaceToDepth(), ZeroChannels(4 * colours, channels), Orthogonal1x1(channels))
        self.blocks = nn.Sequential(*(PreactivationBlock(channels, size) for _ in range(blocks)))
        self.classifier = nn.Linear(channels * size[0] * size[1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, *image_shape)."""
        logits: Tensor = self.classifier(self.blocks(self.first(images)).flatten(1))
        return logits
