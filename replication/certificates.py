"""Whether a rectifier unit is invertible: a verdict, and the evidence for it, which anyone can check."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replication.certificate import Certificate, Verdict, coincide
from replication.conditions import (
    EPSILON,
    NEGATIVE,
    P_MATRIX_LIMIT,
    POSITIVE,
    TINY,
    UNDECIDED,
    all_finite,
    certain_signs,
    inverse_norm_bound,
    is_h_matrix,
    is_lipschitz,
    is_monotone,
    margin,
    p_matrix_test,
    spectral_norm,
    symmetric_minimum,
)
from replication.exact_arithmetic import unit_ratio
from replication.operators import Convolution, Dense, Product, frobenius_norm, rounding_margin
from replication.rectifier import RectifierEquation, RectifierMap
from replication.rows import row_norm
from replication.solvers import Exact
from replication.solvers.blocks import diagonal_blocks

EVERY_MINOR_LIMIT = 12  # order up to which all minors are computed one by one where the recursive test is undecided
SAMPLES = 512  # inputs tried in the search for a collision
PIECES = 2**23  # numbers of their Jacobians that are held at once, 64 MiB


def below_one(value: float) -> str:
    """Write a number below 1 so that it reads as one."""
    return f"{value:.6g} < 1" if value < 0.99999 else f"1 − {1 - value:.2g} < 1"


@dataclass(frozen=True)
class Decision:
    """What a matrix M = I + A says: the condition that makes it a P-matrix, or a subset whose minor is negative."""

    condition: str | None
    reason: str
    subset: Tensor | None = None


@torch.no_grad()
def certify(rectifier_map: RectifierMap) -> Certificate:
    """Certify one unit, by the cheapest condition that decides.

    A unit is invertible if M = I + W₁W₂ is a P-matrix; where W₁ has full row rank this is necessary too, and a negative
    principal minor gives two inputs with the same output. Other units are searched for such inputs. Norms are exact to
    rounding or upper bounds; a minor within its rounding error of zero decides nothing.

    Source: paper A, abstract (conditions for invertible hidden layers); paper B, abstract (necessary and sufficient
    condition); Samelson, Thrall and Wesler, Proc. AMS 9 (1958) 805–807.

    Raises:
        TypeError: if a weight is of another dtype than float32 or float64.
        ValueError: if a weight is not finite.
    """
    rectifier_map.check()
    if rectifier_map.gram:
        return Certificate(
            Verdict.INVERTIBLE,
            "monotone",
            "A = W₁W₁ᵀ is positive semi-definite by construction, so f is strongly monotone with constant 1.",
        )
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    bound = float(Product(W2, W1).norm_bound())
    if bound < 1:
        return Certificate(
            Verdict.INVERTIBLE, "lipschitz", f"‖W₁‖·‖W₂‖ ≤ {below_one(bound)}, so the residual branch is a contraction."
        )
    if rectifier_map.causal:
        return certify_pixel(rectifier_map)
    if not (isinstance(W1, Dense) and isinstance(W2, Dense)):
        return Certificate(
            Verdict.UNKNOWN, None, f"‖W₁‖·‖W₂‖ ≤ {bound:.6g} is not below 1, and no other condition was decided."
        )
    decision = decide(rectifier_map.matrix(), product_error(W1, W2))
    if decision.condition is not None:
        return Certificate(Verdict.INVERTIBLE, decision.condition, decision.reason)
    return collision(rectifier_map, decision)


def certify_pixel(rectifier_map: RectifierMap) -> Certificate:
    """Certify a causal unit, for images of every size, by what it does to one pixel.

    M = I + A is block lower triangular, and its diagonal blocks are all I + A₀, A₀ = W₁⁰W₂⁰; so it is a P-matrix iff
    they are. Two values of one pixel that collide, at the last pixel of an otherwise black image, which no other pixel
    sees, are two images that collide, in exact arithmetic.

    Source: paper B, abstract (blocks that are invertible under weak conditions; reconstructed, assumption A7).
    """
    pixel = certify(rectifier_map.pixel())
    order = math.prod(rectifier_map.pixel().W1.codomain)
    shape = f"M = I + A is block triangular, and its diagonal blocks are all the same I + A₀ of order {order}"
    if pixel.verdict is Verdict.INVERTIBLE:
        return Certificate(Verdict.INVERTIBLE, "triangular", f"{shape}: {pixel.reason.replace('A =', 'A₀ =', 1)}")
    reason = f"{shape}, which decide: {pixel.reason}"
    if pixel.witness is None:
        return replace(pixel, reason=reason)
    x1, x2 = (last_pixel(rectifier_map, value) for value in pixel.witness)
    if not coincide(rectifier_map(x1[None]), rectifier_map(x2[None]), x1, x2):
        return Certificate(Verdict.UNKNOWN, None, f"{reason} On whole images they do not collide in floating point.")
    return Certificate(Verdict.NOT_INVERTIBLE, "collision", reason, (x1, x2))


def last_pixel(rectifier_map: RectifierMap, value: Tensor) -> Tensor:
    """Return an image that is zero but for its last pixel, across from the corner where a causal map is padded."""
    W1 = rectifier_map.W1
    assert isinstance(W1, Convolution)
    image = value.new_zeros(W1.domain)
    image[:, -1 if "top" in W1.padding else 0, -1 if "left" in W1.padding else 0] = value
    return image


def product_error(W1: Dense, W2: Dense) -> Tensor:
    """Bound the rounding error of W₁W₂ in float64 entrywise, (h, h): zero exactly where every product is zero."""
    first, second = W1.weight.double(), W2.weight.double()
    possible = (first != 0).double() @ (second != 0).double() > 0
    underflow = possible.double() * (W1.domain[0] * TINY)
    return (W1.domain[0] + 1) * EPSILON * (first.abs() @ second.abs()) + underflow


def decide(A: Tensor, error: Tensor) -> Decision:
    """Decide whether M = I + A is a P-matrix.

    Args:
        A: (n, n) in float64.
        error: entrywise bound of its error, zero exactly where A is zero by structure.
    """
    if not all_finite(A):
        return Decision(None, "A = W₁W₂ overflows in float64, so that no condition on it can be decided.")
    norm, minimum = float(spectral_norm(A)), float(symmetric_minimum(A))
    if is_lipschitz(A, error):
        return Decision("lipschitz", f"‖A‖ = {below_one(norm)}.")
    if is_monotone(A, error):
        return Decision("monotone", f"λmin((A + Aᵀ)/2) = {minimum:.6g} > −1, while ‖A‖ = {norm:.6g}.")
    if is_h_matrix(A, error):
        return Decision(
            "h_matrix",
            f"M = I + A is an H-matrix with positive diagonal, while ‖A‖ = {norm:.6g} and λmin((A + Aᵀ)/2) = "
            f"{minimum:.6g}.",
        )
    blocks = diagonal_blocks((A != 0) | (error != 0))
    if len(blocks) > 1:
        return decide_blocks(A, error, blocks)
    return decide_minors(A, error)


def decide_blocks(A: Tensor, error: Tensor, blocks: list[Tensor]) -> Decision:
    """Decide a block triangular matrix by its diagonal blocks: it is P iff they all are."""
    unknown = None
    for block in blocks:
        rows, columns = block[:, None], block[None, :]
        part = decide(A[rows, columns], error[rows, columns])
        if part.subset is not None:
            subset = torch.zeros(len(A), dtype=torch.bool, device=A.device)
            subset[block] = part.subset
            return replace(part, subset=subset)
        if part.condition is None:
            unknown = part
    largest = max(map(len, blocks))
    shape = f"M = I + A is block triangular with {len(blocks)} diagonal blocks of order {largest} or less"
    if unknown is not None:
        return Decision(None, f"{shape}, of which one is not decided. {unknown.reason}")
    return Decision("triangular", f"{shape}, all of them P-matrices.")


def decide_minors(A: Tensor, error: Tensor) -> Decision:
    """Decide a matrix by its principal minors: all of them up to order P_MATRIX_LIMIT, few of them past it."""
    n = len(A)
    if n > P_MATRIX_LIMIT:
        subset = negative_minor(A, error)
        if subset is None:
            return Decision(None, f"Order {n} is past the limit {P_MATRIX_LIMIT} of the exact P-matrix test.")
        return Decision(None, negative_reason(subset), subset)
    test = p_matrix_test(A, error)
    if test.signs == UNDECIDED and n <= EVERY_MINOR_LIMIT:
        subset = any_negative_minor(A, error)
        if subset is not None:
            return Decision(None, negative_reason(subset), subset)
    if test.signs == POSITIVE:
        return Decision("p_matrix", f"All {2**n - 1} principal minors of M = I + A are positive.")
    if test.signs == NEGATIVE:
        return Decision(None, negative_reason(test.subset), test.subset)
    return Decision(
        None, "A principal minor of M = I + A is zero to within its rounding error, so its sign is not certain."
    )


def negative_reason(subset: Tensor) -> str:
    """Say which minor is negative."""
    rows = (subset.nonzero().squeeze(1) + 1).tolist()
    named = ", ".join(map(str, rows)) if len(rows) <= 8 else f"{', '.join(map(str, rows[:8]))}, …"
    return f"The principal minor of M = I + A in row{'s' if len(rows) > 1 else ''} {named} is negative"


def negative_minor(A: Tensor, error: Tensor) -> Tensor | None:
    """Look for a negative principal minor of orders 1, 2 and n of M = I + A; return its rows (n,), or None."""
    n = len(A)
    order_two = torch.combinations(torch.arange(n, device=A.device))
    small = p_matrix_test(
        A[order_two[:, :, None], order_two[:, None, :]], error[order_two[:, :, None], order_two[:, None]]
    )
    subset = torch.zeros(n, dtype=torch.bool, device=A.device)
    if (small.signs == NEGATIVE).any():
        first = int((small.signs == NEGATIVE).nonzero()[0])
        subset[order_two[first][small.subset[first]]] = True
        return subset
    return negative_among(A, error, ~subset[None])


def any_negative_minor(A: Tensor, error: Tensor) -> Tensor | None:
    """Return the rows (n,) of a negative principal minor of I + A, from all of them one by one, or None.

    For matrices with zero minors, through which the recursive test cannot look.
    """
    codes = torch.arange(1, 2 ** len(A), device=A.device)
    return negative_among(A, error, (codes[:, None] >> torch.arange(len(A), device=A.device)) % 2 == 1)


def negative_among(A: Tensor, error: Tensor, subsets: Tensor) -> Tensor | None:
    """Return the first of the subsets (k, n) whose principal minor of I + A is negative for certain, or None.

    det M[S,S] = det(I + AD), whose sign is certain if no error within the margin makes I + AD singular.
    """
    pieces = torch.eye(len(A), dtype=A.dtype, device=A.device) + A * subsets[:, None, :]
    negative = certain_signs(pieces, margin(A, error) + len(A) * EPSILON) < 0
    return subsets[negative][0] if negative.any() else None


def collision(rectifier_map: RectifierMap, decision: Decision) -> Certificate:
    """Certify that the unit is not invertible by two inputs with the same output, or say why nothing is known."""
    W1 = rectifier_map.W1
    assert isinstance(W1, Dense)
    h, d = W1.weight.shape
    rows = W1.weight.double() / W1.weight.double().abs().amax(1, keepdim=True).clamp_min(TINY)  # the rank is the same
    full_rank = bool(h <= d and torch.linalg.svdvals(rows)[-1] > rounding_margin(rows))
    if decision.subset is not None and full_rank:
        pair, reason = colliding_pair(rectifier_map, decision.subset), f"{decision.reason} and W₁ has full row rank"
    else:
        pair, reason = sampled_pair(rectifier_map), "Pieces with determinants of both signs were met"
    if pair is not None:
        x1, x2 = pair
        ratio = collision_ratio(rectifier_map, x1, x2)
        if ratio is not None:
            evidence = f"the witness has ‖f(x₁) − f(x₂)‖ = {ratio:.2g}·‖x₁ − x₂‖"
            return Certificate(Verdict.NOT_INVERTIBLE, "collision", f"{reason}; {evidence}.", (x1, x2))
    why = decision.reason.removesuffix(".")
    if decision.subset is not None:
        rank = f"h = {h} > d = {d}" if h > d else "W₁ is not certain to have full row rank"
        why = f"its two inputs do not collide in {W1.weight.dtype}" if full_rank else f"{rank}, so this decides nothing"
        why = f"{decision.reason}, but {why}"
    return Certificate(Verdict.UNKNOWN, None, f"{why}; no collision was found.")


def collision_ratio(rectifier_map: RectifierMap, x1: Tensor, x2: Tensor) -> float | None:
    """Return ‖f(x₁) − f(x₂)‖/‖x₁ − x₂‖ in exact arithmetic, or None if it is above √ε there or as evaluated."""
    if not coincide(rectifier_map(x1[None]), rectifier_map(x2[None]), x1, x2):
        return None
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    squared = unit_ratio(W1.weight, rectifier_map.b1, W2.weight, x1, x2)
    return float(squared) ** 0.5 if squared <= torch.finfo(x1.dtype).eps else None


def colliding_pair(rectifier_map: RectifierMap, subset: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return two inputs with the same output, from a negative principal minor of M and W₁ of full row rank.

    M[S,S] has a real eigenvalue λ < 0; its eigenvector, padded with zeros, is v with vᵢ(Mv)ᵢ ≤ 0. With u = Mv, s₁ and
    s₂ chosen by the sign of v have relu(s₁) − relu(s₂) = v and s₁ + A·relu(s₁) = s₂ + A·relu(s₂).
    """
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    assert isinstance(W1, Dense)
    A = rectifier_map.matrix()
    M = A + torch.eye(len(A), dtype=A.dtype, device=A.device)
    rows = subset.nonzero().squeeze(1)
    values, vectors = torch.linalg.eig(M[rows[:, None], rows[None, :]])
    real = (values.imag == 0) & (values.real < 0)
    if not real.any():
        return None
    lowest = torch.where(real, values.real, torch.inf).argmin()
    v = torch.zeros(len(A), dtype=A.dtype, device=A.device)
    v[rows] = (1 + rectifier_map.b1.abs().max()) * vectors[:, lowest].real  # any length will do; b₁ must not drown it
    u = M @ v
    s1 = torch.where(v > 0, v, torch.where(v < 0, -u, torch.minimum(torch.zeros_like(u), -u)))
    x1 = torch.linalg.pinv(W1.weight.double()) @ (s1 - rectifier_map.b1.double())
    dtype = W1.weight.dtype
    return x1.to(dtype), (x1 + W2(v.to(dtype)[None])[0].double()).to(dtype)


def sampled_pair(rectifier_map: RectifierMap) -> tuple[Tensor, Tensor] | None:
    """Return two inputs with the same output found by inverting the outputs of random inputs, or None.

    A continuous injection of ℝᵈ has determinants of one sign in all its pieces, so the pair counts only if both signs,
    certain beyond rounding, occur among the inputs tried; else f might merely be steep.
    """
    W1, b1 = rectifier_map.W1, rectifier_map.b1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, *W1.domain, generator=generator).to(W1.weight)
    size = 1 + row_norm(b1[None]) / frobenius_norm(W1.weight)
    x = x * size * torch.logspace(-1, 1, SAMPLES).to(x)[:, None]
    solution = Exact(max_iterations=1000).solve(RectifierEquation(rectifier_map, rectifier_map(x)), 1e-10)
    apart = row_norm(solution.value - x) / row_norm(x)
    apart = torch.where(solution.converged, apart, 0)
    if not apart.max() >= 1e-3:
        return None
    parts = x.split(max(1, PIECES // (W1.weight.numel() + x.shape[1] ** 2)))
    signs = torch.cat([piece_signs(rectifier_map, part) for part in parts])
    row = int(apart.argmax())
    return (x[row], solution.value[row]) if (signs > 0).any() and (signs < 0).any() else None


def piece_signs(rectifier_map: RectifierMap, x: Tensor) -> Tensor:
    """Return the signs of det ∂f/∂x (rows,) at x (rows, d), 0 where the piece or the sign is not certain."""
    W1, W2, b1, x = (v.double() for v in (rectifier_map.W1.weight, rectifier_map.W2.weight, rectifier_map.b1, x))
    h, d = W1.shape
    s = x @ W1.mT + b1
    doubt = (d + 2) * (EPSILON * (x.abs() @ W1.abs().mT + b1.abs()) + TINY)
    active = W2 * (s > 0)[:, None, :]
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    error = (h + 2) * (EPSILON * (identity + active.abs() @ W1.abs()) + TINY)
    signs = certain_signs(identity + active @ W1, frobenius_norm(error))
    return torch.where((s.abs() > doubt).all(1), signs, 0)


def inverse_lipschitz(rectifier_map: RectifierMap) -> Tensor:
    """Bound K from above in ‖x − x′‖ ≤ K·‖f(x) − f(x′)‖; infinite where nothing is known.

    1 for Gram units, whose inverse is a proximal map. For others the least of what is known, with L = ‖W₁‖·‖W₂‖:

    - 1/(1 − L) if L < 1;
    - 1 + L/(1 + λ) if λ = λmin((A + Aᵀ)/2) > −1. With s + A·relu(s) = c, z = relu(s), and Δ for differences of two
      solutions, Δzᵢ = θᵢΔsᵢ with 0 ≤ θᵢ ≤ 1 gives (1 + λ)‖Δz‖² ≤ ΔzᵀΔc, while Δx = Δy − W₂Δz and Δc = W₁Δy;
    - 1 + L·‖⟨M⟩⁻¹‖ if M is an H-matrix with positive diagonal, since then ⟨M⟩|Δz| ≤ |Δc| in the same way.

    Returns:
        A scalar, or one constant a row (rows,) for a batch of units.
    """
    if rectifier_map.gram:
        return rectifier_map.b1.new_ones(())
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    norms = Product(W2, W1).norm_bound()
    constant = torch.where(norms < 1, 1 / (1 - norms), torch.inf)
    if isinstance(W1, Dense) and isinstance(W2, Dense):
        A, error = rectifier_map.matrix(), product_error(W1, W2)
        gap = 1 + symmetric_minimum(A) - margin(A, error)
        monotone = torch.where(gap > 0, 1 + norms / gap, torch.inf)
        h_matrix = 1 + norms * inverse_norm_bound(A, error)
        constant = torch.minimum(constant, torch.minimum(monotone, h_matrix).to(constant))
    return constant.nan_to_num(nan=torch.inf, posinf=torch.inf)
