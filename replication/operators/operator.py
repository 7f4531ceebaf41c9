"""What a linear map is: products, adjoint, matrix and norm; and what one layer of a network is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

MATRIX_ROWS = 512  # of the identity that are mapped at once to make a matrix
MATRIX_NUMBERS = 8192**2  # a matrix of so many numbers takes 512 MiB in float64


class Operator(ABC):
    """A linear map from rows of shape `domain` to rows of shape `codomain`.

    Attributes:
        symmetric: whether it is known to be its own adjoint.
    """

    domain: tuple[int, ...]
    codomain: tuple[int, ...]
    symmetric = False

    @property
    def circular(self) -> bool:
        """Whether it is made of circular convolutions only, so that Fourier transforms diagonalize it."""
        return False

    def symbols(self) -> Tensor:
        """Return the complex symbols (height, width//2 + 1, out, in) of a circular map.

        Raises:
            TypeError: if it is not circular.
        """
        raise TypeError(f"{type(self).__name__} is no circular convolution, so it has no symbols")

    @abstractmethod
    def __call__(self, v: Tensor) -> Tensor:
        """Map v (batch, *domain) to (batch, *codomain)."""

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
        return self.entries(like)

    def entries(self, like: Tensor) -> Tensor:
        """Return what `matrix` does, whatever its size."""
        order = math.prod(self.domain)
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
