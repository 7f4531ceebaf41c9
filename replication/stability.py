"""How stable the inverse of a ReLU layer is: bounds of its inverse Lipschitz constant, exact for small layers.

    ‖relu(Wx + b) − relu(Wx′ + b)‖ ≥ C‖x − x′‖,   σ/√2 ≤ C ≤ σ,   σ = minₓ σmin(W_S(x)), of the rows active at x

Upper bound: within the cell of the minimum the layer is x ↦ W_S x + b_S. Lower bound: put v = x − x′, aⱼ = ⟨wⱼ,v⟩² and
let θⱼ be the share of the segment from x to x′ on which row j is active, so that ‖f(x) − f(x′)‖² = Σⱼ θⱼ²aⱼ. At every
point t of the segment the active rows have Σ aⱼ ≥ s = σ²‖v‖². Let the rows active throughout, with θ = 1, make up a,
those active while t < θⱼ make up p(t), and those active while 1 − t < θⱼ make up q(t). Then

    Σ θⱼ²aⱼ = a + ∫ 2t·p(t) + 2(1 − t)·q(t) dt ≥ a + (s − a)∫ min(2t, 2(1 − t)) dt = a + (s − a)/2 ≥ s/2.

[B; −B] has C = σ/√2, at x′ = −x, and C of [kB; −B] tends to σ as k grows: neither bound can be improved.

Source: paper D, whose first version has the constant 1/√(2m) in place of 1/√2; the proof above is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np
from torch import Tensor

from replication.compiled import EPSILON
from replication.spanning import Layer, always_active, eliminated, lean_points, unit

CELLS = 2_000_000  # beside the rays of an arrangement, up to which all are gone through: seconds
BATCH = 8192
DOUBTFUL = 1000  # sets of hyperplanes, nearly dependent, that are decided in rational arithmetic: half a second


@dataclass(frozen=True)
class StabilityBounds:
    """Bounds of σ = minₓ σmin(W_S(x)).

    Attributes:
        lower: 0 where nothing is known.
        upper: σmin of the active rows at some input, or more.
        exact: whether both are σ but for rounding, which in `lower` is √ε‖W‖ where σ is small.
        moved: ‖ΔW‖ and ‖Δb‖, by which rows that are parallel to rounding were moved to be exactly so: σ is that of the
            layer with W + ΔW and b + Δb.
    """

    lower: float
    upper: float
    exact: bool
    moved: tuple[float, float] = (0.0, 0.0)

    @property
    def inverse_lipschitz(self) -> float:
        """Upper bound √2/σ of the Lipschitz constant of the inverse; infinite where nothing is known."""
        return math.sqrt(2) / self.lower if self.lower > 0 else math.inf


def stability(
    W: Tensor, b: Tensor | None = None, cells: int = CELLS, search: bool = True, seed: int = 0
) -> StabilityBounds:
    """Bound σ = minₓ σmin(W_S(x)), from which C follows up to a factor of √2.

    - Without biases, and with at most `cells` of them to go through: exactly, by the cells at every ray of the
      arrangement, where the hyperplanes are in general position beyond rounding.
    - Below: by pairs of opposite rows, of each of which one is always active.
    - Above: by the active rows at the inputs that a local search finds.

    With biases the rows with bⱼ ≥ 0, active wherever they are without biases, give the lower bound. Rows that are
    parallel or opposite to the rounding of their entries count as exactly so (`StabilityBounds.moved`).

    Args:
        W: (m, n).
        b: (m,), or None for zeros.
        cells: bound of the exact enumeration, 2ⁿ⁻¹ at each set of n − 1 hyperplanes.
        search: whether an upper bound is looked for; else it is infinite unless exact.
        seed: of the search.

    Raises:
        TypeError, ValueError: if W and b are no finite tensors of these shapes.
    """
    layer = Layer.of(W, b)
    if not len(layer.W):
        return StabilityBounds(0.0, 0.0, True)
    lower = of_pairs(layer)
    central = layer if not layer.b.any() else layer.select(layer.b >= 0)
    lines = Lines.of(central)
    count, n = len(lines.rows), W.shape[1]
    if count >= n and math.comb(count, n - 1) * 2 ** (n - 1) <= cells:
        least, active = over_rays(central, lines)
        lower = max(lower, least)
        if active is not None and not layer.b.any():
            return StabilityBounds(lower, largest_least_singular_value(layer.original[active]), True, layer.moved)
    upper = of_search(layer, np.random.default_rng(seed)) if search else math.inf
    return StabilityBounds(lower, upper, False, layer.moved)


def of_pairs(layer: Layer) -> float:
    """Bound σ from below by pairs of opposite rows, the shorter row of each counting (0 where they do not span)."""
    pairs = always_active(layer)
    rows = layer.W[pairs[:, 0]] * layer.factors[pairs].min(axis=1, initial=np.inf)[:, None]
    return float(least_singular_values((rows.T @ rows)[None], len(rows))[0])


def of_search(layer: Layer, generator: np.random.Generator) -> float:
    """Bound σ from above by σmin of the rows active at inputs with few active rows; those in doubt count as active."""
    active = np.unique(layer.active(lean_points(layer, generator)), axis=0)
    fewest = np.argsort(active.sum(axis=1), kind="stable")[:8]
    return min(largest_least_singular_value(layer.original[rows]) for rows in active[fewest])


def largest_least_singular_value(rows: np.ndarray) -> float:
    """Return σmin of rows (k, n), or 0 where k < n, with its rounding error added."""
    k, n = rows.shape
    if k < n:
        return 0.0
    sigma = np.linalg.svd(rows, compute_uv=False)
    return float(sigma[-1] + 4 * max(k, n) * EPSILON * sigma[0])


def least_singular_values(grams: np.ndarray, terms: int) -> np.ndarray:
    """Return σmin of row sets with Gram matrices WᵀW (k, n, n), sums of `terms` rows, less its rounding error (k,)."""
    return root_less_rounding(np.linalg.eigvalsh(grams), terms)


def root_less_rounding(values: Any, terms: int) -> Any:
    """Return √λmin of computed eigenvalues (k, n) of Gram matrices, an array or a tensor, less its rounding error (k,).

    Errors are ε times those of the eigenvalues, n¹·⁵λmax, and of the sums, `terms` times the trace.
    """
    rounding = EPSILON * (8 * values.shape[-1] ** 1.5 * values[:, -1] + (terms + 2) * values.sum(-1))
    return (values[:, 0] - rounding).clip(min=0) ** 0.5


@dataclass(frozen=True)
class Lines:
    """The hyperplanes of a layer without biases: rows of one direction, up to sign, share one.

    Attributes:
        rows: one of each (lines, n).
        line: of every row of the layer (m,).
        sign: of every row along that of its line (m,).
    """

    rows: np.ndarray
    line: np.ndarray
    sign: np.ndarray

    @classmethod
    def of(cls, layer: Layer) -> Lines:
        """Group the rows of a layer."""
        _, first, line = np.unique(layer.line, return_index=True, return_inverse=True)
        return cls(layer.W[first], line, layer.sign * layer.sign[first][line])

    @property
    def two_sided(self) -> np.ndarray:
        """Whether there are rows on both sides (lines,)."""
        sides = [np.bincount(self.line[self.sign == side], minlength=len(self.rows)) > 0 for side in (1, -1)]
        return sides[0] & sides[1]


def over_rays(layer: Layer, lines: Lines) -> tuple[float, np.ndarray | None]:
    """Bound σ from below by the cells at rays of the arrangement; return its active rows (m,) too where it is σ.

    Every cell has a ray r, where n − 1 independent hyperplanes meet; its active rows are those with ⟨wⱼ,r⟩ > 0 and, of
    the hyperplanes through r, those on the cell's side. Where just n − 1 pass, each combination of sides has a cell,
    and the least σmin is exact; where more pass, or may within rounding, only the rows of n − 1 of them are counted,
    which bounds σ from below. Hyperplanes that are too nearly dependent for their ray leave σ = 0 as the bound, unless
    they are so exactly: then other sets have the rays.
    """
    least, fewest, simple = np.inf, None, True
    doubtful = 0
    products = layer.original[:, :, None] * layer.original[:, None, :]
    for chosen in batches(len(lines.rows), layer.W.shape[1] - 1):
        r, doubt = rays(lines, chosen)
        unclear = doubt > 0.5
        doubtful += int(unclear.sum())
        if doubtful > DOUBTFUL or any(len(eliminated(lines.rows[c])[1]) == len(c) for c in chosen[unclear]):
            return 0.0, None
        side, unique = sides_at(lines, chosen[~unclear], r[~unclear], doubt[~unclear])
        simple &= unique
        for active in active_beside(lines, chosen[~unclear], side):
            values = least_singular_values(np.tensordot(active.astype(float), products, axes=1), len(layer.W))
            if len(values) and values.min() < least:
                least, fewest = float(values.min()), active[values.argmin()]
    if fewest is None:  # no set is independent, so that the rows do not span
        return 0.0, None
    return least, fewest if simple else None


def rays(lines: Lines, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where sets of n − 1 lines (sets, n − 1) meet, r (sets, n), and bounds of its rounding error (sets,)."""
    n = lines.rows.shape[1]
    _, sigma, Vt = np.linalg.svd(unit(lines.rows)[chosen], full_matrices=True)
    with np.errstate(divide="ignore"):
        return Vt[:, -1], 8 * n**2 * EPSILON / sigma.min(axis=1, initial=1)


def sides_at(lines: Lines, chosen: np.ndarray, r: np.ndarray, doubt: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the sides 1 or −1 of rays (sets, n) on all lines, 0 on those that may pass through them (sets, lines).

    And whether these are the chosen ones alone.
    """
    along = r @ unit(lines.rows).T
    through = np.abs(along) <= doubt[:, None]
    np.put_along_axis(through, chosen, True, axis=1)
    return np.where(through, 0, np.sign(along)), bool((through.sum(axis=1) == chosen.shape[1]).all())


def batches(lines: int, size: int) -> Iterator[np.ndarray]:
    """Yield all sets of `size` lines, many at a time (sets, size)."""
    sets = combinations(range(lines), size)
    while part := list(islice(sets, BATCH)):
        yield np.array(part, dtype=int).reshape(len(part), size)


def active_beside(lines: Lines, chosen: np.ndarray, side: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows active (sets, m) in the cells at rays and their opposites, for all sides of the chosen lines.

    Of a line with rows on one side only, the side without rows is enough: more rows do not lower σmin.

    Args:
        lines: all lines.
        chosen: those that meet in each ray (sets, n − 1).
        side: of the rays on all lines (sets, lines).
    """
    two_sided = lines.two_sided
    for pattern in range(2 ** chosen.shape[1] if two_sided.any() else 1):
        own = np.array([1 - 2 * (pattern >> place & 1) for place in range(chosen.shape[1])], dtype=int)
        for of_ray in (side, -side):
            beside = of_ray.copy()
            np.put_along_axis(beside, chosen, own * two_sided[chosen], axis=1)
            yield beside[:, lines.line] * lines.sign > 0
