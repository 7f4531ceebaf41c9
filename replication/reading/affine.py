"""Affine values: what a module has computed so far, as linear maps of its input and of rectified values.

    value = Σₖ Lₖ·sourceₖ + bias,   source₀ = x,   sourceₖ = relu of an earlier value

Weights are folded as they are met, each product of weights rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.reading.guest import UnreadableError

Sides = tuple[int, int, int, int]  # points of padding: left, right, top, bottom, as torch.nn.functional.pad has them


@dataclass(frozen=True)
class Identity:
    """v ↦ scale·v."""

    scale: float = 1.0

    def scaled(self, factor: Tensor) -> Linear:
        """Return the map times one factor for each number of a row (*shape), or for all ()."""
        if factor.ndim == 0:
            return Identity(self.scale * float(factor))
        if factor.ndim == 1:
            return Matrix(torch.diag(self.scale * factor))
        return Kernel(torch.diag(self.scale * by_channel(factor, "a factor"))[..., None, None])


@dataclass(frozen=True)
class Matrix:
    """v ↦ weight·v, weight (out, in)."""

    weight: Tensor

    def scaled(self, factor: Tensor) -> Linear:
        return Matrix(self.weight * (factor if factor.ndim == 0 else factor[:, None]))


@dataclass(frozen=True)
class Kernel:
    """A convolution of stride 1 that keeps the size of the image.

    Attributes:
        weight: (out, in, height, width).
        sides: points of padding.
        mode: "zeros" or "circular"; of a kernel of one tap either.
    """

    weight: Tensor
    sides: Sides = (0, 0, 0, 0)
    mode: str = "zeros"

    def scaled(self, factor: Tensor) -> Linear:
        factors = factor if factor.ndim == 0 else by_channel(factor, "a factor")[:, None, None, None]
        return replace(self, weight=self.weight * factors)

    def grown(self, sides: Sides) -> Kernel:
        """Return the same map as a kernel padded by at least as many points on each side."""
        more = [max(0, new - old) for new, old in zip(sides, self.sides, strict=True)]
        grown: Sides = tuple(map(max, sides, self.sides))  # type: ignore[assignment]
        return replace(self, weight=F.pad(self.weight, more), sides=grown)


Linear = Identity | Matrix | Kernel


@dataclass(frozen=True)
class Affine:
    """A value (batch, *shape) that depends on the input.

    Attributes:
        parts: linear maps by the number of their source: 0 is the input, k the k-th rectified value.
        bias: of one row, (*shape).
        sides, mode: the padding that was put around it, for a convolution to use up.
    """

    parts: dict[int, Linear]
    bias: Tensor
    sides: Sides = (0, 0, 0, 0)
    mode: str = "zeros"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row, without padding."""
        return tuple(self.bias.shape)

    def plus(self, other: Affine) -> Affine:
        """Return the sum of two values of one shape."""
        parts = dict(self.parts)
        for source, part in other.parts.items():
            parts[source] = sum_of(parts[source], part) if source in parts else part
        return Affine(parts, self.bias + other.bias)

    def shifted(self, constant: Tensor) -> Affine:
        """Return the value plus a constant that the whole batch shares (*shape)."""
        return replace(self, bias=self.bias + constant)

    def scaled(self, factor: Tensor) -> Affine:
        """Return the value times a factor that the whole batch shares, () or (*shape)."""
        return Affine({source: part.scaled(factor) for source, part in self.parts.items()}, self.bias * factor)

    def through_matrix(self, weight: Tensor, bias: Tensor | None) -> Affine:
        """Return weight·value + bias, weight (out, in)."""
        if len(self.shape) != 1:
            raise UnreadableError(f"it acts on the last dimension of inputs of shape (batch, {shown(self.shape)})")
        parts = {source: matrix_after(weight, part) for source, part in self.parts.items()}
        return Affine(parts, self.bias @ weight.mT + (0 if bias is None else bias))

    def through_kernel(self, kernel: Kernel, bias: Tensor | None) -> Affine:
        """Return the convolution of the value, padded as the kernel says."""
        parts = {source: kernel_after(kernel, part) for source, part in self.parts.items()}
        mode = "circular" if kernel.mode == "circular" else "constant"
        constant = F.conv2d(F.pad(self.bias[None], kernel.sides, mode=mode), kernel.weight, bias)[0]
        return Affine(parts, constant)


def sum_of(a: Linear, b: Linear) -> Linear:
    """Return the sum of two maps of one source."""
    if isinstance(a, Identity) and isinstance(b, Identity):
        return Identity(a.scale + b.scale)
    if isinstance(a, Matrix) and isinstance(b, Matrix):
        return Matrix(a.weight + b.weight)
    if isinstance(a, Kernel) and isinstance(b, Kernel):
        a, b = common(a, b)
        return replace(a, weight=a.weight + b.weight)
    raise UnreadableError("it adds a linear layer to the value that the layer was given")


def common(*kernels: Kernel) -> tuple[Kernel, ...]:
    """Return the same maps as kernels of one size, padded alike."""
    sides: Sides = tuple(map(max, *(kernel.sides for kernel in kernels)))
    modes = {kernel.mode for kernel in kernels if any(kernel.sides)}
    if len(modes) > 1:
        raise UnreadableError("one convolution is padded with zeros, the other circularly; give both one padding")
    return tuple(replace(kernel.grown(sides), mode=modes.copy().pop() if modes else "zeros") for kernel in kernels)


def matrix_after(weight: Tensor, part: Linear) -> Linear:
    """Return the product of a matrix and a map of rows."""
    if isinstance(part, Matrix):
        return Matrix(weight @ part.weight)
    assert isinstance(part, Identity)  # rows of numbers have no kernels
    return Matrix(weight * part.scale)


def kernel_after(kernel: Kernel, part: Linear) -> Linear:
    """Return the product of a convolution and a map of images."""
    if isinstance(part, Identity):
        return replace(kernel, weight=kernel.weight * part.scale)
    assert isinstance(part, Kernel)
    raise UnreadableError("it follows another convolution with no ReLU between them; put one there, or merge them")


def by_channel(image: Tensor, what: str) -> Tensor:
    """Return the number of each channel (channels,) of an image that is constant on each."""
    numbers = image.flatten(1)
    if not (numbers == numbers[:, :1]).all():
        raise UnreadableError(f"it has {what} that differs from pixel to pixel")
    return numbers[:, 0]


def shared_by_rows(constant: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a constant as it acts on every element of the batch, () or (*shape), for values (batch, *shape)."""
    if constant.numel() == 1:
        return constant.reshape(())
    row = constant[0] if constant.ndim == len(shape) + 1 and len(constant) == 1 else constant
    if row.ndim > len(shape):
        raise UnreadableError("it combines each row with numbers of its own")
    return row.expand(shape)


def expanded_kernel(weight: Tensor, dilation: tuple[int, int], groups: int) -> Tensor:
    """Return a kernel (out, in/groups, height, width) without dilation and groups: zeros in their place."""
    if groups > 1:
        blocks = weight.chunk(groups)
        rows = [[block if i == j else torch.zeros_like(block) for j in range(groups)] for i, block in enumerate(blocks)]
        weight = torch.cat([torch.cat(row, dim=1) for row in rows])
    height, width = (1 + step * (taps - 1) for step, taps in zip(dilation, weight.shape[2:], strict=True))
    spread = weight.new_zeros(*weight.shape[:2], height, width)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def shown(shape: tuple[int, ...]) -> str:
    """Write a shape as it is named in a sentence."""
    return ", ".join(map(str, shape))
