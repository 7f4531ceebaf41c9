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

import numpy as np
from torch import Tensor

from replication.compiled import EPSILON
from replication.spanning import Layer, always_active, leanest_directions

CELLS = 2_000_000  # beside the rays of an arrangement, up to which all are gone through: seconds
BATCH = 8192


@dataclass(frozen=True)
class StabilityBounds:
    """Bounds of σ = minₓ σmin(W_S(x)).

    Attributes:
        lower: 0 where nothing is known.
        upper: σmin of the active rows at some input.
        exact: whether both are σ but for rounding.
    """

    lower: float
    upper: float
    exact: bool

    @property
    def inverse_lipschitz(self) -> float:
        """Upper bound √2/σ of the Lipschitz constant of the inverse; infinite where nothing is known."""
        return math.sqrt(2) / self.lower if self.lower > 0 else math.inf


def stability(
    W: Tensor, b: Tensor | None = None, cells: int = CELLS, search: bool = True, seed: int = 0
) -> StabilityBounds:
    """Bound σ = minₓ σmin(W_S(x)), from which C follows up to a factor of √2.

    - Without biases, and with at most `cells` of them to go through: exactly, by the cells at every ray of the
      arrangement, where the hyperplanes are in general position.
    - Below: by pairs of opposite rows, of each of which one is always active.
    - Above: by the active rows at the inputs that a local search finds.

    With biases the rows with bⱼ ≥ 0, active wherever they are without biases, give the lower bound.

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
    homogeneous = not layer.b.any()
    central = layer if homogeneous else layer.select(layer.b >= 0)
    lines = Lines.of(central)
    exact = False
    count, n = len(lines.directions), W.shape[1]
    if count >= n and math.comb(count, n - 1) * 2 ** (n - 1) <= cells:
        least, simple = over_rays(central, lines)
        lower, exact = max(lower, least), simple and homogeneous
    if exact:
        return StabilityBounds(lower, lower, True)
    upper = of_search(layer, np.random.default_rng(seed)) if search else math.inf
    return StabilityBounds(lower, max(upper, lower), False)


def of_pairs(layer: Layer) -> float:
    """Bound σ from below by pairs of opposite rows, the shorter row of each counting (0 where they do not span)."""
    pairs = always_active(layer)
    rows = layer.unit_rows[pairs[:, 0]] * layer.norms[pairs].min(axis=1, initial=np.inf)[:, None]
    return float(least_singular_values((rows.T @ rows)[None])[0])


def of_search(layer: Layer, generator: np.random.Generator) -> float:
    """Bound σ from above by σmin of the rows active at inputs with few active rows, far out."""
    x = leanest_directions(layer.W, generator)
    active = x @ layer.W.T > 0
    fewest = np.argsort(active.sum(axis=1), kind="stable")[:8]
    grams = [layer.original[rows].T @ layer.original[rows] for rows in active[fewest]]
    return float(np.sqrt(np.linalg.eigvalsh(np.array(grams))[:, 0].clip(min=0).min()))


def least_singular_values(grams: np.ndarray) -> np.ndarray:
    """Return σmin of row sets with Gram matrices WᵀW (k, n, n), less the rounding error of the eigenvalues (k,)."""
    values = np.linalg.eigvalsh(grams)
    rounding = 8 * grams.shape[-1] ** 1.5 * EPSILON * values[:, -1]
    return np.sqrt((values[:, 0] - rounding).clip(min=0))


@dataclass(frozen=True)
class Lines:
    """The hyperplanes of a layer without biases: rows of one direction, up to sign, share one.

    Attributes:
        directions: of norm 1 (lines, n).
        line: of every row (m,).
        sign: of every row along the direction (m,).
    """

    directions: np.ndarray
    line: np.ndarray
    sign: np.ndarray

    @classmethod
    def of(cls, layer: Layer) -> Lines:
        """Group the rows of a layer."""
        U = layer.unit_rows
        if not len(U):
            return cls(U, np.zeros(0, dtype=int), np.zeros(0))
        near = np.abs(U @ U.T) > 1 - 1e-12
        first = near.argmax(axis=1)
        kept, line = np.unique(first, return_inverse=True)
        return cls(U[kept], line, np.sign((U * U[first]).sum(axis=1)))


def over_rays(layer: Layer, lines: Lines) -> tuple[float, bool]:
    """Return the least σmin of the cells at rays of the arrangement, and whether it is σ.

    Every cell has a ray r, where n − 1 independent hyperplanes meet; its active rows are those with ⟨wⱼ,r⟩ > 0 and, of
    the hyperplanes through r, those on the cell's side. Where just n − 1 pass, each combination of sides has a cell,
    and the least σmin is exact; where more pass, only the rows of n − 1 of them are counted, which bounds σ from below.
    """
    least, simple = np.inf, True
    n = layer.W.shape[1]
    products = layer.original[:, :, None] * layer.original[:, None, :]
    for chosen in batches(len(lines.directions), n - 1):
        _, sigma, Vt = np.linalg.svd(lines.directions[chosen], full_matrices=True)
        independent = sigma[:, -1] > 1e-9 if n > 1 else np.ones(len(chosen), dtype=bool)
        chosen, r = chosen[independent], Vt[independent, -1]
        along = r @ lines.directions.T
        through = np.abs(along) <= 1e-9
        simple &= bool((through.sum(axis=1) == n - 1).all())
        side = np.where(through, 0, np.sign(along))[:, lines.line] * lines.sign
        for sides in (side, -side):
            grams = np.tensordot((sides > 0).astype(float), products, axes=1)
            for added in grams_of_sides(lines, chosen, products):
                least = min(least, float(least_singular_values(grams + added).min(initial=np.inf)))
    return least, simple


def batches(lines: int, size: int) -> Iterator[np.ndarray]:
    """Yield all sets of `size` lines, many at a time (sets, size)."""
    sets = combinations(range(lines), size)
    while part := list(islice(sets, BATCH)):
        yield np.array(part, dtype=int).reshape(len(part), size)


def grams_of_sides(lines: Lines, chosen: np.ndarray, products: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the Gram matrices of the rows active on each combination of sides of the chosen lines (sets, n − 1).

    Of a line with rows on one side only, the side without rows is enough: more rows do not lower σmin.
    """
    count, n = len(lines.directions), products.shape[-1]
    halves = np.zeros((2, count, n, n))
    for half, sign in enumerate((1, -1)):
        np.add.at(halves[half], lines.line[lines.sign == sign], products[lines.sign == sign])
    both = (np.trace(halves, axis1=2, axis2=3) > 0).all(axis=0)
    halves[:, ~both] = 0
    patterns = 2 ** chosen.shape[1] if both.any() else 1
    for pattern in range(patterns):
        sides = [(pattern >> place) & 1 for place in range(chosen.shape[1])]
        yield sum((halves[s][chosen[:, place]] for place, s in enumerate(sides)), np.zeros((len(chosen), n, n)))
