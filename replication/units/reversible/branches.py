"""Branches of paper C's blocks: one kernel taken both ways, or its antisymmetric part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.checks import check_counts, check_numbers_finite
from replication.operators import Convolution, Dense, Weighted
from replication.units.kept import Kept


class SymmetricBranch(Kept, nn.Module):
    """The map x ↦ factor·Kᵀ·relu(N(Kx) + b) with one kernel K for both ways.

    Source: paper C, the Hamiltonian and the leapfrog network (design from recalled facts, assumption A14).

    Args:
        channels: of x (batch, channels, height, width); of x (batch, channels) where K is a matrix.
        factor: the step size with its sign, say −h.
        kernel_size: odd size of the convolution K with zeros around the image; None for a matrix K.
        normalise: whether N is batch normalisation, with scale and shift; else N is nothing and b a bias.

    Raises:
        TypeError, ValueError: if a size is no positive number, kernel_size even, or factor not finite.
    """

    settings = ("factor",)

    def __init__(self, channels: int, factor: float, kernel_size: int | None = 3, normalise: bool = True) -> None:
        super().__init__()
        check_counts(1, channels=channels, **({} if kernel_size is None else {"kernel_size": kernel_size}))
        if kernel_size is not None and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}")
        check_numbers_finite(factor=factor)
        taps = () if kernel_size is None else (kernel_size, kernel_size)
        self.factor = factor
        self.weight = nn.Parameter(torch.empty(channels, channels, *taps))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        self.shift: nn.Module = Bias(channels)
        if normalise:
            self.shift = nn.BatchNorm1d(channels) if kernel_size is None else nn.BatchNorm2d(channels)

    def kernel(self, x: Tensor) -> Weighted:
        """Return K for states shaped like x."""
        return linear_map(self.weight, x)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel(x)
        return self.factor * kernel.adjoint()(self.shift(kernel(x)).relu())

    def extra_repr(self) -> str:
        return f"{' × '.join(map(str, self.weight.shape))}, factor={self.factor:g}"


class AntisymmetricBranch(SymmetricBranch):
    """The map x ↦ factor·relu(N((K − Kᵀ)x) + b).

    Source: paper C, the midpoint network (design from recalled facts, assumption A14).

    Args: as SymmetricBranch.
    """

    def kernel(self, x: Tensor) -> Weighted:
        kernel = super().kernel(x)
        return linear_map(kernel.weight - kernel.adjoint().weight, x)

    def forward(self, x: Tensor) -> Tensor:
        preactivation: Tensor = self.shift(self.kernel(x)(x))
        return self.factor * preactivation.relu()


class ExtrapolatingBranch(SymmetricBranch):
    """The map x ↦ 2x + factor·Kᵀ·relu(N(Kx) + b): what the leapfrog step adds to −Yⱼ₋₁.

    Args: as SymmetricBranch.
    """

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + super().forward(x)


class Bias(nn.Module):
    """Add a number to each channel.

    Args:
        channels: of x (batch, channels, …).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.reshape(-1, *[1] * (x.ndim - 2))


def linear_map(weight: Tensor, x: Tensor) -> Weighted:
    """Return the map of a matrix (out, in), or of a kernel (out, in, k, k) on images of the size of x."""
    return Dense(weight) if weight.ndim == 2 else Convolution(weight, (x.shape[-2], x.shape[-1]))


def residual_branch(channels: int) -> nn.Sequential:
    """Return the branch of a residual unit: convolution, normalisation, relu, convolution, normalisation.

    A convolution comes first because relu'(0) is arbitrary, and a stage begins with channels of zeros.
    """

    def convolution() -> nn.Conv2d:
        return nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    return nn.Sequential(convolution(), nn.BatchNorm2d(channels), nn.ReLU(), convolution(), nn.BatchNorm2d(channels))
