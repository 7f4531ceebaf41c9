"""Activations with slopes in [α, β] as ones with slopes in [0, 1]: the matrix M, and bounds of an inverse's error.

A feed-forward map with preactivations s is

    s = Cx + Bφ(s) + b,    f(x) = Px + Eφ(s) + e,

with φ element by element and B strictly block lower triangular; f(x) = y becomes s + Aφ(s) = c with A = CP⁻¹E − B.
With the diagonal matrices of α and δ = β − α put φ(s) = αs + δψ(s), so that ψ has slopes in [0, 1]. Then

    C′ = (I − Bα)⁻¹C,  B′ = (I − Bα)⁻¹Bδ,  P′ = P + EαC′,  E′ = Eδ + EαB′

make the same map of ψ, and if P has an inverse, M = I + C′P′⁻¹E′ − B′ is (I + Aα)⁻¹(I + Aβ). If M is a P-matrix (and
P′ has an inverse), then the map is a bijection: det Df = det P′·det(I + (M − I)τ) has one sign for all τ in [0, 1]ⁿ.

Source: design of the package, after Samelson, Thrall and Wesler, Proc. AMS 9 (1958) 805–807.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replication.certification.diagonal_stability import DiagonalStability
from replication.certification.enclosures import Enclosure
from replication.compiled import EPSILON
from replication.conditions import POSITIVE, certain_signs
from replication.operators import frobenius_norm


@dataclass(frozen=True, eq=False)
class LiftedMap:
    """The matrices of a feed-forward map with n activations.

    Attributes:
        B: (n, n), of the activations in the preactivations.
        C: (n, d), of the input in them.
        E: (d, n), of the activations in the output.
        P: (d, d), of the input in it.
    """

    B: Enclosure
    C: Enclosure
    E: Enclosure
    P: Enclosure

    @classmethod
    def of(cls, B: Tensor, C: Tensor, E: Tensor, P: Tensor | None = None) -> LiftedMap:
        """Return the map of exact matrices, with P = I where none is given."""
        P = torch.eye(len(E)) if P is None else P
        return cls(*map(Enclosure.of, (B, C, E, P)))

    def with_unit_slopes(self, lower: Tensor, upper: Tensor) -> LiftedMap | None:
        """Return the same map of activations with slopes in [0, 1] in place of [α, β], both (n,).

        None where I − Bα is not proved to have an inverse.
        """
        lower, upper = (end.detach().cpu().double().expand(len(self.B.value)) for end in (lower, upper))
        width, doubt = upper - lower, EPSILON * (upper - lower).abs()
        if not lower.any():
            return LiftedMap(self.B.columns(width, doubt), self.C, self.E.columns(width, doubt), self.P)
        K = Enclosure.identity(len(lower)) - self.B.columns(lower)
        C, B = K.inverse_times(self.C), K.inverse_times(self.B.columns(width, doubt))
        if C is None or B is None:
            return None
        low = self.E.columns(lower)
        return LiftedMap(B, C, self.E.columns(width, doubt) + low @ B, self.P + low @ C)

    def matrix(self) -> Enclosure | None:
        """Return M = I + CP⁻¹E − B (n, n) of slopes in [0, 1], None where P is not proved to have an inverse."""
        solved = self.P.inverse_times(self.E)
        return None if solved is None else Enclosure.identity(len(self.B.value)) + (self.C @ solved - self.B)


@dataclass(frozen=True)
class SlopeMatrix:
    """M = (I + Aα)⁻¹(I + Aβ).

    Attributes:
        M: (n, n).
        error: entrywise bound of its error (n, n).
        sign: of det(I + Aα): 1, −1, or 0 where it is not certain; then M is of no use.
    """

    M: Tensor
    error: Tensor
    sign: int


@torch.no_grad()
def slope_matrix(A: Tensor, lower: Tensor, upper: Tensor, error: Tensor | None = None) -> SlopeMatrix:
    """Return M = (I + Aα)⁻¹(I + Aβ), whose principal minors decide the signs of det(I + AD) for D in [α, β].

    Where A is block triangular so is M, with the blocks of A's blocks: take them one by one.

    Args:
        A: (n, n).
        lower, upper: α and β (n,).
        error: entrywise bound of the error of A (n, n), or None where it is exact.
    """
    K, M = slope_enclosures(A, lower, upper, error)
    if M is None:
        return SlopeMatrix(torch.full_like(K.value, torch.nan), torch.full_like(K.value, torch.inf), 0)
    return SlopeMatrix(M.value, M.error, int(certain_signs(K.value, frobenius_norm(K.error))) if lower.any() else 1)


@torch.no_grad()
def slope_enclosures(
    A: Tensor, lower: Tensor, upper: Tensor, error: Tensor | None = None
) -> tuple[Enclosure, Enclosure | None]:
    """Return K = I + Aα and M = K⁻¹(I + Aβ), the latter None where K, or one of a batch, may have no inverse.

    Args:
        A: (..., n, n).
        lower, upper, error: as for `slope_matrix`.
    """
    given, n = Enclosure.of(A, error), A.shape[-1]
    lower, upper = (end.detach().cpu().double().expand(n) for end in (lower, upper))
    width = upper - lower
    change = given.columns(width, EPSILON * width.abs())
    identity = Enclosure.identity(n)
    if not lower.any():
        return identity, identity + change
    K = identity + given.columns(lower)
    solved = K.inverse_times(change)
    return K, None if solved is None else identity + solved


@dataclass(frozen=True, eq=False)
class ErrorBound:
    """‖x − x*‖ ≤ ‖P⁻¹r‖ + gain·‖Λ^½CP⁻¹r‖ for r = f(x) − y, where f(x*) = y.

    Attributes:
        direct: P⁻¹ (d, d).
        lifted: Λ^½CP⁻¹ (n, d).
        gain: ‖P⁻¹EΛ^(−½)‖/t.
    """

    direct: Enclosure
    lifted: Enclosure
    gain: float

    @property
    def constant(self) -> float:
        """K with ‖x − x*‖ ≤ K‖r‖ for all r."""
        return (self.direct.norm() + self.gain * self.lifted.norm()) * (1 + 4 * EPSILON)

    def __call__(self, r: Tensor) -> Tensor:
        """Bound ‖x − x*‖ from residuals r (batch, d) that are exact, (batch,)."""
        rows = Enclosure.of(r.flatten(1)).transposed()
        direct, lifted = (part @ rows for part in (self.direct, self.lifted))
        first, second = (torch.linalg.vector_norm(part.value.abs() + part.error, dim=0) for part in (direct, lifted))
        bound: Tensor = (first + self.gain * second) * (1 + 4 * sum(self.lifted.value.shape) * EPSILON)
        return bound.to(r.device)


@torch.no_grad()
def error_bound(lifted: LiftedMap, stability: DiagonalStability) -> ErrorBound | None:
    """Bound the error of an approximate preimage by its residual, for slopes in [0, 1] and a diagonally stable M.

    Let s be the preactivations at x, s* those at x*, w + z = s − s* and z = φ(s) − φ(s*), so that zᵢwᵢ ≥ 0. The two
    equations of the map give P(x − x*) = r − Ez and s − s* = C(x − x*) + Bz, hence w + Mz = CP⁻¹r =: g. With
    ζ = Λ^½z, 0 ≤ zᵀΛw, and ΛM + MᵀΛ ⪰ 2tΛ,

        t‖ζ‖² ≤ zᵀΛMz ≤ zᵀΛg ≤ ‖ζ‖·‖Λ^½g‖,    x − x* = P⁻¹r − P⁻¹EΛ^(−½)ζ.

    Source: design of the package; for an LCP, Mathias and Pang, Linear Algebra and its Applications 132 (1990) 123–136.

    Args:
        lifted: the map, with slopes in [0, 1].
        stability: of its M.

    Returns:
        None where M is not proved stable, or P not to have an inverse.
    """
    d = len(lifted.P.value)
    inverse = lifted.P.inverse_times(Enclosure.identity(d))
    if stability.sign != POSITIVE or stability.scaling is None or inverse is None:
        return None
    even = 2.0 ** (stability.scaling.log2() / 2).round()  # so that dividing by it is exact; Λ^½ = even·rest
    rest = (stability.scaling / even**2).sqrt()
    outward = (inverse @ lifted.E).columns(1 / even).columns(1 / rest, 4 * EPSILON / rest)
    inward = (lifted.C @ inverse).rows(even).rows(rest, 2 * EPSILON * rest)
    return ErrorBound(inverse, inward, outward.norm() / stability.strength * (1 + 4 * EPSILON))
