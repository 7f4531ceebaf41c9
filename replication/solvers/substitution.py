"""Substitution: causal units undone pixel by pixel, all pixels of an anti-diagonal at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.operators import Convolution
from replication.rectifier import RectifierEquation, RectifierMap
from replication.solvers.blocks import BlockWalk
from replication.solvers.pieces import AGREES, codes_of, corrected, solve_pieces
from replication.solvers.solution import Solution, name_of

Pixels = tuple[Tensor, Tensor]  # rows and columns of pixels in their image


@dataclass(frozen=True)
class Substitution(BlockWalk):
    """Solve one rectifier equation a pixel, s_p + A₀·relu(s_p) = c_p, where c_p depends on the pixels before alone.

    For causal units: convolutions padded at one corner only. Pixels with the same distance from it do not depend on
    each other, so that height + width − 1 batches of small equations undo the image, each by Newton's steps and, where
    they cycle, Lemke's method, as in `Exact`. It ends with the solution whenever I + A₀ is a P-matrix, whatever the
    other taps are; but large ones may let rounding errors grow exponentially with the image's size, while the residual
    stays small (`CausalConvUnit.inverse_condition` measures it). Not for other units: it refuses them.

    Source: paper B, abstract (inverse algorithms; reconstructed, assumption A8).

    Args, Raises: as `BlockWalk`, of every pixel.
    """

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Sweep over the image; where the residual is too large, correct it by sweeps in the piece found.

        Iterations are the linear systems and pivots of all pixels, and a sweep counts as one evaluation.

        Raises:
            ValueError: if the unit is not causal.
        """
        check_causal(equation.map, "substitution")
        rectifier_map, rows = equation.map, len(equation.y)
        A = rectifier_map.pixel().matrix()
        ends = torch.full((rows,), AGREES, device=equation.y.device)
        steps = torch.zeros_like(ends)

        def solve_pixels(c: Tensor, pixels: Pixels) -> Tensor:
            s, end, step = self.walk(A, c)
            steps.add_(by_row(step, rows).sum(0))
            torch.maximum(ends, by_row(end, rows).amax(0), out=ends)
            return torch.relu(s)

        value, z = sweep(rectifier_map, equation.y, solve_pixels)
        active = z > 0
        value, relative, corrections = corrected(
            equation, value, lambda residual: solve_jacobian(rectifier_map, active, residual), tolerance
        )
        codes = codes_of(ends, relative, tolerance)
        return Solution(value, codes, steps, relative, 2 + 2 * corrections, solver=name_of(self))


def by_row(numbers: Tensor, rows: int) -> Tensor:
    """Shape one number a pixel and row into (pixels, rows), of one pixel where there are no rows."""
    return numbers.reshape(len(numbers) // rows if rows else 1, rows)


def check_causal(rectifier_map: RectifierMap, method: str) -> None:
    """Refuse units that are not causal.

    Raises:
        ValueError: if the unit is not causal.
    """
    if not rectifier_map.causal:
        raise ValueError(f"{method} needs a causal unit, convolutions padded at one corner only; use another solver")


def diagonals(equation: RectifierEquation) -> int:
    """Return the number of anti-diagonals of an image, height + width − 1."""
    height, width = equation.y.shape[-2:]
    return height + width - 1


def solve_jacobian(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u with (I + W₂DW₁)u = v for a causal map, by one sweep; NaN where a pixel's piece is singular.

    Args:
        rectifier_map: f.
        active: where D is 1 (rows, hidden, height, width), bool.
        v: (rows, channels, height, width).
    """
    linear = RectifierMap(
        rectifier_map.W1, torch.zeros_like(rectifier_map.b1), rectifier_map.W2, torch.zeros_like(rectifier_map.b2)
    )
    A = linear.pixel().matrix()
    pieces = by_pixel(active.flip(flipped(linear)))

    def solve_pixels(c: Tensor, pixels: Pixels) -> Tensor:
        return solve_pieces(A, c, pieces[pixels].flatten(0, 1))

    return sweep(linear, v, solve_pixels)[0]


class Diagonals:
    """Images whose pixels (i, j) lie by their distance i + j from the top left corner, those of one side by side.

    Pixel (i, j) is at [2·reach + i + j, reach + i], among zeros.

    Args:
        shape: (rows, channels, height, width).
        reach: how many pixels up and to the left are asked for at most.
        like: a tensor of the dtype and device.
    """

    def __init__(self, shape: tuple[int, ...], reach: int, like: Tensor) -> None:
        rows, channels, self.height, self.width = shape
        self.reach, self.rows = reach, rows
        self.values = like.new_zeros(self.height + self.width - 1 + 2 * reach, self.height + reach, rows, channels)

    def pixels(self, distance: int) -> Pixels:
        """Return the rows and the columns of the pixels of a distance."""
        first, last = max(0, distance - self.width + 1), min(distance, self.height - 1)
        i = torch.arange(first, last + 1, device=self.values.device)
        return i, distance - i

    def seen(self, distance: int, up: int, left: int) -> Tensor:
        """Return what the pixels of a distance see so far up and to the left (pixels·rows, channels)."""
        first = self.reach + max(0, distance - self.width + 1)
        last = self.reach + min(distance, self.height - 1) + 1
        return self.values[2 * self.reach + distance - up - left, first - up : last - up].flatten(0, 1)

    def images(self) -> Tensor:
        """Return the images (rows, channels, height, width)."""
        i, j = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        return self.values[2 * self.reach + i + j, self.reach + i].permute(2, 3, 0, 1)


def sweep(rectifier_map: RectifierMap, y: Tensor, solve: Callable[[Tensor, Pixels], Tensor]) -> tuple[Tensor, Tensor]:
    """Find x and z with x = y − b₂ − W₂z pixel by pixel, where z is what `solve` makes of c.

        c_p = W₁⁰(y_p − b₂ − Σ_q W₂^q z_q) + b₁ + Σ_q W₁^q x_q   over the pixels q before p that it sees

    With s_p + A₀z_p = c_p this makes s = W₁x + b₁.

    Args:
        rectifier_map: a causal map; images are flipped for its corner to be the top left one.
        y: (rows, channels, height, width).
        solve: from c (pixels·rows, hidden) of the pixels of an anti-diagonal, and their places in the flipped image, to
            z like c.

    Returns:
        x like y, and z (rows, hidden, height, width).
    """
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    assert isinstance(W1, Convolution)
    assert isinstance(W2, Convolution)
    dims = flipped(rectifier_map)
    taps1, taps2 = taps_by_distance(W1.weight.flip(dims)), taps_by_distance(W2.weight.flip(dims))
    right, b1 = by_pixel((y - rectifier_map.b2).flip(dims)), rectifier_map.b1.flatten()
    reach = W1.weight.shape[-1] - 1
    x, z = Diagonals(tuple(y.shape), reach, y), Diagonals((len(y), *W1.codomain), reach, y)
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
    return x.images().flip(dims), z.images().flip(dims)


def by_pixel(images: Tensor) -> Tensor:
    """Return images (rows, channels, height, width) as (height, width, rows, channels)."""
    return images.permute(2, 3, 0, 1).contiguous()


def flipped(rectifier_map: RectifierMap) -> list[int]:
    """Return the dimensions of images that are to be flipped for the corner to be the top left one."""
    assert isinstance(rectifier_map.W1, Convolution)
    corner = rectifier_map.W1.padding
    return [dim for dim, side in ((-2, "bottom"), (-1, "right")) if side in corner]


def taps_by_distance(weight: Tensor) -> dict[tuple[int, int], Tensor]:
    """Return the taps (out, in) of a kernel (out, in, k, k) padded at the top left, by how far up and left each is."""
    k = weight.shape[-1]
    return {(up, left): weight[:, :, k - 1 - up, k - 1 - left] for up in range(k) for left in range(k)}
