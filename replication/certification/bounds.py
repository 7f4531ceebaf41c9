"""How far a solution can be off: the Lipschitz constant of the inverse, and the rounding of a residual."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property, singledispatch
from typing import TypeVar

import torch
from torch import Tensor

from replication.certification.convolutions import constant_of
from replication.certification.decisions import product_error
from replication.conditions import inverse_norm_bound, margin, symmetric_minimum
from replication.maps import ConvolutionalMap, DenseMap, RectifierEquation, RectifierMap
from replication.operators import Product
from replication.rows import row_norm, scale_of_norm, smallest_number
from replication.solvers.solution import CODE, Solution, Status

BOUNDED = 256  # hidden numbers of a convolution up to which an inverse asks for more than norms
T = TypeVar("T", float, Tensor)
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


def concluded(solution: Solution, equation: RectifierEquation, tolerance: float) -> Solution:
    """Return what an inverse returns: a solution that is judged, and has an error bound."""
    terms = Terms.of(equation, solution.value)
    return bounded(judged(solution, terms, tolerance), terms)


def with_error_bound(solution: Solution, equation: RectifierEquation) -> Solution:
    """Add the bound ‖value − x‖ ≤ K·‖f(value) − y‖, infinite where no K is known; none if it is known nowhere.

    The residual counts with the rounding of its own computation. K can take far longer than the inverse: it is computed
    when the bound is asked for.
    """
    return bounded(solution, Terms.of(equation, solution.value))


def judged(solution: Solution, terms: Terms, tolerance: float) -> Solution:
    """Take back *converged* where under- or overflow may have changed f(value) by more than tolerance and rounding."""
    residual = solution.residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
    solution = replace(solution, value=solution.value.contiguous(), residual=residual)
    accuracy = max(tolerance, torch.finfo(terms.x.dtype).eps)
    if terms.are_ordinary(accuracy):
        return solution
    kept = terms.lost_to_range() <= accuracy * terms.scale
    return replace(solution, codes=torch.where(solution.converged & ~kept, CODE[Status.STAGNATED], solution.codes))


def bounded(solution: Solution, terms: Terms) -> Solution:
    """Add the error bound, to be computed when it is asked for."""
    found = solution.residual

    @torch.no_grad()
    def bound() -> Tensor | None:
        constant = quick_constant(terms.map)
        if not torch.isfinite(constant).any():
            return None
        residual = found * terms.scale + terms.rounding()
        return (constant * residual).nan_to_num(nan=torch.inf, posinf=torch.inf)

    return replace(solution, bound=bound)


@dataclass(frozen=True)
class Terms:
    """How large all is that is added up in f(x) − y, so how far it may be off.

    Attributes:
        unit: f, whose weights may change later.
        weights: those of now, W₁, b₁, W₂ and b₂.
        x, y: ‖x‖ and ‖y‖ (batch,).
    """

    unit: RectifierMap
    weights: tuple[Tensor, ...]
    x: Tensor
    y: Tensor

    @staticmethod
    def of(equation: RectifierEquation, x: Tensor) -> Terms:
        """Return the terms of f(x) − y."""
        f = equation.map
        weights = tuple(tensor.detach().clone() for tensor in (f.W1.weight, f.b1, f.W2.weight, f.b2))
        return Terms(f, weights, row_norm(x), row_norm(equation.y))

    @cached_property
    def map(self) -> RectifierMap:
        """f with the weights of then."""
        W1, W2 = copy.copy(self.unit.W1), copy.copy(self.unit.W2)
        W1.weight, b1, W2.weight, b2 = self.weights
        return replace(self.unit, W1=W1, b1=b1, W2=W2, b2=b2)

    @property
    def scale(self) -> Tensor:
        """What residuals are relative to (batch,)."""
        return scale_of_norm(self.y)

    def are_ordinary(self, accuracy: float) -> bool:
        """Return whether rough bounds show for all rows at once that under- and overflow take no more than accuracy."""
        if not len(self.x):
            return True
        limits, hidden, inputs = torch.finfo(self.x.dtype), self.unit.W1.codomain, self.unit.W2.codomain
        numbers = self.weights[0].numel(), math.prod(hidden), self.weights[2].numel(), math.prod(inputs)
        W1, b1, W2, b2 = (
            count * float(torch.linalg.vector_norm(tensor, math.inf))
            for count, tensor in zip(numbers, self.weights, strict=True)
        )
        x, (lowest, y) = float(self.x.amax()), map(float, torch.aminmax(self.y))
        lost = self.share_lost(W2, limits.tiny)
        return x + b2 + y + W2 * (W1 * x + b1) < limits.max / 2 and lowest > 0 and lost <= accuracy * lowest

    def rounding(self) -> Tensor:
        """Bound the rounding of f(x) − y (batch,), by the number of terms in each sum times their largest size."""
        terms = self.map.W1.terms + self.map.W2.terms + 4
        return ROUNDING * terms * torch.finfo(self.x.dtype).eps * self.size() + self.lost_to_range()

    def size(self) -> Tensor:
        """Bound all that is added up in f(x) − y (batch,), and so every partial sum."""
        W1, W2, b1, b2 = self.map.W1, self.map.W2, self.map.b1, self.map.b2
        size1 = W1.absolute_bound() * self.x + size_of(b1, W1.codomain)
        return self.x + size_of(b2, W2.codomain) + self.y + W2.absolute_bound() * size1

    def lost_to_range(self) -> Tensor:
        """Bound what underflow takes from f(x) − y (batch,); infinite where a sum in it may overflow."""
        lost = self.share_lost(self.map.W2.absolute_bound(), smallest_number(self.x))
        return torch.where(torch.isfinite(self.size()), lost, torch.inf)

    def share_lost(self, W2: T, smallest: T) -> T:
        """Bound what underflow of products to less than the smallest number takes, for W₂ of this size."""
        W1, terms2 = self.unit.W1, self.unit.W2.terms
        products = W2 * (math.sqrt(math.prod(W1.codomain)) * W1.terms) + math.sqrt(math.prod(W1.domain)) * (terms2 + 4)
        return ROUNDING * smallest * products


def size_of(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ‖bias‖ once it is broadcast to `shape`: (1,), or (batch,) for a bias a row."""
    return row_norm(bias if bias.ndim > len(shape) else bias.expand(shape).unsqueeze(0))
