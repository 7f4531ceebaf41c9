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
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from replication.relu_layers.arrangement import Lines, over_rays
from replication.relu_layers.layer import Layer
from replication.relu_layers.opposite import always_active
from replication.relu_layers.refutation import lean_points
from replication.relu_layers.singular_values import least_of_grams, least_of_rows

CELLS = 2_000_000  # beside the rays of an arrangement, up to which all are gone through: seconds


@dataclass(frozen=True)
class StabilityBounds:
    """Bounds of σ = minₓ σmin(W_S(x)).

    Attributes:
        lower: 0 where nothing is known.
        upper: σmin of the active rows at some input, or more.
        exact: whether both are σ but for rounding, which in `lower` is √ε‖W‖ where σ is small.
        moved: ‖ΔW‖ and ‖Δb‖, by which rows that are parallel to rounding were moved to be exactly so: σ is that of the
            layer with W + ΔW and b + Δb.

    >>> StabilityBounds(lower=0.5, upper=1.0, exact=False).inverse_lipschitz, StabilityBounds(0.0, 1.0, False)
    (2.8284271247461903, StabilityBounds(lower=0.0, upper=1.0, exact=False, moved=(0.0, 0.0)))
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

    >>> import torch
    >>> bounds = stability(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -4.0]]))
    >>> bounds.exact, round(bounds.lower, 6), round(bounds.upper, 6)
    (True, 1.0, 1.0)
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
            return StabilityBounds(lower, least_of_rows(layer.original[active])[1], True, layer.moved)
    upper = of_search(layer, np.random.default_rng(seed)) if search else math.inf
    return StabilityBounds(lower, upper, False, layer.moved)


def of_pairs(layer: Layer) -> float:
    """Bound σ from below by pairs of opposite rows, the shorter row of each counting (0 where they do not span).

    >>> import torch
    >>> round(of_pairs(Layer.of(torch.tensor([[2.0], [-1.0]]), None)), 6)
    1.0
    """
    pairs = always_active(layer)
    rows = layer.W[pairs[:, 0]] * layer.factors[pairs].min(axis=1, initial=np.inf)[:, None]
    return float(least_of_grams((rows.T @ rows)[None], len(rows))[0])


def of_search(layer: Layer, generator: np.random.Generator) -> float:
    """Bound σ from above by σmin of the rows active at inputs with few active rows; those in doubt count as active.

    >>> import torch
    >>> round(of_search(Layer.of(torch.tensor([[2.0], [-1.0], [3.0]]), None), np.random.default_rng(0)), 6)
    1.0
    """
    active = np.unique(layer.active(lean_points(layer, generator)), axis=0)
    fewest = np.argsort(active.sum(axis=1), kind="stable")[:8]
    return min(least_of_rows(layer.original[rows])[1] for rows in active[fewest])
