"""Random rectifier units: the ensembles of the γ sweeps (assumption A3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.units import RectifierLinear, ResidualUnit

DTYPE = torch.float64


@dataclass(frozen=True)
class Ensemble(ABC):
    """A distribution of matrices A = W₁W₂, of order d, that a number γ scales."""

    @abstractmethod
    def matrix(self, cases: int, d: int, generator: torch.Generator) -> Tensor:
        """Draw A (cases, d, d) before it is scaled."""

    @abstractmethod
    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw W₁ and W₂, (cases, d, d) each, before they are scaled."""

    def scale(self, A: Tensor) -> Tensor:
        """Return what A (cases, d, d) is divided by before γ multiplies it: ‖A‖₂ (cases, 1, 1)."""
        norm: Tensor = torch.linalg.matrix_norm(A, ord=2, keepdim=True)
        return norm

    def linear(self, cases: int, d: int, gamma: Tensor, generator: torch.Generator) -> RectifierLinear:
        """Draw rectifier linear transforms, one batch for all γ: the same cases, scaled.

        Args:
            cases: number of cases for each γ.
            d: dimension of x.
            gamma: values of γ, (values,).
            generator: source of randomness.

        Returns:
            values·cases units, those of the first γ first.
        """
        A = self.matrix(cases, d, generator)
        b = normal(cases, d, generator=generator)
        return RectifierLinear(scaled(A / self.scale(A), gamma), repeated(b, gamma))

    def residual(self, cases: int, d: int, gamma: Tensor, generator: torch.Generator) -> ResidualUnit:
        """Draw residual units with a fully-connected layer of hidden width d, as `linear` does: ‖W₁W₂‖ = γ."""
        W1, W2 = self.factors(cases, d, generator)
        b1, b2 = normal(cases, d, generator=generator), normal(cases, d, generator=generator)
        root = self.scale(W1 @ W2).sqrt()
        return ResidualUnit(
            scaled(W1 / root, gamma.sqrt()), repeated(b1, gamma), scaled(W2 / root, gamma.sqrt()), repeated(b2, gamma)
        )


def normal(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers."""
    return torch.randn(*shape, dtype=DTYPE, generator=generator)


def scaled(matrices: Tensor, factors: Tensor) -> Tensor:
    """Return the matrices (cases, d, d) times each factor (values,), as (values·cases, d, d)."""
    return (factors[:, None, None, None] * matrices).flatten(0, 1)


def repeated(vectors: Tensor, gamma: Tensor) -> Tensor:
    """Return the vectors (cases, d) once for each γ, as (values·cases, d)."""
    return vectors.repeat(len(gamma), 1)


@dataclass(frozen=True)
class Gaussian(Ensemble):
    """Independent standard normal entries, scaled to ‖A‖₂ = γ."""

    def matrix(self, cases: int, d: int, generator: torch.Generator) -> Tensor:
        return normal(cases, d, d, generator=generator)

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return normal(cases, d, d, generator=generator), normal(cases, d, d, generator=generator)


@dataclass(frozen=True)
class Uniform(Ensemble):
    """Independent entries, uniform on [0, 1], scaled to ‖A‖₂ = γ."""

    def matrix(self, cases: int, d: int, generator: torch.Generator) -> Tensor:
        return torch.rand(cases, d, d, dtype=DTYPE, generator=generator)

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.matrix(cases, d, generator), self.matrix(cases, d, generator)


@dataclass(frozen=True)
class Entrywise(Gaussian):
    """Independent normal entries of standard deviation γ/√d, not rescaled: ‖A‖₂ varies, near 2γ for W itself."""

    def scale(self, A: Tensor) -> Tensor:
        return A.new_full((len(A), 1, 1), A.shape[-1] ** 0.5)

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        W1, W2 = super().factors(cases, d, generator)
        return W1, W2 / d**0.5  # so that an entry of W₁W₂ has the variance of an entry of W


@dataclass(frozen=True)
class FactoredEnsemble(Ensemble):
    """An ensemble that is drawn as W₁ and W₂, with A = W₁W₂ in the linear case too."""

    def matrix(self, cases: int, d: int, generator: torch.Generator) -> Tensor:
        W1, W2 = self.factors(cases, d, generator)
        return W1 @ W2


@dataclass(frozen=True)
class Gram(FactoredEnsemble):
    """A = BBᵀ with normal B, symmetric positive semi-definite as in the network's monotone unit, ‖A‖₂ = γ."""

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        B = normal(cases, d, d, generator=generator)
        return B, B.mT


@dataclass(frozen=True)
class Monotone(FactoredEnsemble):
    """A = B(I + S)Bᵀ with normal B and skew S: BBᵀ plus a skew part, A + Aᵀ positive semi-definite, ‖A‖₂ = γ."""

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        B, N = normal(cases, d, d, generator=generator), normal(cases, d, d, generator=generator)
        skew = (N - N.mT) / (2 * d) ** 0.5
        return B, (torch.eye(d, dtype=DTYPE) + skew) @ B.mT


@dataclass(frozen=True)
class Skew(FactoredEnsemble):
    """A = BSBᵀ with normal B and skew S: Aᵀ = −A, always monotone, ‖A‖₂ = γ."""

    def factors(self, cases: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        B, N = normal(cases, d, d, generator=generator), normal(cases, d, d, generator=generator)
        return B, (N - N.mT) @ B.mT
