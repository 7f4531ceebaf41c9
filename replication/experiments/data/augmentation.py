"""Random changes of training images, one for each image of a batch: affine maps, smooth fields, crops and flips."""

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
        return F.grid_sample(images, self.grid(images, generator), align_corners=False)

    def grid(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return where the pixels are taken from (batch, height, width, 2), in halves of the image from its middle."""
        rows, _, height, width = images.shape

        def uniform(largest: float) -> Tensor:
            draw = torch.rand(rows, generator=generator, device=images.device, dtype=images.dtype)
            return largest * (2 * draw - 1)

        angle, scale = uniform(math.radians(self.rotation)), 1 + uniform(self.scaling)
        shift_x, shift_y = uniform(2 * self.shift / width), uniform(2 * self.shift / height)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        theta = torch.stack((cos, -sin, shift_x, sin, cos, shift_y), dim=1).reshape(rows, 2, 3)
        return F.affine_grid(theta, list(images.shape), align_corners=False)


@dataclass(frozen=True)
class RandomDeformation(RandomAffine):
    """Move every image by an affine map and a smooth field of its own, and blank a square.

    The field is normal on a coarse grid of points, and bicubic between them.

    Source: Simard, Steinkraus, Platt, ICDAR 2003 (elastic deformations); DeVries, Taylor, arXiv 1708.04552 (cutout).

    Args:
        rotation, scaling, shift: as RandomAffine.
        displacement: standard deviation of the field, in pixels.
        points: of the coarse grid on a side.
        cutout: side of the square, in pixels, around a pixel of the image; 0 for none.
    """

    displacement: float
    points: int
    cutout: int

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return deformed images, like images (batch, channels, height, width)."""
        return self.blanked(super().__call__(images, generator), generator)

    def grid(self, images: Tensor, generator: torch.Generator) -> Tensor:
        affine = super().grid(images, generator)
        rows, _, height, width = images.shape
        coarse = torch.randn(
            rows, 2, self.points, self.points, generator=generator, device=images.device, dtype=images.dtype
        )
        field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return affine + 2 * self.displacement * field / images.new_tensor((width, height))

    def blanked(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with zeros in a square of their own."""
        inside = []
        for size in images.shape[2:]:
            first = torch.randint(size, (len(images), 1), generator=generator, device=images.device) - self.cutout // 2
            place = torch.arange(size, device=images.device)
            inside.append((place >= first) & (place < first + self.cutout))
        return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


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
