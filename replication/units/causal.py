"""Causal convolutional units: zeros at one corner only, so that one small matrix decides whole images."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from replication.certificate import Certificate
from replication.certification import certify
from replication.checks import check_rows
from replication.maps import CausalMap
from replication.operators import CORNERS, aligned_tap, convolution_norm_bound
from replication.parametrizations import without_graph
from replication.rows import column, row_norm
from replication.solvers.sweeps import solve_jacobian
from replication.units.convolutional import StandardConvUnit, check_norm_cap, initial_kernel


class CausalConvUnit(StandardConvUnit):
    """y = x + conv₂(relu(conv₁(x))) with k − 1 zeros on two sides of the image only, stride 1.

    Every pixel sees only those between it and the corner, so the unit is invertible if, and for h ≤ c and a first tap
    of full rank only if, I + A₀ is a P-matrix of order h, A₀ = W₁⁰W₂⁰ being the product of the two taps that take each
    pixel to itself. Nothing is asked of the other taps, or of the image's size.

    Source: paper B, abstract (convolutional blocks with certain zero padding; reconstructed, assumption A7). For single
    linear convolutions the padding is that of CInC Flow (Nagar, Dufraisse and Varma, arXiv 2107.01358), and the inverse
    along anti-diagonals that of FInC Flow (Kallappa, Nagar and Varma, arXiv 2301.09266).

    Args:
        channels: channels c of the images.
        hidden: channels h between the convolutions.
        kernel_size: size k of the kernels, odd or even.
        image_size: (height, width); needed for norms only.
        corner: where the zeros are: "top-left", "top-right", "bottom-left" or "bottom-right".

    Inputs have the shape (batch, c, height, width).

    Raises:
        ValueError: if a size is not positive or the corner unknown.

    >>> unit = CausalConvUnit(1, 1, kernel_size=2)
    >>> with torch.no_grad():
    ...     _ = unit.weight1.fill_(3), unit.weight2.fill_(2)
    >>> unit.certificate().verdict.value
    'invertible'
    >>> x = torch.randn(2, 1, 4, 4)
    >>> bool(unit.inverse(unit(x).detach()).converged.all())
    True
    """

    title = "causal unit"

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        image_size: tuple[int, int] | None = None,
        corner: str = "top-left",
    ) -> None:
        if corner not in CORNERS:
            raise ValueError(f"the corner must be one of {', '.join(CORNERS)}, not {corner!r}")
        super().__init__(channels, hidden, kernel_size, image_size, padding=corner)

    def rectifier_map(self, shape: tuple[int, ...]) -> CausalMap:
        return cast("CausalMap", super().rectifier_map(shape))  # as the corner says

    def certificate(self, folds: bool = True) -> Certificate:
        """Certify the unit; its verdict holds for images of every size.

        A witness has the unit's `image_size`, or else that of its kernels.

        Args:
            folds: whether two images with the same output are looked for where no condition holds.
        """
        size = self.image_size or (self.kernel_size, self.kernel_size)
        return certify(self.rectifier_map((self.channels, *size)), folds)

    @without_graph
    def inverse_condition(self, x: Tensor, iterations: int = 20) -> Tensor:
        """Estimate, by power iteration and so from below, by how much the inverse amplifies errors at x.

            ‖J(x)⁻¹‖₂·‖f(x)‖/‖x‖

        This many relative errors of y are one of x, to first order: ε times it is about the accuracy to expect.

        Args:
            x: images (batch, c, height, width).
            iterations: steps of the power iteration, each of two sweeps.

        Returns:
            One number a row; infinite where it overflows.

        Raises:
            TypeError, ValueError: if x or a weight is of another dtype than float32 or float64, or not finite.
        """
        rows, rectifier_map = x, self.rectifier_map(tuple(x.shape[1:]))
        rectifier_map.check()
        check_rows(rows, like=self.weight1)
        active = rectifier_map.preactivation(rows) > 0
        adjoint = rectifier_map.adjoint()
        v = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0), dtype=rows.dtype).to(rows.device)
        norm = torch.zeros_like(row_norm(v))
        for _ in range(iterations):
            u = solve_jacobian(rectifier_map, active, v / column(row_norm(v), v))
            norm = row_norm(u)
            v = solve_jacobian(adjoint, active, u / column(norm, u))
        amplified = norm * row_norm(rectifier_map(rows)) / row_norm(rows)
        return torch.where(torch.isfinite(amplified), amplified, torch.inf)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, hidden={self.hidden}, kernel_size={self.kernel_size}, corner={self.padding}"


class MonotoneCausalConvUnit(CausalConvUnit):
    """A causal unit that is invertible whatever its parameters are: W₂⁰ = W₁⁰ᵀ, so that A₀ = W₁⁰W₁⁰ᵀ ⪰ 0.

    The other taps are free. No bound of a norm is needed; one keeps the inverse well-conditioned.

    Source: reconstructed, assumption A7.

    Args:
        norm_cap: upper bound of ‖W₁‖·‖W₂‖, or None for none.
        channels, hidden, kernel_size, image_size, corner: as CausalConvUnit. All taps of the second kernel but the
            aligned one are the parameter `taps2` (c, h, k² − 1), row by row.

    Raises:
        ValueError: if norm_cap is not positive, or given without an image_size.

    >>> unit = MonotoneCausalConvUnit(2, 3)
    >>> unit.certificate().verdict.value
    'invertible'
    >>> unit.inverse(torch.ones(2, 2, 5, 7)).converged
    tensor([True, True])
    """

    title = "monotone causal unit"
    settings = ("padding", "norm_cap")

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        image_size: tuple[int, int] | None = None,
        corner: str = "top-left",
        norm_cap: float | None = None,
    ) -> None:
        super().__init__(channels, hidden, kernel_size, image_size, corner)
        check_norm_cap(norm_cap)
        self.norm_cap = norm_cap
        if norm_cap is not None and image_size is None:
            raise ValueError("norms depend on the size of the images: a norm_cap needs an image_size=(height, width)")

    def make_second(self) -> None:
        kernel = initial_kernel(self.channels, self.hidden, self.kernel_size).flatten(2)
        self.taps2 = nn.Parameter(kernel[..., 1:].clone())

    def kernels(self) -> tuple[Tensor, Tensor]:
        row, column = aligned_tap(self.padding, self.kernel_size)
        place = row * self.kernel_size + column
        weight1, taps2 = self.weight1, self.taps2
        aligned = weight1[:, :, row, column].mT[..., None]
        taps = torch.cat((taps2[..., :place], aligned, taps2[..., place:]), -1)
        weight2 = taps.unflatten(-1, (self.kernel_size, self.kernel_size))
        if self.norm_cap is None:
            return weight1, weight2
        size = self.input_shape[1:]
        norms = [convolution_norm_bound(weight, size, self.padding) for weight in (weight1, weight2)]
        shrink = (self.norm_cap / (norms[0] * norms[1])).clamp_max(1).sqrt()
        return shrink * weight1, shrink * weight2  # by one factor, so that W₂⁰ stays W₁⁰ᵀ
