"""The linear maps behind a rectifier unit: products, adjoints, matrices and norms, dense or convolutional."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor


class Operator(ABC):
    """A linear map from rows of shape `domain` to rows of shape `codomain`.

    Attributes:
        weight: what the map is made of, its matrix or kernel.
        terms: the number of products in the sum of one output.
    """

    domain: tuple[int, ...]
    codomain: tuple[int, ...]
    weight: Tensor
    terms: int

    @property
    def batched(self) -> bool:
        """Whether every row has a map of its own."""
        return False

    @abstractmethod
    def __call__(self, v: Tensor) -> Tensor:
        """Map v (rows, *domain) to (rows, *codomain)."""

    @abstractmethod
    def adjoint(self) -> Operator:
        """Return the adjoint map, from `codomain` to `domain`."""

    @abstractmethod
    def norm_bound(self) -> Tensor:
        """Bound the spectral norm from above, rounding included; a scalar, or one a row where batched."""

    @abstractmethod
    def absolute_bound(self) -> Tensor:
        """Bound the spectral norm of the map of absolute values from above, √(‖·‖₁‖·‖_∞); as `norm_bound`."""

    def select(self, rows: Tensor) -> Operator:
        """Keep the maps of these rows; a map that all rows share is kept as it is."""
        return self


class Dense(Operator):
    """A matrix (h, d) that all rows share, or one matrix a row (rows, h, d)."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = self.weight = matrix
        self.terms = matrix.shape[-1]
        self.codomain, self.domain = (matrix.shape[-2],), (matrix.shape[-1],)

    @property
    def batched(self) -> bool:
        return self.matrix.ndim == 3

    def __call__(self, v: Tensor) -> Tensor:
        if self.batched:
            return torch.bmm(self.matrix, v.unsqueeze(-1)).squeeze(-1)
        return v @ self.matrix.mT

    def adjoint(self) -> Dense:
        return Dense(self.matrix.mT)

    def select(self, rows: Tensor) -> Dense:
        return Dense(self.matrix[rows]) if self.batched else self

    def norm_bound(self) -> Tensor:
        return torch.linalg.matrix_norm(self.matrix, ord=2) + rounding_margin(self.matrix)

    def absolute_bound(self) -> Tensor:
        size = self.matrix.abs()
        return (size.sum(-1).amax(-1) * size.sum(-2).amax(-1)).sqrt()


class Convolution(Operator):
    """A convolution of stride 1 with zero padding that keeps the image size.

    Source: design of the network, assumption A6.

    Args:
        weight: kernel (out, in, k, k), k odd.
        image_size: (height, width) of the images it acts on.
    """

    def __init__(self, weight: Tensor, image_size: tuple[int, int]) -> None:
        self.weight, self.image_size = weight, image_size
        self.terms = weight[0].numel()
        self.codomain, self.domain = (weight.shape[0], *image_size), (weight.shape[1], *image_size)

    def __call__(self, v: Tensor) -> Tensor:
        return F.conv2d(v, self.weight, padding=self.weight.shape[-1] // 2)

    def adjoint(self) -> Convolution:
        return Convolution(adjoint_kernel(self.weight), self.image_size)

    def norm_bound(self) -> Tensor:
        return convolution_norm_bound(self.weight, self.image_size)

    def absolute_bound(self) -> Tensor:
        size = self.weight.abs()
        return (size.sum((1, 2, 3)).amax() * size.sum((0, 2, 3)).amax()).sqrt()


def rounding_margin(matrix: Tensor) -> Tensor:
    """Return how far a computed singular value or symmetric eigenvalue of (..., m, n) may be off, (...,).

    max(m, n)·ε·‖·‖_F, which covers the backward error of the LAPACK drivers.
    """
    return max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps * torch.linalg.matrix_norm(matrix)


def adjoint_kernel(weight: Tensor) -> Tensor:
    """Return the kernel (in, out, k, k) of the adjoint of a zero-padded convolution with kernel (out, in, k, k)."""
    return weight.transpose(0, 1).flip(-2, -1)


def convolution_norm_bound(weight: Tensor, image_size: tuple[int, int], iterations: int = 5) -> Tensor:
    """Bound the spectral norm of a zero-padded convolution from above, differentiably.

    The zero-padded convolution of an n×n image is a compression of the circular one on a torus of n + k//2 points a
    side (no wrapped tap reaches the image), whose norm is the largest norm of its symbol over the torus frequencies.
    Each symbol's norm is bounded by ‖G‖_F^(1/2^(t+1)), where G is the Gram matrix of the symbol squared t times: at
    most a factor rank^(1/2^(t+2)) above the exact value.

    Source: Delattre et al., ICML 2023, arXiv 2305.16173 (Gram iteration).

    Args:
        weight: kernel (out, in, k, k).
        image_size: (height, width).
        iterations: number t of squarings.

    Returns:
        A scalar.
    """
    radius = weight.shape[-1] // 2
    torus = [n + radius for n in image_size]
    symbols = torch.fft.rfft2(weight, s=torus).flatten(2).permute(2, 0, 1)
    with torch.no_grad():
        largest = gram_norm_bound(symbols, iterations).argmax()
    bound = gram_norm_bound(symbols[largest : largest + 1], iterations)[0]  # the gradient goes through this one alone
    return bound * (1 + 1000 * torch.finfo(weight.dtype).eps)  # covers the rounding of its computation


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


def norm_estimate(*factors: Operator) -> float:
    """Estimate the spectral norm of a product of maps, first factor applied last, by Lanczos iteration.

    Converged from below to about six digits: an estimate to report, never a certificate.
    """

    def product(maps: list[Operator], v: np.ndarray) -> np.ndarray:
        rows = torch.as_tensor(v.reshape(1, *maps[0].domain), dtype=torch.float64)
        for linear in maps:
            rows = linear(rows)
        return rows.detach().numpy().reshape(-1)

    forward = list(reversed(factors))
    backward = [factor.adjoint() for factor in factors]
    shape = (math.prod(factors[0].codomain), math.prod(factors[-1].domain))
    operator = LinearOperator(
        shape, matvec=lambda v: product(forward, v), rmatvec=lambda v: product(backward, v), dtype=np.float64
    )
    return float(svds(operator, k=1, return_singular_vectors=False, rng=np.random.default_rng(0))[0])
