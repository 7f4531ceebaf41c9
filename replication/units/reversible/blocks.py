"""Reversible blocks of paper C: chains of couplings that take a pair of states forward and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from replication.checks import check_counts, check_numbers_finite, check_tensor
from replication.units.kept import Kept
from replication.units.reversible.branches import (
    AntisymmetricBranch,
    ExtrapolatingBranch,
    SymmetricBranch,
    residual_branch,
)
from replication.units.reversible.couplings import Coupling, Pair
from replication.units.reversible.undoing import undone


class ReversibleBlock(Kept, nn.Module, ABC):
    """A chain of couplings: a pair of states goes in, a pair comes out, and the inverse is exact up to rounding.

    In training mode the inverse uses the batch's statistics, as the forward pass does, and leaves the running ones: it
    is that of the whole batch. Branches that draw random numbers, or change a state of their own, have no inverse.

    Args:
        channels: of the features that the pair stands for.
        couplings: the steps, in forward order.

    Attributes:
        layers: how many the paper counts in a block.
    """

    layers: int

    def __init__(self, channels: int, *couplings: Coupling) -> None:
        super().__init__()
        self.channels = channels
        for coupling in couplings:
            if not isinstance(coupling, Coupling):
                raise TypeError(f"a block is made of couplings, not of {type(coupling).__name__}")
        self.couplings = nn.ModuleList(couplings)

    @property
    @abstractmethod
    def state_channels(self) -> int:
        """Channels of each state of the pair."""

    @abstractmethod
    def begin(self, features: Tensor) -> Pair:
        """Make the first pair of a network from features (batch, channels, …)."""

    @abstractmethod
    def end(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the features (batch, channels, …) of a network's last pair."""

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Take a pair of states, each (batch, state_channels, …), one block further.

        Raises:
            TypeError, ValueError: if the states do not fit.
        """
        self.check_states(first, second)
        for coupling in self:
            first, second = coupling(first, second)
        return first, second

    def __iter__(self) -> Iterator[Coupling]:
        return iter(cast(Iterable[Coupling], self.couplings))

    def inverse(self, first: Tensor, second: Tensor) -> Pair:
        """Return the pair that `forward` took to this pair.

        Raises:
            TypeError, ValueError: if the states do not fit, or are not finite.
            RuntimeError: if a branch draws random numbers or changes a state of its own, as with dropout in training.
        """
        self.check_states(first, second)
        return undone(self, list(self), first, second)

    def check_states(self, first: Tensor, second: Tensor) -> None:
        """Refuse states of another dtype, of different shapes or with other channels."""
        for state in (first, second):
            check_tensor(state, like=next(self.parameters(), first))
        if first.shape != second.shape or first.ndim < 2 or first.shape[1] != self.state_channels:
            raise ValueError(
                f"the block takes two states of one shape with {self.state_channels} channels, "
                f"not {tuple(first.shape)} and {tuple(second.shape)}"
            )


class HalvesBlock(ReversibleBlock):
    """A block whose states are the two halves (Y, Z) of the channels."""

    @property
    def state_channels(self) -> int:
        return self.channels // 2

    def begin(self, features: Tensor) -> Pair:
        first, second = features.chunk(2, dim=1)
        return first, second

    def end(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat((first, second), dim=1)


class TwoStepBlock(ReversibleBlock):
    """A block whose states are those of two successive times, (Yⱼ₋₁, Yⱼ); a network begins with Y₋₁ = Y₀ (A15)."""

    @property
    def state_channels(self) -> int:
        return self.channels

    def begin(self, features: Tensor) -> Pair:
        return features, features

    def end(self, first: Tensor, second: Tensor) -> Tensor:
        return second


class HamiltonianBlock(HalvesBlock):
    """The Verlet step of a Hamiltonian system.

        Y⁺ = Y + h·K₁ᵀ·relu(N₁(K₁Z) + b₁),  Z⁺ = Z − h·K₂ᵀ·relu(N₂(K₂Y⁺) + b₂)

    Source: paper C, the Hamiltonian network (from recalled facts, assumption A14).

    Args:
        channels: even number of channels of (Y, Z) together.
        step: h.
        kernel_size, normalise: as for `SymmetricBranch`.

    >>> block = HamiltonianBlock(4).double().eval()
    >>> y, z = torch.randn(2, 10, 2, 8, 8, dtype=torch.float64)
    >>> recovered = block.inverse(*block(y, z))
    >>> torch.allclose(recovered[0], y), torch.allclose(recovered[1], z)
    (True, True)
    """

    layers = 4  # K₁, K₁ᵀ, K₂ and K₂ᵀ
    settings = ("step",)

    def __init__(self, channels: int, step: float = 1.0, kernel_size: int | None = 3, normalise: bool = True) -> None:
        check_numbers_finite(step=step)
        half = half_of(channels)
        branches = (SymmetricBranch(half, factor, kernel_size, normalise) for factor in (step, -step))
        super().__init__(channels, *map(Coupling, branches))
        self.step = step


class MidpointBlock(TwoStepBlock):
    """The midpoint rule for an antisymmetric map: (Yⱼ₋₁, Yⱼ) ↦ (Yⱼ, Yⱼ₊₁).

        Yⱼ₊₁ = Yⱼ₋₁ + 2h·relu(N((K − Kᵀ)Yⱼ) + b)

    Source: paper C, the midpoint network (from recalled facts, assumption A14).

    Args:
        channels: of each Yⱼ.
        step: h.
        kernel_size, normalise: as for `SymmetricBranch`.

    >>> block = MidpointBlock(2, step=0.1).double().eval()
    >>> first, second = block.begin(torch.randn(10, 2, 8, 8, dtype=torch.float64))
    >>> torch.allclose(block.inverse(*block(first, second))[1], second)
    True
    """

    layers = 2  # K and Kᵀ
    settings = ("step",)

    def __init__(self, channels: int, step: float = 1.0, kernel_size: int | None = 3, normalise: bool = True) -> None:
        check_numbers_finite(step=step)
        super().__init__(channels, Coupling(AntisymmetricBranch(channels, 2 * step, kernel_size, normalise)))
        self.step = step


class LeapfrogBlock(TwoStepBlock):
    """The leapfrog rule for a second-order equation: (Yⱼ₋₁, Yⱼ) ↦ (Yⱼ, Yⱼ₊₁).

        Yⱼ₊₁ = 2Yⱼ − Yⱼ₋₁ − h²·Kᵀ·relu(N(KYⱼ) + b)

    Source: paper C, the leapfrog network (from recalled facts, assumption A14).

    Args:
        channels: of each Yⱼ.
        step: h.
        kernel_size, normalise: as for `SymmetricBranch`.

    >>> block = LeapfrogBlock(2, step=0.1).double().eval()
    >>> first, second = block.begin(torch.randn(10, 2, 8, 8, dtype=torch.float64))
    >>> torch.allclose(block.inverse(*block(first, second))[1], second)
    True
    """

    layers = 2  # K and Kᵀ
    settings = ("step",)

    def __init__(self, channels: int, step: float = 1.0, kernel_size: int | None = 3, normalise: bool = True) -> None:
        check_numbers_finite(step=step)
        branch = ExtrapolatingBranch(channels, -step * step, kernel_size, normalise)
        super().__init__(channels, Coupling(branch, reflects=True))
        self.step = step


class RevNetBlock(HalvesBlock):
    """The additive coupling of RevNet: Y⁺ = Y + F(Z), Z⁺ = Z + G(Y⁺).

    Source: Gomez, Ren, Urtasun, Grosse, NeurIPS 2017, arXiv 1707.04585.

    Args:
        channels: even number of channels of (Y, Z) together.
        first, second: F and G, any maps of halves; None for `residual_branch`.

    >>> block = RevNetBlock(4).double().eval()
    >>> y, z = torch.randn(2, 10, 2, 8, 8, dtype=torch.float64)
    >>> torch.allclose(block.inverse(*block(y, z))[0], y)
    True
    """

    layers = 4  # two convolutions in F and two in G

    def __init__(self, channels: int, first: nn.Module | None = None, second: nn.Module | None = None) -> None:
        half = half_of(channels)
        branches = (first or residual_branch(half), second or residual_branch(half))
        super().__init__(channels, *map(Coupling, branches))


def half_of(channels: int) -> int:
    """Return half of an even number of channels.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is odd, or less than 2.
    """
    check_counts(2, channels=channels)
    if channels % 2:
        raise ValueError(f"the block splits its channels in halves, so their number must be even, not {channels}")
    return channels // 2
