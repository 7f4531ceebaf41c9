"""Two inputs of a unit with the same output, which prove that it is not invertible."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from replication.certificate import Certificate, Verdict, coincide
from replication.certification.decisions import Decision
from replication.compiled import EPSILON
from replication.conditions import TINY, certain_signs
from replication.exact_arithmetic import unit_ratio
from replication.folds import find_fold
from replication.maps import ConvolutionalMap, DenseMap, RectifierEquation
from replication.operators import Dense, frobenius_norm, rounding_margin
from replication.rows import row_norm
from replication.solvers import Exact

FOLD_LIMIT = 4096  # inputs up to which a fold is looked for: each Jacobian is factorized
SMALL, SEARCHES = 256, 8  # hidden numbers of a convolution up to which several searches are made, and how many
SAMPLES = 512  # inputs tried in the search for a collision
PIECES = 2**23  # numbers of their Jacobians that are held at once, 64 MiB


def collision(rectifier_map: DenseMap, decision: Decision) -> Certificate:
    """Certify that the unit is not invertible by two inputs with the same output, or say why nothing is known."""
    if decides(rectifier_map, decision):
        found = by_minor(rectifier_map, decision)
    else:
        found = proved(rectifier_map, sampled_pair(rectifier_map), "Pieces with determinants of both signs were met")
    if found is not None:
        return found
    return Certificate(Verdict.UNKNOWN, None, f"{why_open(rectifier_map, decision)}; no collision was found.")


def decides(rectifier_map: DenseMap, decision: Decision) -> bool:
    """Return whether a negative minor was found, and W₁ has full row rank, so that it proves that inputs collide."""
    return decision.subset is not None and full_row_rank(rectifier_map.W1)


def full_row_rank(W1: Dense) -> bool:
    """Return whether a matrix (h, d) has rank h for certain."""
    h, d = W1.weight.shape
    rows = W1.weight.double() / W1.weight.double().abs().amax(1, keepdim=True).clamp_min(TINY)  # the rank is the same
    return bool(h <= d and torch.linalg.svdvals(rows)[-1] > rounding_margin(rows))


def by_minor(rectifier_map: DenseMap, decision: Decision) -> Certificate | None:
    """Certify that the unit is not invertible by a negative minor that decides; None if its inputs do not collide."""
    assert decision.subset is not None
    pair = colliding_pair(rectifier_map, decision.subset)
    return proved(rectifier_map, pair, f"{decision.reason} and W₁ has full row rank")


def proved(rectifier_map: DenseMap, pair: tuple[Tensor, Tensor] | None, reason: str) -> Certificate | None:
    """Certify that the unit is not invertible by two inputs, None if they do not collide in exact arithmetic."""
    ratio = None if pair is None else collision_ratio(rectifier_map, *pair)
    if ratio is None:
        return None
    evidence = f"the witness has ‖f(x₁) − f(x₂)‖ = {ratio:.2g}·‖x₁ − x₂‖"
    return Certificate(Verdict.NOT_INVERTIBLE, "collision", f"{reason}; {evidence}.", pair)


def why_open(rectifier_map: DenseMap, decision: Decision) -> str:
    """Say why a decision leaves it open, without a full stop."""
    if decision.subset is None:
        return decision.reason.removesuffix(".")
    W1 = rectifier_map.W1
    h, d = W1.weight.shape
    rank = f"h = {h} > d = {d}" if h > d else "W₁ is not certain to have full row rank"
    why = f"{rank}, so this decides nothing"
    if full_row_rank(W1):
        why = f"its two inputs do not collide in {W1.weight.dtype}"
    return f"{decision.reason}, but {why}"


def fold(rectifier_map: ConvolutionalMap, reason: str) -> Certificate:
    """Certify that a convolutional unit is not invertible by two images that collide, or say that none were found.

    Args:
        rectifier_map: the unit.
        reason: why no condition holds, without a full stop.
    """
    domain, like = rectifier_map.W1.domain, rectifier_map.W1.weight
    if math.prod(domain) > FOLD_LIMIT:
        return Certificate(Verdict.UNKNOWN, None, f"{reason}; folds are looked for up to {FOLD_LIMIT} inputs.")
    exact, said = rectifier_map.double(), ""
    for seed in range(SEARCHES if rectifier_map.order <= SMALL else 1):
        search = find_fold(exact, random_images(exact, seed), seed=seed)
        said = f"{search.reason[0].upper()}{search.reason[1:]}"
        if search.pair is not None:
            x1, x2 = (x[0].to(like) for x in (search.pair.x1, search.pair.x2))
            if coincide(rectifier_map(x1[None]), rectifier_map(x2[None]), x1, x2):
                return Certificate(Verdict.NOT_INVERTIBLE, "collision", f"{said}.", (x1, x2))
            said = f"Two images collide in float64, but not as evaluated in {like.dtype}"
    return Certificate(Verdict.UNKNOWN, None, f"{reason}. {said}.")


def random_images(rectifier_map: ConvolutionalMap, seed: int) -> Tensor:
    """Return noise, and images that are nearly the same everywhere (4, *domain), of a size that biases do not drown."""
    domain = rectifier_map.W1.domain
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, *domain, dtype=torch.float64, generator=generator)
    level = torch.randn(2, domain[0], 1, 1, dtype=torch.float64, generator=generator)
    x = torch.cat([noise[:2], level + noise[2:] / 4])
    images: Tensor = x * (1 + rectifier_map.b1.abs().max() / rectifier_map.W1.weight.norm().clamp_min(TINY))
    return images


def collision_ratio(rectifier_map: DenseMap, x1: Tensor, x2: Tensor) -> float | None:
    """Return ‖f(x₁) − f(x₂)‖/‖x₁ − x₂‖ in exact arithmetic, or None if it is above √ε there or as evaluated."""
    if not coincide(rectifier_map(x1[None]), rectifier_map(x2[None]), x1, x2):
        return None
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    squared = unit_ratio(W1.weight, rectifier_map.b1, W2.weight, x1, x2)
    return float(squared) ** 0.5 if squared <= torch.finfo(x1.dtype).eps else None


def colliding_pair(rectifier_map: DenseMap, subset: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return two inputs with the same output, from a negative principal minor of M and W₁ of full row rank.

    M[S,S] has a real eigenvalue λ < 0; its eigenvector, padded with zeros, is v with vᵢ(Mv)ᵢ ≤ 0. With u = Mv, s₁ and
    s₂ chosen by the sign of v have relu(s₁) − relu(s₂) = v and s₁ + A·relu(s₁) = s₂ + A·relu(s₂).
    """
    W1, W2 = rectifier_map.W1, rectifier_map.W2
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


def sampled_pair(rectifier_map: DenseMap) -> tuple[Tensor, Tensor] | None:
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


def piece_signs(rectifier_map: DenseMap, x: Tensor) -> Tensor:
    """Return the signs of det ∂f/∂x (batch,) at x (batch, d), 0 where the piece or the sign is not certain."""
    W1, W2, b1, x = (v.double() for v in (rectifier_map.W1.weight, rectifier_map.W2.weight, rectifier_map.b1, x))
    h, d = W1.shape
    s = x @ W1.mT + b1
    doubt = (d + 2) * (EPSILON * (x.abs() @ W1.abs().mT + b1.abs()) + TINY)
    active = W2 * (s > 0)[:, None, :]
    identity = torch.eye(d, dtype=x.dtype, device=x.device)
    error = (h + 2) * (EPSILON * (identity + active.abs() @ W1.abs()) + TINY)
    signs = certain_signs(identity + active @ W1, frobenius_norm(error))
    return torch.where((s.abs() > doubt).all(1), signs, 0)
