"""Directed spanning sets: whether the active rows of a ReLU layer span the space at every input.

x ↦ relu(Wx + b) is injective iff for every x the rows S(x) = {j : ⟨wⱼ,x⟩ + bⱼ ≥ 0} span ℝⁿ.

Sufficient: if relu(Wx + b) = relu(Wx′ + b), a row that is active or zero at the midpoint of x and x′ has the same
preactivation at both (both are positive and equal, or both are zero), so it is orthogonal to x − x′; these rows span.
Necessary: if the rows S(x) do not span, take v ≠ 0 orthogonal to them; rows outside S(x) stay negative on a small
segment x ± tv, all of whose points have the same output.

Since S(x′) ⊆ S(x) for every x′ near x, only open cells of the arrangement {⟨wⱼ,x⟩ + bⱼ = 0} matter: a violation, if
there is one, is found where no preactivation is zero, and ≥ 0 or > 0 make no difference there.

Source: paper D (directed spanning set); the proof above also covers biases, where the paper's rule (leave out the
rows with negative bias) is sufficient but not necessary: relu(x − 1), relu(1 − x) is injective on the line.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from replication.relu_layers.collisions import refuted
from replication.relu_layers.flats import by_flats
from replication.relu_layers.layer import Layer
from replication.relu_layers.milp import by_milp
from replication.relu_layers.opposite import opposite_rows
from replication.relu_layers.refutation import refutation
from replication.relu_layers.verdict import SpanningTest

EXACT_LIMIT = 8  # columns up to which flats are searched: seconds for one Gaussian matrix of 8, 30 ms for 6
MILP_LIMIT = 40  # columns up to which the mixed-integer program is tried


def directed_spanning_test(
    W: Tensor, b: Tensor | None = None, time_limit: float = 60.0, general_position: bool = False, seed: int = 0
) -> SpanningTest:
    """Decide whether the active rows of x ↦ relu(Wx + b) span at every x, which is whether it is injective.

    In this order: n independent pairs of opposite rows prove it for any size; inputs with too few active rows, looked
    for in the adversarial direction, at random and by local search, refute it; flats are searched exactly up to
    EXACT_LIMIT columns; a mixed-integer program decides or gives up past them, up to MILP_LIMIT.

    Rows that are parallel or opposite to within the rounding of each entry in the dtype of W count as exactly
    so, since [B; −DB] cannot be written in floating-point numbers otherwise. All else is decided for W as it stands;
    what drowns in rounding is unknown.

    Args:
        W: (m, n).
        b: (m,), or None for zeros.
        time_limit: of the mixed-integer program, in seconds.
        general_position: whether no n rows are known to be dependent, as is almost sure for random rows; only the
            mixed-integer program asks for it.
        seed: of random directions.

    Raises:
        TypeError, ValueError: if W and b are no finite tensors of these shapes.

    >>> import torch
    >>> B = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> directed_spanning_test(torch.cat([B, -2 * B])).condition, directed_spanning_test(torch.cat([B, B])).spans
    ('opposite_rows', False)
    """
    layer = Layer.of(W, b)
    m, n = W.shape
    size = f"{m} rows, {n} columns"
    found = opposite_rows(layer)
    if found is not None:
        return SpanningTest(True, "opposite_rows", f"{found} ({size}).")
    generator = np.random.default_rng(seed)
    pair = refutation(layer, generator)
    if pair is not None:
        return refuted(layer, pair)
    if n <= EXACT_LIMIT:
        return by_flats(layer)
    if n <= MILP_LIMIT:
        return by_milp(layer, time_limit, general_position)
    return SpanningTest(None, None, f"No violation was found, and {size} are past the limits of the exact tests.")
