"""Reversible residual networks for images: stages of blocks that a formula takes back (paper C)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from replication.checks import check_images, check_tensor
from replication.parametrizations import without_graph
from replication.units import BlockSequence, ReversibleBlock, ReversibleSequence, ZeroChannels
from replication.units.reversible import Pair


class ReversibleNetwork(nn.Module):
    """Classify images through stages of reversible blocks.

    A 3×3 convolution, normalisation and relu make the first pair of states. Between two stages each state is pooled,
    2×2, and padded with zero channels. The last pair ends in normalisation, relu, global average pooling and a linear
    classifier. The state between blocks is kept in single precision at least, also under autocast.

    Source: paper C (from recalled facts, assumptions A14 and A15).

    Args:
        image_shape: (channels, height, width); height and width divisible by 2^(stages − 1).
        classes: number of classes.
        block: makes a block from its number of channels.
        channels: of each stage.
        blocks: of each stage.
        sequence: makes a stage of its blocks: `ReversibleSequence` trains without stored activations, `BlockSequence`
            with them.

    Raises:
        ValueError: if the image size is not divisible, or the stages' numbers do not fit.

    >>> from replication import HamiltonianBlock
    >>> network = ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, channels=(4, 8), blocks=(1, 2)).eval()
    >>> network(torch.ones(5, 3, 8, 8)).shape, len(network.blocks)
    (torch.Size([5, 10]), 3)
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        block: Callable[[int], ReversibleBlock],
        channels: Sequence[int],
        blocks: Sequence[int],
        sequence: Callable[[list[ReversibleBlock]], BlockSequence] = ReversibleSequence,
    ) -> None:
        super().__init__()
        check_stages(image_shape, channels, blocks)
        self.image_shape, self.classes = tuple(image_shape), classes
        self.stem = nn.Sequential(
            nn.Conv2d(image_shape[0], channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        stages = [[block(width) for _ in range(number)] for width, number in zip(channels, blocks, strict=True)]
        self.stages = nn.ModuleList(map(sequence, stages))
        widths = [stage[0].state_channels for stage in stages]
        self.transitions = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(2), ZeroChannels(narrow, wide)) for narrow, wide in pairwise(widths)
        )
        self.classifier = nn.Sequential(
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels[-1], classes),
        )

    @property
    def blocks(self) -> list[ReversibleBlock]:
        """All blocks, in forward order."""
        return [block for stage in self.sequences for block in stage]

    @property
    def sequences(self) -> list[BlockSequence]:
        """The stages, in forward order."""
        return [stage for stage in self.stages if isinstance(stage, BlockSequence)]

    @property
    def layers(self) -> int:
        """The number of layers as the paper counts them: those of the blocks, the first convolution, the classifier."""
        return sum(block.layers for block in self.blocks) + 2

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, *image_shape)."""
        _, end = self.stage_states(images)[-1]
        logits: Tensor = self.classifier(self.blocks[-1].end(*end))
        return logits

    def stage_states(self, images: Tensor) -> list[tuple[Pair, Pair]]:
        """Return the pairs of states at the beginning and the end of every stage, for images (batch, *image_shape).

        Raises:
            TypeError, ValueError: if the images are no tensor of the network's dtype, or have other channels.
        """
        check_tensor(images, like=next(self.parameters()))
        check_images(images, self.image_shape[0])
        features = self.stem(images)
        pair = self.blocks[0].begin(features.to(torch.promote_types(features.dtype, torch.float32)))
        states = []
        for index, stage in enumerate(self.stages):
            if index:
                pair = tuple(map(self.transitions[index - 1], pair))
            end = stage(*pair)
            states.append((pair, end))
            pair = end
        return states

    @without_graph
    def inverse(self, ends: Sequence[Pair]) -> list[Pair]:
        """Recover the pair at the beginning of every stage from the pair at its end.

        What the pooling between stages drops cannot be recovered, so every stage needs its own end.

        Args:
            ends: as in `stage_states`.

        Raises:
            TypeError, ValueError: if the states do not fit, or are not finite.
        """
        if len(ends) != len(self.stages):
            raise ValueError(f"the network has {len(self.stages)} stages, so it needs as many ends, not {len(ends)}")
        return [stage.inverse(*end) for stage, end in zip(self.sequences, ends, strict=True)]

    def smoothness(self) -> Tensor:
        """Return ½Σ‖Kⱼ − Kⱼ₊₁‖² over the kernels of successive blocks of each stage.

        Source: paper C, weight smoothness decay (from recalled facts, assumption A14).
        """
        differences = [
            (now - following).square().sum()
            for stage in self.sequences
            for block, after in pairwise(stage)
            for now, following in zip(kernels(block), kernels(after), strict=True)
        ]
        return torch.stack(differences).sum() / 2 if differences else next(self.parameters()).new_zeros(())


def kernels(block: nn.Module) -> list[nn.Parameter]:
    """Return the kernels of a block's convolutions, or its matrices."""
    return [parameter for parameter in block.parameters() if parameter.ndim > 1]


def smoothness_penalty(network: nn.Module, weight: float) -> Tensor:
    """Return weight·½Σ‖Kⱼ − Kⱼ₊₁‖² of a reversible network, as a penalty for its training.

    Raises:
        TypeError: if the network is of another kind.
    """
    if not isinstance(network, ReversibleNetwork):
        raise TypeError(f"{type(network).__name__} has no smoothness of weights; set training.penalty=null")
    return weight * network.smoothness()


def check_stages(image_shape: tuple[int, int, int], channels: Sequence[int], blocks: Sequence[int]) -> None:
    """Refuse stages that do not fit each other or the image."""
    if len(channels) != len(blocks) or not channels:
        raise ValueError(f"channels {list(channels)} and blocks {list(blocks)} must have one number for each stage")
    if list(channels) != sorted(channels):
        raise ValueError(f"the channels of the stages cannot shrink: {list(channels)}")
    if any(size % 2 ** (len(channels) - 1) for size in image_shape[1:]):
        raise ValueError(f"{image_shape[1]}×{image_shape[2]} images cannot be halved {len(channels) - 1} times")
