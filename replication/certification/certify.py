"""Whether a rectifier unit is invertible, by the kind of its map: the cheapest condition that decides."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from replication.certificate import Certificate, Verdict, coincide
from replication.certification.collisions import by_minor, collision, decides, fold, why_open
from replication.certification.convolutions import ConvolutionProduct
from replication.certification.decisions import (
    STABLE,
    Decision,
    below_one,
    by_factorizations,
    decide,
    product_error,
)
from replication.certification.factorizations import SPECTRA, sums_of_errors
from replication.certification.sparse import Stability
from replication.conditions import NEGATIVE, POSITIVE, all_finite
from replication.maps import CausalMap, ConvolutionalMap, DenseMap, RectifierMap
from replication.operators import Product

DENSE_ORDER = 200  # hidden numbers up to which a convolution is certified as a dense map, by its minors too


@torch.no_grad()
def certify(rectifier_map: RectifierMap, folds: bool = True) -> Certificate:
    """Certify one unit, by the cheapest condition that decides.

    A unit is invertible if M = I + W₁W₂ is a P-matrix; where W₁ has full row rank this is necessary too, and a negative
    principal minor gives two inputs with the same output. Other units are searched for such inputs. Norms are exact to
    rounding or upper bounds; a minor within its rounding error of zero decides nothing.

    Source: paper A, abstract (conditions for invertible hidden layers); paper B, abstract (necessary and sufficient
    condition); Samelson, Thrall and Wesler, Proc. AMS 9 (1958) 805–807.

    Args:
        rectifier_map: the unit.
        folds: whether two inputs with the same output are looked for where no condition holds: seconds for large
            convolutions.

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
    decision = decide_at_once(rectifier_map)
    if decision is not None:
        return Certificate(Verdict.INVERTIBLE, decision.condition, decision.reason)
    bound = float(Product(rectifier_map.W2, rectifier_map.W1).norm_bound())
    if bound < 1:
        return Certificate(
            Verdict.INVERTIBLE, "lipschitz", f"‖W₁‖·‖W₂‖ ≤ {below_one(bound)}, so the residual branch is a contraction."
        )
    return certify_kind(rectifier_map, bound, folds)


@singledispatch
def decide_at_once(rectifier_map: RectifierMap) -> Decision | None:
    """Return a condition that takes less time to prove than norms, or None; for most kinds of maps there is none."""
    return None


@decide_at_once.register
def _(rectifier_map: DenseMap) -> Decision | None:
    """Prove a condition of a large matrix by Cholesky factorizations, if they show one."""
    if rectifier_map.order <= SPECTRA:
        return None
    A = rectifier_map.matrix()
    return by_factorizations(A, *sums_of_errors(rectifier_map.W1, rectifier_map.W2)) if all_finite(A) else None


@singledispatch
def certify_kind(rectifier_map: RectifierMap, bound: float, folds: bool) -> Certificate:
    """Certify a map by what its kind allows, beyond ‖W₁‖·‖W₂‖ ≤ bound."""
    raise TypeError(f"no condition is known for {type(rectifier_map).__name__}; register one with certify_kind")


@certify_kind.register
def _(rectifier_map: DenseMap, bound: float, folds: bool) -> Certificate:
    """Certify a dense map by its matrix, or by two inputs that collide."""
    decision = decide(rectifier_map.matrix(), product_error(rectifier_map.W1, rectifier_map.W2))
    if decision.condition is not None:
        return Certificate(Verdict.INVERTIBLE, decision.condition, decision.reason)
    if not folds:
        return Certificate(Verdict.UNKNOWN, None, f"{decision.reason.removesuffix('.')}; no collision was looked for.")
    return collision(rectifier_map, decision)


@certify_kind.register
def _(rectifier_map: ConvolutionalMap, bound: float, folds: bool) -> Certificate:
    """Certify a small convolution as the dense map that it is, and a large one by a scaling, or by a fold.

    The scaling of M = I + A is the same for all pixels, and proved for images of the map's size.

    Source: design of the package.
    """
    if rectifier_map.order <= DENSE_ORDER:
        return certify_small(rectifier_map, folds)
    product = ConvolutionProduct(rectifier_map.W1, rectifier_map.W2)
    found = product.stability()
    if found.sign == POSITIVE:
        of_norms = f"while ‖W₁‖·‖W₂‖ ≤ {bound:.6g}"
        if found.monotone:
            return Certificate(Verdict.INVERTIBLE, "monotone", f"λmin((A + Aᵀ)/2) > −1, {of_norms}.")
        return Certificate(Verdict.INVERTIBLE, "diagonal_stability", f"{STABLE}, one for every pixel, {of_norms}.")
    return folding(rectifier_map, why_not_scaled(product, found, bound), folds)


def certify_small(rectifier_map: ConvolutionalMap, folds: bool) -> Certificate:
    """Certify a convolution by its matrix, by two images of a negative minor, or by a fold."""
    dense = rectifier_map.dense()
    decision = decide(dense.matrix(), product_error(dense.W1, dense.W2))
    if decision.condition is not None:
        return Certificate(Verdict.INVERTIBLE, decision.condition, decision.reason)
    found = by_minor(dense, decision) if folds and decides(dense, decision) else None
    if found is not None and found.witness is not None:
        x1, x2 = (x.unflatten(0, rectifier_map.W1.domain) for x in found.witness)
        if coincide(rectifier_map(x1[None]), rectifier_map(x2[None]), x1, x2):
            return replace(found, witness=(x1, x2))
    return folding(rectifier_map, why_open(dense, decision), folds)


def folding(rectifier_map: ConvolutionalMap, reason: str, folds: bool) -> Certificate:
    """Look for a fold where it is asked for, no condition having been found for this reason."""
    if not folds:
        return Certificate(Verdict.UNKNOWN, None, f"{reason}; no fold was looked for.")
    return fold(rectifier_map, reason)


def why_not_scaled(product: ConvolutionProduct, found: Stability, bound: float) -> str:
    """Say why no condition holds, without a full stop."""
    norms = f"‖W₁‖·‖W₂‖ ≤ {bound:.6g} is not below 1"
    if found.sign == NEGATIVE:
        return f"{norms}, and no diagonal Λ makes ΛM + MᵀΛ positive definite, even for a few pixels"
    if not (product.circular or product.matrix.fits):
        return f"{norms}, and M has too many numbers ({product.matrix.order}) to be factorized"
    return f"{norms}, and no Λ was found that makes ΛM + MᵀΛ positive definite"


@certify_kind.register
def _(rectifier_map: CausalMap, bound: float, folds: bool) -> Certificate:
    """Certify a causal unit, for images of every size, by what it does to one pixel.

    M = I + A is block lower triangular, and its diagonal blocks are all I + A₀, A₀ = W₁⁰W₂⁰; so it is a P-matrix iff
    they are. Two values of one pixel that collide, at the last pixel of an otherwise black image, which no other pixel
    sees, are two images that collide, in exact arithmetic.

    Source: paper B, abstract (blocks that are invertible under weak conditions; reconstructed, assumption A7).
    """
    pixel = certify(rectifier_map.pixel(), folds)
    order = rectifier_map.pixel().order
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


def last_pixel(rectifier_map: CausalMap, value: Tensor) -> Tensor:
    """Return an image that is zero but for its last pixel, across from the corner where a causal map is padded."""
    image = value.new_zeros(rectifier_map.W1.domain)
    corner = rectifier_map.corner
    image[:, -1 if "top" in corner else 0, -1 if "left" in corner else 0] = value
    return image
