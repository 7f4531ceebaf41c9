"""The network whose hidden layers can all be undone (assumption A6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from replication.networks.layerwise import LayerwiseNetwork
from replication.units import (
    ChannelNormalisation,
    ConvRectifierUnit,
    Flip,
    Layer,
    Orthogonal1x1,
    SpaceToDepth,
    ZeroChannels,
)


class RectifierNetwork(LayerwiseNetwork):
    """Classify images through hidden layers that keep the dimension and can be undone one by one.

    Channel padding, then stages of space-to-depth and groups of [rectifier unit → normalisation → orthogonal 1×1
    convolution]; after the last hidden layer global average pooling and one linear classifier.

    Source: paper A, Fig. 1 and abstract (assumption A6).

    Args:
        image_shape: (channels, height, width); height and width divisible by 2^len(hidden).
        classes: number of classes.
        unit: makes a unit from channels, hidden and image_size.
        padded_channels: channels after padding with zeros.
        hidden: hidden channels of the units, one number for each stage.
        units_per_stage: number of groups in each stage.
        flips: whether the image is turned by half a turn after every group, as causal units need it to see every side
            of a pixel.

    Raises:
        ValueError: if the image size is not divisible.

    >>> import torch
    >>> from replication import MonotoneConvUnit
    >>> network = RectifierNetwork((1, 8, 8), 10, MonotoneConvUnit, hidden=(4,), units_per_stage=1).eval()
    >>> network(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    >>> network.certificate().verdict.value
    'invertible'
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        unit: Callable[..., ConvRectifierUnit],
        padded_channels: int = 4,
        hidden: tuple[int, ...] = (32, 64),
        units_per_stage: int = 3,
        flips: bool = False,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height % 2 ** len(hidden) or width % 2 ** len(hidden):
            raise ValueError(f"{height}×{width} images cannot be halved {len(hidden)} times")
        self.image_shape, self.classes = tuple(image_shape), classes
        layers: list[Layer] = [ZeroChannels(channels, padded_channels)]
        channels = padded_channels
        for width_of_stage in hidden:
            channels, height, width = 4 * channels, height // 2, width // 2
            layers.append(SpaceToDepth())
            for _ in range(units_per_stage):
                layers.append(unit(channels=channels, hidden=width_of_stage, image_size=(height, width)))
                layers.append(ChannelNormalisation(channels))
                layers.append(Orthogonal1x1(channels))
                if flips:
                    layers.append(Flip())
        self.hidden_layers = nn.ModuleList(layers)
        self.classifier = nn.Linear(channels, classes)

    @property
    def units(self) -> Sequence[ConvRectifierUnit]:
        return cast("Sequence[ConvRectifierUnit]", super().units)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, *image_shape)."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits
