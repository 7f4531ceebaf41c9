"""Diagonal stability of large sparse matrices M that are made of sites: pixels with all their numbers.

Λ has one factor for each number of a site. It is found on a few sites, a principal submatrix of M, and proved for the
whole by a Cholesky factorization of ΛM + MᵀΛ as a band, less a multiple of the identity that covers all rounding. What
has no Λ on a few sites has none on all of them.

Source: Rump, BIT 46 (2006) 433–452 (definiteness by Cholesky); the Λ of a few sites is that of `diagonal_stability`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg.lapack import dpbtrf

from replication.certification.diagonal_stability import CENTRED_ORDER, DiagonalStability, diagonally_stable
from replication.certification.factorizations import covering
from replication.compiled import EPSILON
from replication.conditions import NEGATIVE, POSITIVE, TINY, UNDECIDED
from replication.folds.jacobians import Entries

BAND_NUMBERS = 2**26  # of a band that is factorized, at most: 512 MiB
STRENGTHS = (0.9, 0.5, 0.2, 0.05)  # parts of the t of a few sites that are tried for the whole


@dataclass(frozen=True)
class SparseMatrix:
    """M by its entries, with bounds of their errors.

    Attributes:
        entries: of M, sites first and the numbers of a site after.
        doubt: bounds of the errors of its entries, an array as long as they are.
        per_site: numbers of a site.
    """

    entries: Entries
    doubt: np.ndarray
    per_site: int

    @property
    def order(self) -> int:
        return self.entries.order

    @property
    def width(self) -> int:
        """The larger number of diagonals beside the main one."""
        return max(self.entries.band)

    @property
    def fits(self) -> bool:
        """Whether it may be factorized as a band."""
        return self.order * (self.width + 1) <= BAND_NUMBERS

    def patch(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the principal submatrix of the sites that have most to do with the middle one, and its errors."""
        e, c = self.entries, self.per_site
        middle = self.order // c // 2
        near = e.rows // c == middle
        sizes = np.abs(e.values[near])
        sizes /= sizes.max(initial=np.finfo(np.float64).tiny)  # which may be squared
        strength = np.bincount(e.columns[near] // c, sizes**2, self.order // c)
        strength[middle] = np.inf
        count = max(1, min(CENTRED_ORDER // c, int((strength > 0).sum())))
        sites = np.argsort(-strength, kind="stable")[:count]
        place = np.full(self.order // c, -1)
        place[sites] = np.arange(count)
        rows, columns = place[e.rows // c], place[e.columns // c]
        inside = (rows >= 0) & (columns >= 0)
        own = rows[inside] * c + e.rows[inside] % c, columns[inside] * c + e.columns[inside] % c
        M, doubt = np.zeros((2, count * c, count * c))
        for into, numbers in ((M, e.values), (doubt, self.doubt)):
            np.add.at(into, own, numbers[inside])  # small circular images see a pixel by several ways
        return M, doubt

    def is_definite(self, scaling: np.ndarray, t: float = 0.0) -> bool:
        """Prove ΛM + MᵀΛ ≻ 2tΛ, for every matrix within the errors; Λ (per_site,) repeats for every site.

        As `diagonal_stability.is_definite`, for a band.
        """
        e, n = self.entries, self.order
        scale = np.tile(scaling, n // self.per_site)
        high, low = np.maximum(e.rows, e.columns), np.minimum(e.rows, e.columns)
        part, doubt = scale[e.rows] * e.values, scale[e.rows] * self.doubt
        doubt = doubt * (1 + 4 * EPSILON) + 4 * EPSILON * np.abs(part) + TINY
        main = np.bincount(e.rows, np.where(high == low, 2 * part, 0), n) - 2 * t * scale
        if not ((main > 0).all() and np.isfinite(part).all() and np.isfinite(doubt).all()):
            return False
        unit = 2.0 ** -np.round(np.log2(main) / 2)
        part, doubt = unit[high] * part * unit[low], unit[high] * doubt * unit[low]
        sums = np.bincount(high, doubt, n) + np.bincount(low, doubt, n) + 8 * EPSILON * t * scale * unit**2
        trace = float((main * unit**2).sum())
        band = self.band(part, high, low)
        band[0] = main * unit**2 - covering(n, trace, float(sums.max()))
        factor, info = dpbtrf(band, lower=1, overwrite_ab=1)
        return bool(info == 0 and np.isfinite(factor[0]).all())

    def band(self, part: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Return the diagonals below the main one of the sum of entries and their transposes (width + 1, order)."""
        band = np.zeros((self.width + 1, self.order), order="F")
        for side in (self.entries.rows > self.entries.columns, self.entries.rows < self.entries.columns):
            band[high[side] - low[side], low[side]] += part[side]
        return band


def by_site(scaling: torch.Tensor, per_site: int) -> np.ndarray:
    """Return the means over sites of a scaling of a few sites, as powers of two (per_site,)."""
    means = scaling.log2().reshape(-1, per_site).mean(0)
    return np.asarray(2.0 ** (means - means.mean()).round())


@dataclass(frozen=True)
class Stability:
    """What is proved of a large M.

    Attributes:
        sign: POSITIVE where ΛM + MᵀΛ is positive definite, NEGATIVE where it is for no Λ, UNDECIDED else.
        scaling: the Λ of every site (per_site,), all ones where M + Mᵀ is positive definite; None unless POSITIVE.
        strength: a t that is likely to have ΛM + MᵀΛ ⪰ 2tΛ, found on a few sites; not proved.
    """

    sign: int
    scaling: np.ndarray | None = None
    strength: float = 0.0

    @property
    def monotone(self) -> bool:
        """Whether M + Mᵀ itself is positive definite."""
        return self.scaling is not None and bool((self.scaling == 1).all())


def stability(M: SparseMatrix, proof: object = None) -> Stability:
    """Decide whether M is diagonally stable with one Λ for every site: first with Λ = I.

    Args:
        M: the matrix.
        proof: of ΛM + MᵀΛ ≻ 2tΛ, called with Λ (per_site,) and t; by default by the band of M.
    """
    proved = M.is_definite if proof is None else proof
    assert callable(proved)
    if not (np.isfinite(M.entries.values).all() and np.isfinite(M.doubt).all()):  # they overflowed
        return Stability(UNDECIDED)
    patch, doubt = (torch.from_numpy(part) for part in M.patch())
    lowest = float(torch.linalg.eigvalsh(patch / 2 + patch.mT / 2)[0])
    ones = np.ones(M.per_site)
    if lowest > 0 and proved(ones, 0.0):
        return Stability(POSITIVE, ones, lowest)
    found: DiagonalStability = diagonally_stable(patch, doubt)
    if found.sign == NEGATIVE:
        return Stability(NEGATIVE)
    if found.sign == POSITIVE and found.scaling is not None:
        scaling = by_site(found.scaling, M.per_site)
        if proved(scaling, 0.0):
            return Stability(POSITIVE, scaling, found.strength)
    return Stability(UNDECIDED)
