"""How far a solution can be off: the Lipschitz constant of the inverse, and the rounding of a residual."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from replication.certification.convolutions import constant_of
from replication.certification.decisions import product_error
from replication.conditions import inverse_norm_bound, margin, symmetric_minimum
from replication.maps import ConvolutionalMap, DenseMap, RectifierEquation, RectifierMap
from replication.operators import Product
from replication.rows import residual_scale, row_norm, smallest_number
from replication.solvers.solution import CODE, Solution, Status

BOUNDED = 256  # hidden numbers of a convolution up to which an inverse asks for more than norms
ROUNDING = 8  # margin for convolution algorithms that round more than plain sums


def inverse_lipschitz(rectifier_map: RectifierMap) -> Tensor:
    """Bound K from above in ‖x − x′‖ ≤ K·‖f(x) − f(x′)‖; infinite where nothing is known.

    1 for Gram units, whose inverse is a proximal map. For others the least of what is known, with L = ‖W₁‖·‖W₂‖:

    - 1/(1 − L) if L < 1;
    - 1 + L/(1 + λ) if λ = λmin((A + Aᵀ)/2) > −1. With s + A·relu(s) = c, z = relu(s), and Δ for differences of two
      solutions, Δzᵢ = θᵢΔsᵢ with 0 ≤ θᵢ ≤ 1 gives (1 + λ)‖Δz‖² ≤ ΔzᵀΔc, while Δx = Δy − W₂Δz and Δc = W₁Δy;
    - 1 + L·‖⟨M⟩⁻¹‖ if M is an H-matrix with positive diagonal, since then ⟨M⟩|Δz| ≤ |Δc| in the same way;
    - for convolutions, 1 + ‖W₂Λ^(−½)‖·‖Λ^½W₁‖/t if ΛM + MᵀΛ ⪰ 2tΛ for a diagonal Λ > 0 and t > 0.

    Returns:
        A scalar, or one constant a row (batch,) for a batch of units.
    """
    if rectifier_map.gram:
        return rectifier_map.b1.new_ones(())
    norms = Product(rectifier_map.W2, rectifier_map.W1).norm_bound()
    constant = torch.minimum(constant_of_norms(norms), constant_of_kind(rectifier_map, norms).to(norms))
    return constant.nan_to_num(nan=torch.inf, posinf=torch.inf)


def constant_of_norms(norms: Tensor) -> Tensor:
    """Return 1/(1 − L), infinite unless L < 1."""
    return torch.where(norms < 1, 1 / (1 - norms), torch.inf)


def quick_constant(rectifier_map: RectifierMap) -> Tensor:
    """Return the constant by what takes no longer than an inverse: for large convolutions by norms alone."""
    quick = rectifier_map.gram or isinstance(rectifier_map, DenseMap) or rectifier_map.order <= BOUNDED
    if quick:
        return inverse_lipschitz(rectifier_map)
    return constant_of_norms(Product(rectifier_map.W2, rectifier_map.W1).norm_bound())


@singledispatch
def constant_of_kind(rectifier_map: RectifierMap, norms: Tensor) -> Tensor:
    """Return the constant that the kind of a map gives, beyond ‖W₁‖·‖W₂‖ ≤ norms: none."""
    return torch.full_like(norms, torch.inf)


@constant_of_kind.register
def _(rectifier_map: DenseMap, norms: Tensor) -> Tensor:
    """Return the constant of a monotone matrix or an H-matrix, the least of both."""
    A, error = rectifier_map.matrix(), product_error(rectifier_map.W1, rectifier_map.W2)
    gap = 1 + symmetric_minimum(A) - margin(A, error)
    monotone = torch.where(gap > 0, 1 + norms / gap, torch.inf)
    return torch.minimum(monotone, 1 + norms * inverse_norm_bound(A, error))


@constant_of_kind.register
def _(rectifier_map: ConvolutionalMap, norms: Tensor) -> Tensor:
    """Return the constant of a scaling of the whole matrix, where the norms give none."""
    return torch.full_like(norms, torch.inf if bool(norms < 1) else constant_of(rectifier_map))


def judged(solution: Solution, equation: RectifierEquation, tolerance: float) -> Solution:
    """Take back *converged* where under- or overflow may have changed f(value) by more than tolerance and rounding."""
    accuracy = max(tolerance, torch.finfo(equation.y.dtype).eps)
    kept = lost_to_range(equation, solution.value) <= accuracy * residual_scale(equation.y)
    codes = torch.where(solution.converged & ~kept, CODE[Status.STAGNATED], solution.codes)
    residual = solution.residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
    return replace(solution, value=solution.value.contiguous(), codes=codes, residual=residual)


def with_error_bound(solution: Solution, equation: RectifierEquation) -> Solution:
    """Add the bound ‖value − x‖ ≤ K·‖f(value) − y‖, infinite where no K is known; none if it is known nowhere.

    The residual counts with the rounding of its own computation. K can take far longer than the inverse: it is computed
    when the bound is asked for.
    """
    residual = solution.residual * residual_scale(equation.y) + rounding_of_residual(equation, solution.value)
    then = as_it_is(equation.map)

    @torch.no_grad()
    def bound() -> Tensor | None:
        constant = quick_constant(then)
        if not torch.isfinite(constant).any():
            return None
        return (constant * residual).nan_to_num(nan=torch.inf, posinf=torch.inf)

    return replace(solution, bound=bound)


def as_it_is(rectifier_map: RectifierMap) -> RectifierMap:
    """Return a map that keeps its weights when those of the unit change; its constants need no biases."""
    W1, W2 = copy.copy(rectifier_map.W1), copy.copy(rectifier_map.W2)
    W1.weight, W2.weight = W1.weight.detach().clone(), W2.weight.detach().clone()
    return replace(rectifier_map, W1=W1, W2=W2)


def rounding_of_residual(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound the rounding error of f(x) − y (batch,), by the number of terms in each sum times their largest size."""
    terms = equation.map.W1.terms + equation.map.W2.terms + 4
    rounding = ROUNDING * terms * torch.finfo(x.dtype).eps * size_of_terms(equation, x)
    return rounding + lost_to_range(equation, x)


def size_of_terms(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound all that is added up in f(x) − y (batch,), and so every partial sum."""
    W1, W2, b1, b2 = equation.map.W1, equation.map.W2, equation.map.b1, equation.map.b2
    size1 = W1.absolute_bound() * row_norm(x) + size_of(b1, W1.codomain)
    return row_norm(x) + size_of(b2, W2.codomain) + row_norm(equation.y) + W2.absolute_bound() * size1


def lost_to_range(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound what underflow takes from f(x) − y (batch,); infinite where a sum in it may overflow."""
    W1, W2 = equation.map.W1, equation.map.W2
    h, d = math.prod(W1.codomain), math.prod(W1.domain)
    products = W2.absolute_bound() * (math.sqrt(h) * W1.terms) + math.sqrt(d) * (W2.terms + 4)
    lost = ROUNDING * smallest_number(x) * products
    return torch.where(torch.isfinite(size_of_terms(equation, x)), lost, torch.inf)


def size_of(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ‖bias‖ once it is broadcast to `shape`: (1,), or (batch,) for a bias a row."""
    return row_norm(bias if bias.ndim > len(shape) else bias.expand(shape).unsqueeze(0))
