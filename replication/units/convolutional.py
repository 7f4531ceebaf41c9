"""Convolutional residual units on images: free, contractive, monotone, and causal by padding at one corner only."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication.certificate import Certificate
from replication.checks import check_counts, check_image_size, check_number
from replication.maps import ConvolutionalMap, convolutional_map
from replication.operators import Convolution, adjoint_kernel, check_padding, convolution_norm_bound
from replication.units.kept import Kept
from replication.units.rectifier_unit import RectifierUnit


class NormCap(Kept, nn.Module):
    """Scale a convolution kernel down so that its spectral norm is at most `cap`: a parametrization.

    The norm is a rigorous upper bound on images of `image_size` (with zero padding, on smaller ones too).
    """

    settings = ("cap", "image_size", "padding")

    def __init__(self, cap: float, image_size: tuple[int, int], padding: str) -> None:
        super().__init__()
        self.cap, self.image_size, self.padding = cap, image_size, padding

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.cap / convolution_norm_bound(weight, self.image_size, self.padding)).clamp_max(1)

    def extra_repr(self) -> str:
        return f"cap={self.cap:g}, image_size={self.image_size}"


class OnImages(nn.Module):
    """What convolutional units share: the sizes of their images and kernels (`set_sizes`).

    Attributes:
        channels, hidden, kernel_size: c, h and k.
        image_size: (height, width), or None.
        padding: as for `replication.operators.Convolution`.
    """

    settings: ClassVar[tuple[str, ...]] = ("padding",)

    def set_sizes(
        self, channels: int, hidden: int, kernel_size: int, image_size: tuple[int, int] | None, padding: str
    ) -> None:
        """Keep the sizes, and refuse those that do not fit each other.

        Raises:
            TypeError, ValueError: if they do not.
        """
        check_counts(1, channels=channels, hidden=hidden, kernel_size=kernel_size)
        if image_size is not None:
            check_image_size(image_size)
        self.channels, self.hidden, self.kernel_size, self.padding = channels, hidden, kernel_size, padding
        self.image_size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        check_padding(padding, kernel_size, self.image_size)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width).

        Raises:
            ValueError: if the unit was made without an image_size.
        """
        if self.image_size is None:
            raise ValueError("norms depend on the size of the images: make the unit with image_size=(height, width)")
        return (self.channels, *self.image_size)

    def size_of(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the (height, width) of images of this shape (channels, height, width).

        Raises:
            ValueError: if the unit does not take them.
        """
        if len(shape) != 3 or shape[0] != self.channels or 0 in shape:
            raise ValueError(f"the unit takes images ({self.channels}, height, width), not of shape {shape}")
        return shape[1], shape[2]

    def cap(self, name: str, norm: float) -> None:
        """Keep the norm of the kernel `name` at most `norm` from now on."""
        parametrize.register_parametrization(self, name, NormCap(norm, self.input_shape[1:], self.padding))

    def extra_repr(self) -> str:
        padding = "" if self.padding == "zeros" else f", padding={self.padding}"
        return f"channels={self.channels}, hidden={self.hidden}, kernel_size={self.kernel_size}{padding}"


class ConvRectifierUnit(OnImages, RectifierUnit):
    """y = x + conv₂(relu(conv₁(x))), stride 1, padded so that the image keeps its size (assumption A6).

    Args:
        channels: channels c of the images.
        hidden: channels h between the convolutions.
        kernel_size: size k of the kernels, odd unless they are padded at a corner.
        image_size: (height, width); needed for norms, and so for a cap and for the certificate.
        padding: "zeros" or "circular", k//2 on every side, or a corner (`CausalConvUnit`).

    Inputs have the shape (batch, c, height, width).
    """

    title: str
    gram = False

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        image_size: tuple[int, int] | None = None,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.set_sizes(channels, hidden, kernel_size, image_size, padding)
        self.weight1 = nn.Parameter(initial_kernel(hidden, channels, kernel_size))
        self.bias1 = nn.Parameter(torch.zeros(hidden))
        self.bias2 = nn.Parameter(torch.zeros(channels))
        self.make_second()

    def make_second(self) -> None:
        """Register what the second convolution has of its own: a free kernel `weight2`."""
        self.weight2 = nn.Parameter(initial_kernel(self.channels, self.hidden, self.kernel_size))

    @abstractmethod
    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels (h, c, k, k) and (c, h, k, k)."""

    def rectifier_map(self, shape: tuple[int, ...]) -> ConvolutionalMap:
        size = self.size_of(shape)
        weight1, weight2 = self.kernels()
        bias1, bias2 = self.bias1[:, None, None], self.bias2[:, None, None]
        W1, W2 = Convolution(weight1, size, self.padding), Convolution(weight2, size, self.padding)
        return convolutional_map(W1, bias1, W2, bias2, self.gram)

    def certificate(self, folds: bool = True) -> Certificate:
        """Certify the unit for images of `image_size`.

        Args:
            folds: whether two images with the same output are looked for where no condition holds: seconds if they
                are large.

        Raises:
            ValueError: if the unit was made without an image_size.
        """
        return super().certificate(folds)


class StandardConvUnit(ConvRectifierUnit):
    """A residual unit with free kernels: nothing is guaranteed.

    Args: as ConvRectifierUnit.

    >>> unit = StandardConvUnit(2, 3, image_size=(4, 4)).double()
    >>> with torch.no_grad():
    ...     _ = unit.weight1.fill_(9), unit.weight2.fill_(-9)
    >>> unit.certificate().verdict.value
    'not invertible'
    """

    title = "standard unit"

    def kernels(self) -> tuple[Tensor, Tensor]:
        return self.weight1, self.weight2


class LipschitzConvUnit(StandardConvUnit):
    """A residual unit whose branch has a Lipschitz constant of at most `lipschitz` < 1: the existing method inverts it.

    Source: i-ResNet (Behrmann et al., arXiv 1811.00995), with one ReLU; both kernels are capped at √lipschitz.

    Args:
        lipschitz: upper bound of ‖W₁‖·‖W₂‖.
        channels, hidden, kernel_size, image_size, padding: as ConvRectifierUnit.

    >>> unit = LipschitzConvUnit(2, 3, image_size=(4, 4), lipschitz=0.5)
    >>> unit.certificate().condition
    'lipschitz'
    >>> unit.inverse(torch.ones(2, 2, 4, 4), "banach").converged
    tensor([True, True])
    """

    title = "Lipschitz unit"

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        *,
        image_size: tuple[int, int],
        padding: str = "zeros",
        lipschitz: float = 0.9,
    ) -> None:
        super().__init__(channels, hidden, kernel_size, image_size, padding)
        check_number("lipschitz", lipschitz)
        if not 0 < lipschitz < 1:
            raise ValueError(f"lipschitz must lie between 0 and 1, not {lipschitz!r}")
        self.cap("weight1", math.sqrt(lipschitz))
        self.cap("weight2", math.sqrt(lipschitz))


class MonotoneConvUnit(ConvRectifierUnit):
    """The monotone (Gram) unit: invertible for every kernel, with a 1-Lipschitz inverse.

        f(x) = x + W₁ᵀ·relu(W₁x + b₁) + b₂

    A = W₁W₁ᵀ is positive semi-definite, whatever its norm.

    Source: the special network of paper A, abstract (assumption A6).

    Args:
        norm_cap: upper bound of ‖A‖, or None for none.
        channels, hidden, kernel_size, image_size, padding: as ConvRectifierUnit.

    >>> unit = MonotoneConvUnit(2, 3, image_size=(4, 4))
    >>> unit.certificate().condition
    'monotone'
    >>> unit.inverse(torch.ones(2, 2, 4, 4)).converged
    tensor([True, True])
    """

    title = "monotone unit"
    gram = True

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        image_size: tuple[int, int] | None = None,
        padding: str = "zeros",
        norm_cap: float | None = None,
    ) -> None:
        super().__init__(channels, hidden, kernel_size, image_size, padding)
        check_norm_cap(norm_cap)
        if norm_cap is not None:
            self.cap("weight1", math.sqrt(norm_cap))

    def make_second(self) -> None:
        """The second convolution has nothing of its own."""

    def kernels(self) -> tuple[Tensor, Tensor]:
        weight1 = self.weight1
        return weight1, adjoint_kernel(weight1)


def check_norm_cap(norm_cap: float | None) -> None:
    """Refuse caps that are no positive numbers."""
    if norm_cap is None:
        return
    check_number("norm_cap", norm_cap)
    if not norm_cap > 0:
        raise ValueError(f"norm_cap must be positive or None, not {norm_cap!r}")


def initial_kernel(out: int, into: int, kernel_size: int) -> Tensor:
    """Draw a kernel (out, into, k, k) with variance 1/fan-in (LeCun's rule)."""
    return torch.randn(out, into, kernel_size, kernel_size) / math.sqrt(into * kernel_size**2)
