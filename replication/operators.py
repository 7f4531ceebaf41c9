"""The linear maps behind a rectifier unit: products, adjoints, matrices and norms, dense or convolutional.

`replication.resolvents` solves with them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from replication.checks import check_precision
from replication.rows import power_of_two, row_norm

MATRIX_ROWS = 512  # of the identity that are mapped at once to make a matrix
MATRIX_NUMBERS = 8192**2  # a matrix of so many numbers takes 512 MiB in float64
SQUARED_SAFELY = 2.0**-40, 2.0**40  # sizes of kernels whose Gram matrices neither over- nor underflow in float32


class Operator(ABC):
    """A linear map from rows of shape `domain` to rows of shape `codomain`.

    Attributes:
        symmetric: whether it is known to be its own adjoint.
    """

    domain: tuple[int, ...]
    codomain: tuple[int, ...]
    symmetric = False

    @abstractmethod
    def __call__(self, v: Tensor) -> Tensor:
        """Map v (rows, *domain) to (rows, *codomain)."""

    @abstractmethod
    def adjoint(self) -> Operator:
        """Return the adjoint map, from `codomain` to `domain`."""

    @abstractmethod
    def norm_bound(self) -> Tensor:
        """Bound the spectral norm from above, rounding included; a scalar, or one a row where batched."""

    def matrix(self, like: Tensor) -> Tensor:
        """Return the matrix (numbers out, numbers in) of a map that all rows share, of the dtype and device of `like`.

        Raises:
            ValueError: if it has more than MATRIX_NUMBERS entries.
        """
        order = math.prod(self.domain)
        if order * math.prod(self.codomain) > MATRIX_NUMBERS:
            raise ValueError(
                f"the matrix of a map of images of {order} numbers is too large; use another solver, or smaller images"
            )
        identity = torch.eye(order, dtype=like.dtype, device=like.device).reshape(order, *self.domain)
        return torch.cat([self(rows).flatten(1) for rows in identity.split(MATRIX_ROWS)]).mT


class Weighted(Operator):
    """A map that is one layer of a network.

    Attributes:
        weight: what the map is made of, its matrix or kernel.
        terms: the number of products in the sum of one output.
    """

    weight: Tensor
    terms: int

    @property
    def batched(self) -> bool:
        """Whether every row has a map of its own."""
        return False

    @abstractmethod
    def adjoint(self) -> Weighted:
        """Return the adjoint map, from `codomain` to `domain`."""

    def affine(self, v: Tensor, bias: Tensor) -> Tensor:
        """Map v and add a bias that is broadcast over rows, as a new tensor."""
        return self(v) + bias

    @abstractmethod
    def absolute_bound(self) -> Tensor:
        """Bound the spectral norm of the map of absolute values from above, √(‖·‖₁‖·‖_∞); as `norm_bound`."""

    def select(self, rows: Tensor) -> Weighted:
        """Keep the maps of these rows; a map that all rows share is kept as it is."""
        return self


class Dense(Weighted):
    """A matrix (h, d) that all rows share, or one matrix a row (rows, h, d)."""

    def __init__(self, matrix: Tensor) -> None:
        self.weight = matrix
        self.terms = matrix.shape[-1]
        self.codomain, self.domain = (matrix.shape[-2],), (matrix.shape[-1],)

    @property
    def batched(self) -> bool:
        return self.weight.ndim == 3

    def __call__(self, v: Tensor) -> Tensor:
        if self.batched:
            return torch.bmm(self.weight, v.unsqueeze(-1)).squeeze(-1)
        return v @ self.weight.mT

    def adjoint(self) -> Dense:
        return Dense(self.weight.mT)

    def select(self, rows: Tensor) -> Dense:
        return Dense(self.weight[rows]) if self.batched else self

    def norm_bound(self) -> Tensor:
        return torch.linalg.matrix_norm(self.weight, ord=2) + rounding_margin(self.weight)

    def absolute_bound(self) -> Tensor:
        size = self.weight.abs()
        return size.sum(-1).amax(-1).sqrt() * size.sum(-2).amax(-1).sqrt()


class Convolution(Weighted):
    """A convolution of stride 1 that keeps the image size.

    Source: design of the network, assumption A6; with padding at one corner paper B, abstract, assumption A7.

    Args:
        weight: kernel (out, in, k, k).
        image_size: (height, width) of the images it acts on.
        padding: "zeros" or "circular", k//2 points on every side; or a corner, "top-left", say: k − 1 zeros on those
            two sides only.

    Raises:
        ValueError: if the padding is none of these or does not fit the kernel and the image (`check_padding`).
    """

    def __init__(self, weight: Tensor, image_size: tuple[int, int], padding: str = "zeros") -> None:
        check_padding(padding, weight.shape[-1], image_size)
        self.weight, self.image_size, self.padding = weight, image_size, padding
        self.terms = weight[0].numel()
        self.codomain, self.domain = (weight.shape[0], *image_size), (weight.shape[1], *image_size)

    @property
    def aligned(self) -> Tensor:
        """The tap (out, in) that takes each pixel to itself."""
        row, column = aligned_tap(self.padding, self.weight.shape[-1])
        return self.weight[:, :, row, column]

    def without_aligned(self) -> Convolution:
        """Return the convolution of the other pixels alone."""
        weight = self.weight.clone()
        row, column = aligned_tap(self.padding, self.weight.shape[-1])
        weight[:, :, row, column] = 0
        return Convolution(weight, self.image_size, self.padding)

    def __call__(self, v: Tensor) -> Tensor:
        return self.convolve(v, None)

    def affine(self, v: Tensor, bias: Tensor) -> Tensor:
        return self.convolve(v, bias.expand(len(self.weight), 1, 1).flatten())

    def convolve(self, v: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve, and add a bias to each channel (out,)."""
        kernel_size = self.weight.shape[-1]
        if self.padding == "zeros":
            return F.conv2d(v, self.weight, bias, padding=kernel_size // 2)
        top, left = aligned_tap(self.padding, kernel_size)
        sides = (left, kernel_size - 1 - left, top, kernel_size - 1 - top)
        mode = "circular" if self.padding == "circular" else "constant"
        return F.conv2d(F.pad(v, sides, mode=mode), self.weight, bias)

    def adjoint(self) -> Convolution:
        padding = OPPOSITE.get(self.padding, self.padding)
        return Convolution(adjoint_kernel(self.weight), self.image_size, padding)

    def norm_bound(self) -> Tensor:
        return convolution_norm_bound(self.weight, self.image_size, self.padding)

    def absolute_bound(self) -> Tensor:
        size = self.weight.abs()
        return size.sum((1, 2, 3)).amax().sqrt() * size.sum((0, 2, 3)).amax().sqrt()


class Product(Operator):
    """The map v ↦ outer(inner(v)).

    Args:
        outer, inner: maps that all rows share.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        self.outer, self.inner = outer, inner
        self.domain, self.codomain = inner.domain, outer.codomain

    def __call__(self, v: Tensor) -> Tensor:
        return self.outer(self.inner(v))

    def adjoint(self) -> Product:
        return Product(self.inner.adjoint(), self.outer.adjoint())

    def norm_bound(self) -> Tensor:
        product = self.outer.norm_bound() * self.inner.norm_bound()
        return product.clamp_min(torch.finfo(product.dtype).tiny)  # what underflows is below it


class Gram(Product):
    """The symmetric, positive semi-definite map v ↦ Wᵀ(Wv).

    Args:
        W: a map that all rows share.
    """

    symmetric = True

    def __init__(self, W: Operator) -> None:
        super().__init__(W.adjoint(), W)

    def adjoint(self) -> Gram:
        return self

    def norm_bound(self) -> Tensor:
        norm = self.inner.norm_bound()
        return (norm**2).clamp_min(torch.finfo(norm.dtype).tiny)


SYMMETRIC_PADDINGS = ("zeros", "circular")
OPPOSITE = {  # a corner to the one across
    "top-left": "bottom-right",
    "bottom-right": "top-left",
    "top-right": "bottom-left",
    "bottom-left": "top-right",
}
CORNERS = tuple(OPPOSITE)


def aligned_tap(padding: str, kernel_size: int) -> tuple[int, int]:
    """Return the row and column of the tap that takes a pixel to itself: the padding on the top and on the left."""
    if padding in SYMMETRIC_PADDINGS:
        return kernel_size // 2, kernel_size // 2
    return (kernel_size - 1) * ("top" in padding), (kernel_size - 1) * ("left" in padding)


def check_padding(padding: str, kernel_size: int, image_size: tuple[int, int] | None) -> None:
    """Refuse unknown paddings, even kernels with symmetric ones, and circular ones that wrap an image more than once.

    Raises:
        ValueError: if the padding is one of these.
    """
    if padding not in SYMMETRIC_PADDINGS + CORNERS:
        known = ", ".join(f'"{name}"' for name in SYMMETRIC_PADDINGS + CORNERS)
        raise ValueError(f"padding must be one of {known}, not {padding!r}")
    if padding in SYMMETRIC_PADDINGS and kernel_size % 2 == 0:
        raise ValueError(f"a kernel padded on all sides must have an odd size, not {kernel_size}")
    if padding == "circular" and image_size is not None and kernel_size // 2 > min(image_size):
        raise ValueError(
            f"circular padding of {kernel_size // 2} points needs images of at least that size, not {image_size}"
        )


def rounding_margin(matrix: Tensor) -> Tensor:
    """Return how far a computed singular value or symmetric eigenvalue of (..., m, n) may be off, (...,).

    max(m, n)·ε·‖·‖_F, which covers the backward error of the LAPACK drivers, and what underflow may take.
    """
    limits = torch.finfo(matrix.dtype)
    return max(matrix.shape[-2:]) * limits.eps * frobenius_norm(matrix) + limits.tiny


def frobenius_norm(matrix: Tensor) -> Tensor:
    """Return ‖·‖_F of matrices (..., m, n), (...,), also where squares would over- or underflow."""
    return row_norm(matrix.reshape(-1, *matrix.shape[-2:])).reshape(matrix.shape[:-2])


def adjoint_kernel(weight: Tensor) -> Tensor:
    """Return the kernel (in, out, k, k) of the adjoint of a convolution with kernel (out, in, k, k)."""
    return weight.transpose(0, 1).flip(-2, -1)


def spectrum(weight: Tensor, torus: Sequence[int]) -> Tensor:
    """Return the symbols (height, width//2 + 1, out, in) of the circular convolution on a torus, up to phase factors.

    Taps past the torus are wrapped around it.
    """
    if any(taps > n for taps, n in zip(weight.shape[2:], torus, strict=True)):
        folds = [
            torch.eye(n, dtype=weight.dtype, device=weight.device).repeat(taps // n + 1, 1)[:taps]
            for taps, n in zip(weight.shape[2:], torus, strict=True)
        ]
        weight = folds[0].mT @ weight @ folds[1]
    return torch.fft.rfft2(weight, s=tuple(torus)).permute(2, 3, 0, 1)


def convolution_norm_bound(
    weight: Tensor, image_size: tuple[int, int], padding: str = "zeros", iterations: int = 5
) -> Tensor:
    """Bound the spectral norm of a convolution from above, differentiably.

    With circular padding it is the largest norm of the convolution's symbol over the frequencies of the image. With
    zeros the convolution is a compression of the circular one on a torus with as many points to spare as there are
    zeros on a side, where no wrapped tap reaches the image. Each symbol's norm is bounded by ‖G‖_F^(1/2^(t+1)), where G
    is the Gram matrix of the symbol squared t times: at most a factor rank^(1/2^(t+2)) above the exact value.

    Source: Delattre et al., ICML 2023, arXiv 2305.16173 (Gram iteration).

    Args:
        weight: kernel (out, in, k, k).
        image_size: (height, width).
        padding: as for `Convolution`.
        iterations: number t of squarings.

    Returns:
        A scalar, infinite where it overflows.

    Raises:
        TypeError: if the kernel is of another dtype than float32 or float64.
    """
    check_precision(weight)
    torus = list(image_size)
    if padding != "circular":
        taps = weight.shape[-1]
        for side, (n, before) in enumerate(zip(image_size, aligned_tap(padding, taps), strict=True)):
            first, last = max(0, before - n + 1), min(taps - 1, before + n - 1)  # taps past these meet zeros only
            weight = weight.narrow(2 + side, first, last - first + 1)
            torus[side] = n + max(before - first, last - before)
    scale = safe_scale(weight)
    symbols = spectrum(weight / scale, torus).flatten(0, 1)
    with torch.no_grad():
        largest = gram_norm_bound(symbols, iterations).argmax()
    bound = gram_norm_bound(symbols[largest : largest + 1], iterations)[0]  # the gradient goes through this one alone
    limits = torch.finfo(weight.dtype)
    return scale * bound * (1 + 1000 * limits.eps) + limits.tiny  # covers the rounding and underflow on the way


def safe_scale(weight: Tensor) -> Tensor:
    """Return a power of two, of the kernel's size if it cannot be squared safely and else 1, without a gradient."""
    largest = weight.detach().abs().amax()
    low, high = SQUARED_SAFELY
    return torch.where((largest < low) | (largest > high), power_of_two(largest), 1)


def gram_norm_bound(matrices: Tensor, iterations: int) -> Tensor:
    """Bound the spectral norms (n,) of complex matrices (n, out, in) from above by squaring their Gram matrices."""
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.mH
    gram = matrices.mH @ matrices
    tiny = torch.finfo(gram.real.dtype).tiny
    log_scale = gram.real.new_zeros(())
    for _ in range(iterations):
        # scaled against overflow; the result does not depend on the scale, so no gradient goes through it
        scale = torch.view_as_real(gram.detach()).abs().amax().clamp_min(tiny)
        gram = gram / scale
        gram = gram @ gram
        log_scale = 2 * (log_scale + scale.log())
    squared = torch.view_as_real(gram).square().sum(dim=(1, 2, 3)).clamp_min(tiny)
    return ((log_scale + squared.log() / 2) / 2 ** (iterations + 1)).exp()


def norm_estimate(linear: Operator) -> float:
    """Estimate the spectral norm of a float64 map by Lanczos iteration.

    Converged from below to about six digits: an estimate to report, never a certificate.
    """

    def numbers(apply: Operator, v: np.ndarray) -> np.ndarray:
        return apply(torch.as_tensor(v.reshape(1, *apply.domain))).detach().numpy().reshape(-1)

    domain = math.prod(linear.domain)
    if min(domain, math.prod(linear.codomain)) == 1:  # which Lanczos iteration cannot take
        return float(torch.linalg.matrix_norm(linear.matrix(torch.zeros((), dtype=torch.float64)).detach(), 2))
    if not numbers(linear, np.random.default_rng(1).standard_normal(domain)).any():
        return 0.0
    adjoint = linear.adjoint()
    operator = LinearOperator(
        (math.prod(linear.codomain), domain),
        matvec=lambda v: numbers(linear, v),
        rmatvec=lambda v: numbers(adjoint, v),
        dtype=np.float64,
    )
    return float(svds(operator, k=1, return_singular_vectors=False, rng=np.random.default_rng(0))[0])
