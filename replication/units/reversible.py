"""Reversible blocks of paper C: pairs of states that a formula takes forward and back.

All are made of one step, (a, b) ↦ (b, ±a + branch(b)), whose inverse needs the branch but not the branch's inverse.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from replication.checks import check_counts, check_numbers_finite, check_rows, check_tensor
from replication.operators import Convolution, Dense, Weighted
from replication.units.kept import Kept
from replication.units.plain import PlainLayer
from replication.units.replay import (
    attributes,
    copied_buffers,
    exchanged,
    random_states,
    restore_random_states,
)

Pair = tuple[Tensor, Tensor]


class SymmetricBranch(Kept, nn.Module):
    """The map x ↦ factor·Kᵀ·relu(N(Kx) + b) with one kernel K for both ways.

    Source: paper C, the Hamiltonian and the leapfrog network (design from recalled facts, assumption A14).

    Args:
        channels: of x (rows, channels, height, width); of x (rows, channels) where K is a matrix.
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
        return self.factor * self.shift(self.kernel(x)(x)).relu()


class ExtrapolatingBranch(SymmetricBranch):
    """The map x ↦ 2x + factor·Kᵀ·relu(N(Kx) + b): what the leapfrog step adds to −Yⱼ₋₁.

    Args: as SymmetricBranch.
    """

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + super().forward(x)


class Bias(nn.Module):
    """Add a number to each channel.

    Args:
        channels: of x (rows, channels, …).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.reshape(-1, *[1] * (x.ndim - 2))


def linear_map(weight: Tensor, x: Tensor) -> Weighted:
    """Return the map of a matrix (out, in), or of a kernel (out, in, k, k) on images of the size of x."""
    return Dense(weight) if weight.ndim == 2 else Convolution(weight, (x.shape[-2], x.shape[-1]))


class Coupling(Kept, nn.Module):
    """The step (a, b) ↦ (b, a + branch(b)), or (b, −a + branch(b)) if it reflects.

    Args:
        branch: a map from states to states of the same shape.
        reflects: whether a changes its sign.
    """

    settings = ("reflects",)

    def __init__(self, branch: nn.Module, reflects: bool = False) -> None:
        super().__init__()
        self.branch, self.reflects = branch, reflects

    def forward(self, a: Tensor, b: Tensor) -> Pair:
        branch = EVALUATION.get()(self, b)
        return b, branch - a if self.reflects else branch + a

    def evaluate(self, b: Tensor) -> Tensor:
        """Return branch(b)."""
        branch: Tensor = self.branch(b)
        return branch

    def inverse(self, b: Tensor, c: Tensor) -> Pair:
        """Return (a, b) from (b, ±a + branch(b))."""
        return self.undone(c, self.evaluate(b)), b

    def undone(self, c: Tensor, branch: Tensor) -> Tensor:
        """Return a from c = ±a + branch."""
        return branch - c if self.reflects else c - branch


# how couplings evaluate their branches on the way forward; `ReversibleSequence` puts a recording in its place
EVALUATION: ContextVar[Callable[[Coupling, Tensor], Tensor]] = ContextVar("EVALUATION", default=Coupling.evaluate)


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
        """Make the first pair of a network from features (rows, channels, …)."""

    @abstractmethod
    def end(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the features (rows, channels, …) of a network's last pair."""

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Take a pair of states, each (rows, state_channels, …), one block further.

        Raises:
            TypeError, ValueError: if the states do not fit.
        """
        self.check_states(first, second)
        for coupling in self:
            first, second = coupling(first, second)
        return first, second

    def __iter__(self) -> Iterator[Coupling]:
        for coupling in self.couplings:
            assert isinstance(coupling, Coupling)
            yield coupling

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


def residual_branch(channels: int) -> nn.Sequential:
    """Return the branch of a residual unit: convolution, normalisation, relu, convolution, normalisation.

    A convolution comes first because relu'(0) is arbitrary, and a stage begins with channels of zeros.
    """

    def convolution() -> nn.Conv2d:
        return nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    return nn.Sequential(convolution(), nn.BatchNorm2d(channels), nn.ReLU(), convolution(), nn.BatchNorm2d(channels))


def undone(module: nn.Module, couplings: Sequence[Coupling], first: Tensor, second: Tensor) -> Pair:
    """Go back over couplings that are parts of the module, from finite states of its dtype.

    The module's buffers stay as they are: normalisation in training mode uses the batch's statistics, as before.

    Raises:
        RuntimeError: if a branch has drawn random numbers, or has changed its state and gives something else then,
            since it did so in the forward pass too.
    """
    for state in (first, second):
        check_rows(state, like=next(module.parameters(), first))
    randomness, before = random_states(first.device), state_of(module)
    with exchanged(copied_buffers(module)):
        pair = undone_once(couplings, first, second)
        if random_states(first.device) != randomness:
            restore_random_states(first.device, randomness)
            raise RuntimeError("a branch draws random numbers, so it cannot be undone; call eval() first")
        changed = changes(before, state_of(module))
        if changed and not agree(pair, undone_once(couplings, first, second)):
            raise RuntimeError(
                f"a branch changes its state with every evaluation ({', '.join(sorted(changed))}), so it cannot be "
                "undone; call eval() first"
            )
    return pair


def undone_once(couplings: Sequence[Coupling], first: Tensor, second: Tensor) -> Pair:
    """Go back over couplings."""
    for coupling in reversed(couplings):
        first, second = coupling.inverse(first, second)
    return first, second


def state_of(module: nn.Module) -> dict[tuple[int, str], object]:
    """Return the buffers, but for those of normalisation, and the counters of a module's parts, by part and name."""
    return {
        (id(part), name): value
        for part in module.modules()
        if not isinstance(part, _NormBase)
        for name, value in (part._buffers | attributes(part)).items()
        if isinstance(value, int | float) or name in part._buffers
    }


def changes(before: Mapping[tuple[int, str], object], after: Mapping[tuple[int, str], object]) -> set[str]:
    """Return the names of what differs between two states of a module."""

    def same(old: object, new: object) -> bool:
        return torch.equal(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else old == new

    return {key[1] for key, new in after.items() if key not in before or not same(before[key], new)}


def agree(pair: Pair, other: Pair) -> bool:
    """Return whether two pairs of states differ by rounding at most."""
    rounding = torch.finfo(pair[0].dtype).eps ** 0.5
    return all(bool((a - b).norm() <= rounding * b.norm()) for a, b in zip(pair, other, strict=True))


def check_map(module: nn.Module) -> None:
    """Refuse a module that is no map of single images, or may compute something else the next time.

    Raises:
        RuntimeError: if it has batch normalisation without running statistics; or, in training mode, a part that may
            compute something else there: normalisation that has running statistics, dropout, spectral normalisation, or
            a module that neither torch.nn nor this package knows.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise RuntimeError("batch normalisation without running statistics is no map of single images")
        if part.training and changes_in_evaluation(part):
            raise RuntimeError(
                f"a reversible block with {parametrize.type_before_parametrizations(part).__name__} has an inverse in "
                "evaluation mode only: call network.eval() first"
            )


def changes_in_evaluation(part: nn.Module) -> bool:
    """Return whether a module, without its parts, may compute something else in evaluation mode than in training."""
    if isinstance(part, _NormBase):
        return part.track_running_stats
    if isinstance(part, nn.MultiheadAttention | nn.RNNBase):
        return part.dropout > 0
    spectral = any(isinstance(hook, SpectralNorm) for hook in part._forward_pre_hooks.values())
    known = parametrize.type_before_parametrizations(part).__module__.startswith(("torch.nn.", "replication."))
    return spectral or not known or isinstance(part, _DropoutNd | nn.RReLU | _SpectralNorm)


class BlockSequence(nn.Module):
    """Reversible blocks of one width, trained by ordinary backpropagation, which stores the activations of every block.

    Args:
        blocks: at least one, in forward order.

    Raises:
        ValueError: if there is none.
        TypeError: if one is no reversible block.
    """

    def __init__(self, blocks: Iterable[ReversibleBlock]) -> None:
        super().__init__()
        blocks = list(blocks)
        for block in blocks:
            if not isinstance(block, ReversibleBlock):
                raise TypeError(f"a sequence is made of reversible blocks, not of {type(block).__name__}")
        if not blocks:
            raise ValueError("a sequence needs at least one block")
        self.blocks = nn.ModuleList(blocks)

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Take a pair of states through all blocks."""
        for block in self:
            first, second = block(first, second)
        return first, second

    def __iter__(self) -> Iterator[ReversibleBlock]:
        for block in self.blocks:
            assert isinstance(block, ReversibleBlock)
            yield block

    def inverse(self, first: Tensor, second: Tensor) -> Pair:
        """Return the pair that `forward` took to this pair, as `ReversibleBlock.inverse`."""
        next(iter(self)).check_states(first, second)
        return undone(self, [coupling for block in self for coupling in block], first, second)


class ReversibleLayer(PlainLayer):
    """A reversible block or sequence as a hidden layer of a `LayerwiseNetwork`, on images whose channels hold the pair.

    Args:
        block: maps pairs of states to pairs; the first states are the first half of the channels.

    Raises:
        TypeError: if it is no reversible block or sequence of them.
        RuntimeError: if it is undone where it is no map of single images, or none that repeats, as in training mode
            with batch normalisation or dropout (`check_map`).
    """

    title = "reversible block"

    def __init__(self, block: ReversibleBlock | BlockSequence) -> None:
        super().__init__()
        if not isinstance(block, ReversibleBlock | BlockSequence):
            raise TypeError(f"the layer takes a reversible block or a sequence of them, not {type(block).__name__}")
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.block(*x.chunk(2, dim=1)), dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        check_map(self.block)
        return torch.cat(self.block.inverse(*y.chunk(2, dim=1)), dim=1)

    def inverse_lipschitz(self) -> float:
        check_map(self.block)
        return math.inf  # finite, but not bounded here
