"""Products of linear maps, and how large a norm is, estimated."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from replication.operators.convolution import Convolution, of_blocks
from replication.operators.operator import Operator

TOLERANCE = 3e-4  # of the singular vector, whose norm is far nearer: to its square


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

    @property
    def circular(self) -> bool:
        return self.outer.circular and self.inner.circular

    def symbols(self) -> Tensor:
        return self.outer.symbols() @ self.inner.symbols()

    def entries(self, like: Tensor) -> Tensor:
        if isinstance(self.outer, Convolution) and isinstance(self.inner, Convolution):
            return entries_of_two(self.outer, self.inner, like)
        return super().entries(like)

    def adjoint(self) -> Product:
        return Product(self.inner.adjoint(), self.outer.adjoint())

    def norm_bound(self) -> Tensor:
        product = self.outer.norm_bound() * self.inner.norm_bound()
        return product.clamp_min(torch.finfo(product.dtype).tiny)  # what underflows is below it


def entries_of_two(outer: Convolution, inner: Convolution, like: Tensor) -> Tensor:
    """Return the matrix of outer(inner(v)) from the products of their taps, which are far fewer than its columns."""
    between, seen = outer.seen(), inner.seen()
    last, first, site = torch.nonzero((between >= 0)[:, None] & (seen[:, between] >= 0).transpose(0, 1), as_tuple=True)
    products = outer.taps(like)[:, None] @ inner.taps(like)
    return of_blocks(products[last, first], site, seen[first, between[last, site]], math.prod(inner.image_size))


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


@torch.no_grad()
def norm_from_below(linear: Operator, like: Tensor, steps: int = 6) -> float:
    """Return a norm that is reached, so no larger than the spectral norm, and smaller by a tenth or so.

    Args:
        linear: a map that all rows share.
        like: of the dtype and device.
        steps: of power iteration.
    """
    adjoint = linear.adjoint()
    v = like.new_ones(1, math.prod(linear.domain))
    v[:, ::2] = -1
    v = v.reshape(1, *linear.domain)
    norm = 0.0
    for _ in range(steps):
        w = linear(v / torch.linalg.vector_norm(v))
        norm = float(torch.linalg.vector_norm(w))
        if not 0 < norm < math.inf:
            return norm
        v = adjoint(w)
    return norm


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
    return float(svds(operator, k=1, tol=TOLERANCE, return_singular_vectors=False, rng=np.random.default_rng(0))[0])
