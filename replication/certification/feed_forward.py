"""Whether a feed-forward map is invertible: by the matrix of its slopes, or by two inputs with the same output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from replication.certificate import Certificate, Verdict, coincide
from replication.certification.collisions import FOLD_LIMIT
from replication.certification.decisions import Decision, decide
from replication.certification.diagonal_stability import diagonally_stable
from replication.certification.enclosures import Enclosure
from replication.certification.images import decide_images
from replication.certification.slopes import ErrorBound, LiftedMap, error_bound
from replication.conditions import all_finite
from replication.folds import find_fold
from replication.maps.feed_forward import LARGEST_ORDER, FeedForwardMap

SPARSE_ORDER = 1024  # preactivations past which the entries of images are looked at first
ROUNDING = 2.0**-44  # of a matrix's entries, relative to its largest: what composing affine functions may have rounded


@dataclass(frozen=True)
class LiftedMatrices:
    """The matrices of a feed-forward map, with bounds of their errors.

    Attributes:
        map: the map, with at most LARGEST_ORDER inputs and preactivations.
    """

    map: FeedForwardMap

    @cached_property
    def lifted(self) -> LiftedMap | None:
        """The map with slopes in [0, 1]; None where that is not proved to be possible."""
        matrices = self.map.matrices()
        parts = (matrices.B, matrices.C, matrices.E, matrices.P)
        return LiftedMap(*map(enclosed, parts)).with_unit_slopes(self.map.alpha, self.map.beta)

    @cached_property
    def slope_matrix(self) -> Enclosure | None:
        """M, whose principal minors are the determinants of the map's pieces; None where it is not proved to exist."""
        return None if self.lifted is None else self.lifted.matrix()

    @property
    def small(self) -> bool:
        """Whether the matrices may be formed."""
        return max(self.map.n, self.map.d) <= LARGEST_ORDER

    def decision(self) -> Decision:
        """Decide whether M is a P-matrix, so that the map is a bijection."""
        if self.map.n > SPARSE_ORDER:
            of_images = decide_images(self.map)
            if of_images.condition is not None or not self.small:
                return of_images
        M = self.slope_matrix
        if M is None or not (all_finite(M.value) and all_finite(M.error)):
            return Decision(None, "The shortcut is not proved to be invertible at the least slopes of the activations.")
        if not self.map.n:
            return Decision("affine", "It is affine, and its matrix is invertible.")
        return decide(M.value - torch.eye(len(M.value), dtype=M.value.dtype), M.error)

    def bound(self) -> ErrorBound | None:
        """Bound errors by residuals, where M is diagonally stable; None where it is not proved to be."""
        if not self.small or self.lifted is None or self.slope_matrix is None or not self.map.n:
            return None
        M = self.slope_matrix
        return error_bound(self.lifted, diagonally_stable(M.value, M.error))

    @property
    def departure(self) -> float:
        """Bound ‖torch's f(x) − f(x)‖ for all x, where torch's activations jump: 0 for all but softplus."""
        departure = self.map.departure
        if not departure.any():
            return 0.0
        matrices = self.map.matrices()
        steepest = torch.maximum(self.map.alpha.abs(), self.map.beta.abs())
        passed_on = torch.eye(self.map.n).to(departure) - steepest[:, None] * matrices.B.abs()
        inside = torch.linalg.solve_triangular(passed_on, departure[:, None], upper=False, unitriangular=True)
        return float(torch.linalg.vector_norm(matrices.E.abs() @ inside)) * (1 + ROUNDING)


def enclosed(matrix: Tensor) -> Enclosure:
    """Return a matrix with the error that its making may have, none where it is zero by structure."""
    largest = matrix.abs().max() if matrix.numel() else 0.0
    return Enclosure.of(matrix, (matrix != 0) * (ROUNDING * largest))


@torch.no_grad()
def certify_feed_forward(
    f: FeedForwardMap, module: Callable[[Tensor], Tensor], inputs: Tensor, folds: bool = True
) -> Certificate:
    """Certify a feed-forward map, or find two inputs with the same output.

    With φ's slopes in [α, β] the determinants of all pieces are det P′ times principal minors of one matrix M; the map
    is a bijection if M is a P-matrix. For branches of more than one layer, or slopes that no input reaches, this is not
    necessary, so that a matrix that is none leaves the question open until two inputs collide. Entries of M are taken
    to be right to ROUNDING of the largest entry of the matrices it is made of.

    Source: design of the package, after Samelson, Thrall and Wesler, Proc. AMS 9 (1958) 805–807.

    Args:
        f: the map.
        module: as its user evaluates it, for inputs like `inputs`.
        inputs: where folds are looked for (batch, *shape).
        folds: whether they are, where no condition holds.
    """
    matrices = LiftedMatrices(f)
    decision = matrices.decision()
    if decision.condition is not None and not f.loss:
        return Certificate(Verdict.INVERTIBLE, decision.condition, decision.reason + as_real_functions(f))
    reason = f"{f.loss[0].upper()}{f.loss[1:]}." if f.loss else with_minor(decision)
    if not folds:
        return Certificate(Verdict.UNKNOWN, None, f"{reason} No fold was looked for.")
    if f.d > FOLD_LIMIT:
        return Certificate(Verdict.UNKNOWN, None, f"{reason} Folds are looked for up to {FOLD_LIMIT} inputs.")
    search = find_fold(f.output, inputs.to(f.dtype))
    if search.pair is None:
        return Certificate(Verdict.UNKNOWN, None, f"{reason} {search.reason[0].upper()}{search.reason[1:]}.")
    x1, x2 = (x[0].to(inputs) for x in (search.pair.x1, search.pair.x2))
    if not coincide(module(x1[None]), module(x2[None]), x1, x2):
        return Certificate(
            Verdict.UNKNOWN, None, f"{reason} Two inputs collide in {f.dtype}, but not as evaluated in {inputs.dtype}."
        )
    return Certificate(Verdict.NOT_INVERTIBLE, "collision", f"{search.reason[0].upper()}{search.reason[1:]}.", (x1, x2))


def as_real_functions(f: FeedForwardMap) -> str:
    """Say which activations are certified as functions of real numbers, since torch's own jump."""
    names = sorted({a.name for a in f.activations if a.activation.departure})
    if not names:
        return ""
    return f" This holds for {' and '.join(names)} as a function of real numbers; torch's own jumps by about 1e-9."


def with_minor(decision: Decision) -> str:
    """Say what is known of M where no condition holds."""
    if decision.subset is None:
        return decision.reason
    return f"{decision.reason.removesuffix('.')}, which does not decide for a branch of this form."
