"""When a rectifier unit is invertible: conditions, verdicts and the evidence for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from replication.operators import Dense, rounding_margin
from replication.rectifier import RectifierMap


class Verdict(Enum):
    """What is known of a unit."""

    INVERTIBLE = "invertible"
    NOT_INVERTIBLE = "not invertible"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Certificate:
    """A verdict with its evidence.

    Attributes:
        verdict: invertible, not invertible or unknown.
        condition: the condition that decides: "lipschitz", "monotone" or None.
        reason: one sentence with the numbers.
        witness: two inputs with the same output where the unit is not invertible, else None.
    """

    verdict: Verdict
    condition: str | None
    reason: str
    witness: tuple[Tensor, Tensor] | None = None


def spectral_norm(A: Tensor) -> Tensor:
    """Return ‖A‖₂ (...,) of matrices (..., n, n), by singular values."""
    return torch.linalg.matrix_norm(A, ord=2)


def symmetric_minimum(A: Tensor) -> Tensor:
    """Return λmin((A + Aᵀ)/2) (...,) of matrices (..., n, n), by symmetric eigenvalues."""
    return torch.linalg.eigvalsh((A + A.mT) / 2)[..., 0]


def is_lipschitz(A: Tensor) -> Tensor:
    """Decide ‖A‖₂ < 1, which the existing method needs, for matrices (..., n, n).

    >>> is_lipschitz(torch.diag(torch.tensor([0.5, -0.9])))
    tensor(True)
    """
    return spectral_norm(A) + rounding_margin(A) < 1


def is_monotone(A: Tensor) -> Tensor:
    """Decide λmin((A + Aᵀ)/2) > −1, which the proposed method needs, for matrices (..., n, n).

    >>> is_monotone(torch.tensor([[0.0, 5.0], [-5.0, 0.0]]))
    tensor(True)
    """
    return symmetric_minimum(A) - rounding_margin(A) > -1


def monotonicity(rectifier_map: RectifierMap) -> Tensor:
    """Bound μ from below in ‖f(x) − f(x′)‖ ≥ μ‖x − x′‖; 0 where nothing is known.

    1 for Gram units, whose inverse is a proximal map; 1 − ‖W₁‖·‖W₂‖, by upper bounds of the norms, for others.

    Returns:
        A scalar, or one constant a row (rows,) for a batch of units.
    """
    if rectifier_map.gram:
        return rectifier_map.b1.new_ones(())
    return (1 - rectifier_map.W1.norm_bound() * rectifier_map.W2.norm_bound()).clamp_min(0)


@torch.no_grad()
def certify(rectifier_map: RectifierMap) -> Certificate:
    """Certify one unit by the cheapest condition that holds.

    Source: paper A, abstract (conditions for invertible hidden layers), rebuilt as ‖A‖₂ < 1 and
    λmin((A + Aᵀ)/2) > −1; every norm is exact to rounding or an upper bound.
    """
    if rectifier_map.gram:
        return Certificate(
            Verdict.INVERTIBLE,
            "monotone",
            "A = W₁W₁ᵀ is positive semi-definite by construction, so f is strongly monotone with constant 1.",
        )
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    bound = float(W1.norm_bound() * W2.norm_bound())
    if monotonicity(rectifier_map) > 0:
        return Certificate(
            Verdict.INVERTIBLE, "lipschitz", f"‖W₁‖·‖W₂‖ ≤ {bound:.6g} < 1, so the residual branch is a contraction."
        )
    if not (isinstance(W1, Dense) and isinstance(W2, Dense)):
        return Certificate(
            Verdict.UNKNOWN, None, f"‖W₁‖·‖W₂‖ ≤ {bound:.6g} is not below 1, and no other condition was decided."
        )
    return certify_matrix(W1.matrix @ W2.matrix)


def certify_matrix(A: Tensor) -> Certificate:
    """Certify a unit from its matrix A = W₁W₂ (h, h)."""
    norm, minimum = float(spectral_norm(A)), float(symmetric_minimum(A))
    if is_lipschitz(A):
        return Certificate(Verdict.INVERTIBLE, "lipschitz", f"‖A‖ = {norm:.6g} < 1.")
    if is_monotone(A):
        return Certificate(
            Verdict.INVERTIBLE, "monotone", f"λmin((A + Aᵀ)/2) = {minimum:.6g} > −1, while ‖A‖ = {norm:.6g}."
        )
    return Certificate(
        Verdict.UNKNOWN, None, f"‖A‖ = {norm:.6g} is not below 1 and λmin((A + Aᵀ)/2) = {minimum:.6g} not above −1."
    )
