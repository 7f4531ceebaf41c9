"""Diagonal stability: whether some diagonal Λ > 0 makes ΛM + MᵀΛ positive definite, proved either way.

If it does, M is a P-matrix, so that w + Mz = q has one complementary solution for every q; and s + Aφ(s) = c, with the
matrix M of φ's slopes, has one solution for every c. Orders in the hundreds take a second, where minors cannot be
counted. What proves an answer is checked with all rounding errors, whatever search it came from:

- a scaling Λ, by a Cholesky factorization of ΛM + MᵀΛ less a multiple of the identity that covers the errors;
- that there is none, by a factor L ≠ 0 with (MLLᵀ)ᵢᵢ ≤ 0 for all i: for any Λ > 0 the inner product of ΛM + MᵀΛ with
  the positive semi-definite LLᵀ ≠ 0 is 2Σλᵢ(MLLᵀ)ᵢᵢ ≤ 0, which no positive definite matrix allows.

Sources: Barker, Berman and Plemmons, Linear and Multilinear Algebra 5 (1978) 249–256 (the two alternatives); Osborne,
Journal of the ACM 7 (1960) 338–345 (balancing); Boyd and El Ghaoui, Linear Algebra and its Applications 188 (1993)
63–111 (method of centres); Rump, BIT 46 (2006) 433–452 (definiteness by Cholesky); Berman and Plemmons, Nonnegative
Matrices in the Mathematical Sciences (1994), chapter 6 (diagonally stable matrices are P-matrices).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replication.certification.factorizations import is_positive_definite
from replication.compiled import EPSILON
from replication.conditions import NEGATIVE, POSITIVE, TINY, UNDECIDED, all_finite

SWEEPS = 200  # of balancing
BALANCED = 5e-3  # change of the logarithms of a scaling
NEGLIGIBLE = 0.1  # sum of squares off a diagonal of ones
CENTRES = 60  # levels that the method of centres goes through
CENTRED_ORDER = 512  # up to which it is tried where it is not asked for: seconds; past it balancing alone
NEWTON_STEPS = 20  # to one centre
CENTRED = 0.3  # Newton decrement at which a centre is reached
CLOSENESS = 0.15  # of the next level to the last one: the nearer to 0, the bolder
CLOSEST = 1e-9  # of a level to the largest t, where rounding takes over
STEP_SIZES = tuple(0.5**k for k in range(12))  # of Newton's method, until one goes down
TRIMS = 6  # of the rows of a factor
STRENGTHS = (0.999, 0.9, 0.5)  # parts of the computed t that are tried until one is proved


@dataclass(frozen=True)
class DiagonalStability:
    """What is proved of a matrix M (n, n).

    Attributes:
        sign: POSITIVE where a scaling makes ΛM + MᵀΛ positive definite, NEGATIVE where none does, UNDECIDED else.
        scaling: the diagonal of Λ (n,), powers of two unless only others do; where the sign is not POSITIVE the one
            that came nearest, if any was tried.
        strength: t > 0 with ΛM + MᵀΛ ⪰ 2tΛ; 0 unless the sign is POSITIVE.
        factor: L ≠ 0 (n, k) with (MLLᵀ)ᵢᵢ ≤ 0 for all i; where the sign is not NEGATIVE the last one tried, if any.
    """

    sign: int
    scaling: Tensor | None = None
    strength: float = 0.0
    factor: Tensor | None = None


@torch.no_grad()
def diagonally_stable(
    M: Tensor, error: Tensor | None = None, centres: int | None = None, start: Tensor | None = None
) -> DiagonalStability:
    """Decide whether M is diagonally stable: by balancing, and then by the method of centres for what is left.

    Both proofs hold for every matrix within `error` of M.

    Args:
        M: (n, n), n ≥ 1.
        error: entrywise bound of its error (n, n), or None where it is exact.
        centres: bound of the levels that are gone through, by default CENTRES up to order CENTRED_ORDER and 0 past it;
            0 leaves it at balancing.
        start: a scaling Λ (n,) to begin with if it is better than that of balancing.

    >>> diagonally_stable(torch.tensor([[1.0, 8.0], [-0.5, 1.0]])).scaling
    tensor([0.2500, 4.0000], dtype=torch.float64)
    >>> diagonally_stable(torch.tensor([[1.0, 2.0], [2.0, 1.0]])).sign
    -1
    """
    centres = (CENTRES if len(M) <= CENTRED_ORDER else 0) if centres is None else centres
    M = M.detach().cpu().double()
    error = torch.zeros_like(M) if error is None else error.detach().cpu().double()
    if not (all_finite(M) and all_finite(error)):
        return DiagonalStability(UNDECIDED)
    diagonal = M.diagonal()
    if (diagonal <= 0).any():
        lowest = (diagonal + error.diagonal()).argmin()
        certain = bool(diagonal[lowest] <= -error[lowest, lowest])  # then L = eᵢ will do, without any rounding
        factor = torch.eye(len(M), dtype=M.dtype)[:, lowest, None]
        return DiagonalStability(NEGATIVE, factor=factor) if certain else DiagonalStability(UNDECIDED)
    unit = diagonal.rsqrt()
    S = unit[:, None] * M * unit  # has the scalings of M, and a diagonal of ones
    roots = [balancing(S)] if start is None else [balancing(S), start.sqrt()]
    root = max(roots, key=lambda root: height(S, root))
    found = with_scaling(M, error, root)
    if found.sign == POSITIVE or not centres:
        return found
    return by_centres(M, error, S, root, unit, centres)


def with_scaling(M: Tensor, error: Tensor, root: Tensor) -> DiagonalStability:
    """Prove M stable with Λ = root², rounded to powers of two if possible; undecided if neither is proved."""
    for exact in (2 ** (2 * root.log2()).round(), root**2):
        scaled = exact.sqrt()[:, None] * M / exact.sqrt()
        t = float(torch.linalg.eigvalsh((scaled + scaled.mT) / 2)[0]) if all_finite(scaled) else 0.0
        for part in STRENGTHS if t > 0 else ():
            if is_definite(M, error, exact, part * t):
                return DiagonalStability(POSITIVE, scaling=exact, strength=part * t)
    return DiagonalStability(UNDECIDED, scaling=root**2)


def is_definite(M: Tensor, error: Tensor, scaling: Tensor, t: float) -> bool:
    """Prove ΛM + MᵀΛ ≻ 2tΛ, for every matrix within `error` of M (n, n).

    Scaled by powers of two to a diagonal H of about ones, whose error's norm is at most the largest sum of a row of the
    bounds of its entries' errors.
    """
    part = scaling[:, None] * M
    size = part.abs() + part.abs().mT + (2 * abs(t) * scaling).diag()
    doubt = scaling[:, None] * error
    doubt = (doubt + doubt.mT) * (1 + 4 * EPSILON) + 4 * EPSILON * size + TINY
    H = part + part.mT - (2 * t * scaling).diag()
    if not ((H.diagonal() > 0).all() and all_finite(H) and all_finite(doubt)):
        return False
    unit = 2.0 ** (-H.diagonal().log2() / 2).round()
    H, doubt = unit[:, None] * H * unit, unit[:, None] * doubt * unit
    return is_positive_definite(H, float(doubt.sum(1).max()))


def excluded(M: Tensor, error: Tensor, factor: Tensor) -> DiagonalStability:
    """Prove that M has no scaling, by (MLLᵀ)ᵢᵢ ≤ 0 for all i and a factor L (n, k); undecided if it is not certain."""
    size = (2 * len(M) + 8) * EPSILON * M.abs() + error
    products = ((M @ factor) * factor).sum(1)
    doubt = ((size @ factor.abs() + len(M) * TINY) * factor.abs()).sum(1) * (1 + 4 * len(M) * EPSILON)
    occurs = (factor != 0).any(1)
    certain = bool((products + doubt + TINY <= 0)[occurs].all()) and bool(occurs.any()) and all_finite(factor)
    return DiagonalStability(NEGATIVE, factor=factor) if certain else DiagonalStability(UNDECIDED)


def balancing(M: Tensor, sweeps: int = SWEEPS) -> Tensor:
    """Return d (n,) such that row and column i of diag(d)·M·diag(d)⁻¹ have about one length, off the diagonal.

    All rows at once, by half of what each would take if the others stayed. Lengths far below 1, what the diagonal is
    taken to be, count as equal, so that there is an end for reducible matrices too.

    Source: Osborne 1960.
    """
    squares = M**2
    squares.fill_diagonal_(0)
    exponent, negligible = torch.zeros_like(M[0]), NEGLIGIBLE / len(M)
    for _ in range(sweeps):
        scale = (2 * exponent).exp()
        rows, columns = scale * (squares @ (1 / scale)), (scale @ squares) / scale
        change = ((columns + negligible) / (rows + negligible)).log() / 8
        exponent = (exponent + change).clamp(-100, 100)
        if change.abs().max() < BALANCED:
            break
    return (exponent - exponent.mean()).exp()


def by_centres(M: Tensor, error: Tensor, S: Tensor, root: Tensor, unit: Tensor, centres: int) -> DiagonalStability:
    """Raise the largest t with ΛS + SᵀΛ ⪰ 2tΛ by moving Λ to the centre of those with a lower t, until it decides.

    Args:
        M: (n, n).
        error: of it.
        S: M scaled to a diagonal of ones.
        root: of the Λ to begin with (n,).
        unit: by which rows and columns of M were multiplied (n,).
        centres: how many levels.
    """
    identity = torch.eye(len(M), dtype=M.dtype)
    level, t, factor = -math.inf, height(S, root), None
    for _ in range(centres):
        level = max(t - (1 - t) / 2, t - CLOSENESS * (t - level))
        scaled = root[:, None] * S / root
        at_centre = centre(scaled - level * identity)
        if at_centre is None or t - level < CLOSEST:
            break
        move, dual = at_centre
        factor = dual * (unit / root)[:, None]
        if level < 0:
            found = excluding(M, error, scaled, dual, unit / root)
            if found.sign == NEGATIVE:
                return replace(found, scaling=root**2)
        root, t = farthest(S, root, move.sqrt())
        if t > 0:
            found = with_scaling(M, error, root)
            if found.sign == POSITIVE:
                return found
    return DiagonalStability(UNDECIDED, scaling=root**2, factor=factor)


def height(S: Tensor, root: Tensor) -> float:
    """Return the largest t with ΛS + SᵀΛ ⪰ 2tΛ for Λ = root², −∞ where the scaling overflows."""
    scaled = root[:, None] * S / root
    return float(torch.linalg.eigvalsh(scaled / 2 + scaled.mT / 2)[0]) if all_finite(scaled) else -math.inf


def farthest(S: Tensor, root: Tensor, move: Tensor) -> tuple[Tensor, float]:
    """Go from a root along a move, twice as far each time until that is lower; return the highest root and its t."""
    best, t = root * move, height(S, root * move)
    while True:
        move = move**2
        further = height(S, root * move)
        if not further > t:
            return best / best.log().mean().exp(), t
        best, t = root * move, further


def excluding(M: Tensor, error: Tensor, scaled: Tensor, factor: Tensor, back: Tensor) -> DiagonalStability:
    """Prove that M has no scaling by a factor of X = LLᵀ for its scaled form, less the rows that speak against it.

    Args:
        M: (n, n).
        error: of it.
        scaled: M as scaled in the search (n, n).
        factor: L (n, k).
        back: by which rows of a factor for the scaled form become rows of one for M (n,).
    """
    for _ in range(TRIMS):
        speaks = ((scaled @ factor) * factor).sum(1) < 0
        if not speaks.any():
            break
        if torch.equal(speaks, (factor != 0).any(1)):
            return excluded(M, error, factor * back[:, None])
        factor = factor * speaks[:, None]
    return DiagonalStability(UNDECIDED)


def centre(S: Tensor) -> tuple[Tensor, Tensor] | None:
    """Minimise −log det(ΛS + SᵀΛ) + Σλᵢ from Λ = I by Newton's method; return λ (n,) and a dual factor (n, n).

    With X = (ΛS + SᵀΛ)⁻¹ and Y = SX the gradient is 1 − 2yᵢᵢ and the Hessian 2(Y∘Yᵀ + X∘(YSᵀ)). The last step Δ has the
    dual X − X(ΔS + SᵀΔ)X, which satisfies (SX)ᵢᵢ = 1/2 exactly and is positive definite if the decrement is below 1.
    None where that is too near to the end of what is stable.

    Args:
        S: (n, n) with S + Sᵀ positive definite.
    """
    scaling = torch.ones_like(S[0])
    value, L = barrier(S, scaling)
    for _ in range(NEWTON_STEPS):
        if not math.isfinite(value):
            break
        X = torch.cholesky_inverse(L)
        Y = S @ X
        gradient = 1 - 2 * Y.diagonal()
        step = torch.linalg.solve_ex(2 * (Y * Y.mT + X * (Y @ S.mT)), -gradient)[0]
        decrement = max(0.0, -float(gradient @ step)) ** 0.5
        if decrement < CENTRED:
            factor = dual_factor(S, L, step)
            return None if factor is None else (scaling + step / (1 + decrement), factor)
        before = value
        for size in STEP_SIZES:
            value, L = barrier(S, scaling + size * step)
            if value < before - size * decrement**2 / 10:
                break
        scaling = scaling + size * step
    return None


def barrier(S: Tensor, scaling: Tensor) -> tuple[float, Tensor]:
    """Return −log det(ΛS + SᵀΛ) + Σλᵢ and Cholesky's factor; infinite where the matrix is not positive definite."""
    part = scaling[:, None] * S
    L, info = torch.linalg.cholesky_ex(part + part.mT)
    return math.inf if int(info) else float(scaling.sum() - 2 * L.diagonal().log().sum()), L


def dual_factor(S: Tensor, L: Tensor, step: Tensor) -> Tensor | None:
    """Return a factor of X − X(ΔS + SᵀΔ)X for X = (LLᵀ)⁻¹ and a step Δ, None where it is not positive definite."""
    identity = torch.eye(len(S), dtype=S.dtype)
    root = torch.linalg.solve_triangular(L, identity, upper=False).mT
    part = root.mT @ (step[:, None] * S) @ root
    inner, info = torch.linalg.cholesky_ex(identity - part - part.mT)
    return None if int(info) else root @ inner
