"""Sweeps over an image, for causal units: all pixels of an anti-diagonal at once, each from those before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from replication.maps import CausalMap
from replication.solvers.pieces import solve_pieces

Pixels = tuple[Tensor, Tensor]  # rows and columns of pixels in their image


def solve_jacobian(rectifier_map: CausalMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u with (I + W₂DW₁)u = v for a causal map, by one sweep; NaN where a pixel's piece is singular.

    Args:
        rectifier_map: f.
        active: where D is 1 (batch, hidden, height, width), bool.
        v: (batch, channels, height, width).
    """
    linear = rectifier_map.linear()
    A = linear.pixel().matrix()
    pieces = by_pixel(active)

    def solve_pixels(c: Tensor, pixels: Pixels) -> Tensor:
        return solve_pieces(A, c, pieces[pixels].flatten(0, 1))

    return sweep(linear, v, solve_pixels)[0]


class Diagonals:
    """Images whose pixels (i, j) lie by their distance i + j from the top left corner, those of one side by side.

    Pixel (i, j) is at [2·reach + i + j, reach + i], among zeros.

    Args:
        shape: (batch, channels, height, width).
        reach: how many pixels up and to the left are asked for at most.
        dims: dimensions of the images that are flipped first.
        like: a tensor of the dtype and device.
    """

    def __init__(self, shape: tuple[int, ...], reach: int, dims: Sequence[int], like: Tensor) -> None:
        rows, channels, self.height, self.width = shape
        self.reach, self.rows, self.dims = reach, rows, dims
        self.values = like.new_zeros(self.height + self.width - 1 + 2 * reach, self.height + reach, rows, channels)

    def pixels(self, distance: int) -> Pixels:
        """Return the rows and the columns, in the images as they are, of the pixels of a distance."""
        first, last = max(0, distance - self.width + 1), min(distance, self.height - 1)
        i = torch.arange(first, last + 1, device=self.values.device)
        return self.flipped(i, distance - i)

    def flipped(self, i: Tensor, j: Tensor) -> Pixels:
        """Return the places of pixels in the images, from those in the flipped ones, or the other way round."""
        return self.height - 1 - i if -2 in self.dims else i, self.width - 1 - j if -1 in self.dims else j

    def seen(self, distance: int, up: int, left: int) -> Tensor:
        """Return what the pixels of a distance see so far up and to the left (pixels·batch, channels)."""
        first = self.reach + max(0, distance - self.width + 1)
        last = self.reach + min(distance, self.height - 1) + 1
        return self.values[2 * self.reach + distance - up - left, first - up : last - up].flatten(0, 1)

    def images(self) -> Tensor:
        """Return the images (batch, channels, height, width), the channels last in memory."""
        i, j = self.flipped(*torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij"))
        by_image = self.values.movedim(2, 0)[:, 2 * self.reach + i + j, self.reach + i]
        return by_image.movedim(3, 1)


def sweep(rectifier_map: CausalMap, y: Tensor, solve: Callable[[Tensor, Pixels], Tensor]) -> tuple[Tensor, Diagonals]:
    """Find x and z with x = y − b₂ − W₂z pixel by pixel, where z is what `solve` makes of c.

        c_p = W₁⁰(y_p − b₂ − Σ_q W₂^q z_q) + b₁ + Σ_q W₁^q x_q   over the pixels q before p that it sees

    With s_p + A₀z_p = c_p this makes s = W₁x + b₁.

    Args:
        rectifier_map: a causal map; images are taken as flipped for its corner to be the top left one.
        y: (batch, channels, height, width).
        solve: from c (pixels·batch, hidden) of the pixels of an anti-diagonal, and their places in the image, to z
            like c.

    Returns:
        x like y, and z as diagonals, whose images are (batch, hidden, height, width).
    """
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    dims = flipped(rectifier_map)
    taps1, taps2 = taps_by_distance(W1.weight.flip(dims)), taps_by_distance(W2.weight.flip(dims))
    right, b1 = by_pixel(y - rectifier_map.b2), rectifier_map.b1.flatten()
    reach = W1.weight.shape[-1] - 1
    x, z = Diagonals(tuple(y.shape), reach, dims, y), Diagonals((len(y), *W1.codomain), reach, dims, y)
    for distance in range(x.height + x.width - 1):
        pixels = x.pixels(distance)
        known = right[pixels].flatten(0, 1)
        c = b1.expand(len(known), -1).clone()
        for (up, left), tap in taps2.items():
            if (up, left) != (0, 0):
                known.addmm_(z.seen(distance, up, left), tap.mT, alpha=-1)
                c.addmm_(x.seen(distance, up, left), taps1[up, left].mT)
        z_here = solve(c.addmm_(known, taps1[0, 0].mT), pixels)
        z.seen(distance, 0, 0).copy_(z_here)
        x.seen(distance, 0, 0).copy_(known.addmm_(z_here, taps2[0, 0].mT, alpha=-1))
    return x.images(), z


def by_pixel(images: Tensor) -> Tensor:
    """Return images (batch, channels, height, width) as (height, width, batch, channels)."""
    return images.permute(2, 3, 0, 1).contiguous()


def flipped(rectifier_map: CausalMap) -> list[int]:
    """Return the dimensions of images that are to be flipped for the corner to be the top left one."""
    return [dim for dim, side in ((-2, "bottom"), (-1, "right")) if side in rectifier_map.corner]


def taps_by_distance(weight: Tensor) -> dict[tuple[int, int], Tensor]:
    """Return the taps (out, in) of a kernel (out, in, k, k) padded at the top left, by how far up and left each is."""
    k = weight.shape[-1]
    return {(up, left): weight[:, :, k - 1 - up, k - 1 - left] for up in range(k) for left in range(k)}
