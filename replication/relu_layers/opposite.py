"""Pairs of opposite rows, of which one is always active: n independent ones prove that a layer is injective."""

from __future__ import annotations

import numpy as np

from replication.relu_layers.layer import Layer
from replication.relu_layers.singular_values import least_of_rows


def opposite_rows(layer: Layer) -> str | None:
    """Say that n pairs of opposite rows have independent directions, or return None.

    >>> import torch
    >>> opposite_rows(Layer.of(torch.tensor([[2.0], [-1.0]]), None))
    '1 pairs of opposite rows have directions that span, and of each pair one is always active'
    """
    pairs = always_active(layer)
    n = layer.W.shape[1]
    if len(pairs) < n or least_of_rows(layer.unit_rows[pairs[:, 0]])[0] <= 0:
        return None
    return f"{len(pairs)} pairs of opposite rows have directions that span, and of each pair one is always active"


def always_active(layer: Layer) -> np.ndarray:
    """Return disjoint pairs (pairs, 2) of rows of which one at least is active at every x.

    They are opposite, w and −dw, with biases b and b′ for which db + b′ ≥ 0.

    >>> import torch
    >>> W = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [0.0, -1.0]])
    >>> always_active(Layer.of(W, torch.tensor([0.0, 1.0, 0.0, -2.0]))).tolist()
    [[0, 2]]
    """
    used: set[int] = set()
    pairs = []
    for i, j in layer.opposite().tolist():
        if layer.b[i] + layer.b[j] >= 0 and used.isdisjoint((i, j)):
            pairs.append((i, j))
            used.update((i, j))
    return np.array(pairs, dtype=int).reshape(-1, 2)
