"""Random changes of training images, one for each image of a batch: affine maps, crops and flips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class RandomAffine:
    """Move every image by an affine map of its own, with zeros beyond the border.

    Args:
        rotation: largest angle, in degrees.
        scaling: largest relative change of size.
        shift: largest shift, in pixels.
    """

    rotation: float
    scaling: float
    shift: float

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return moved images, like images (batch, channels, height, width)."""
        rows, _, height, width = images.shape

        def uniform(largest: float) -> Tensor:
            draw = torch.rand(rows, generator=generator, device=images.device, dtype=images.dtype)
            return largest * (2 * draw - 1)

        angle, scale = uniform(math.radians(self.rotation)), 1 + uniform(self.scaling)
        shift_x, shift_y = uniform(2 * self.shift / width), uniform(2 * self.shift / height)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        theta = torch.stack((cos, -sin, shift_x, sin, cos, shift_y), dim=1).reshape(rows, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)


@dataclass(frozen=True)
class RandomCropFlip:
    """Shift every image by whole pixels, with zeros beyond the border, and mirror half of them.

    Args:
        shift: largest shift, in pixels.
    """

    shift: int

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return cropped images, like images (batch, channels, height, width)."""
        rows, _, height, width = images.shape

        def draw(largest: int) -> Tensor:
            return torch.randint(largest + 1, (rows, 1), generator=generator, device=images.device)

        down = draw(2 * self.shift) + torch.arange(height, device=images.device)
        right = draw(2 * self.shift) + torch.arange(width, device=images.device)
        right = torch.where(draw(1) == 1, right.flip(1), right)
        padded = F.pad(images, [self.shift] * 4)
        row = torch.arange(rows, device=images.device)[:, None, None]
        return padded[row, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
