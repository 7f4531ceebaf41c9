"""Two inputs with one output, at a point where the active rows of a ReLU layer do not span."""

from __future__ import annotations

import numpy as np
import torch

from replication.compiled import EPSILON
from replication.relu_layers.layer import Layer
from replication.relu_layers.verdict import SpanningTest

Pair = tuple[np.ndarray, np.ndarray]  # two inputs (n,)


def colliding_pair(layer: Layer, x: np.ndarray) -> Pair | None:
    """Return x ± tv for v orthogonal to the rows active at x (n,), none of which changes sign; None if these rows span.

    Preactivations within their rounding error of zero count as active.

    >>> layer = Layer.of(torch.eye(2), None)
    >>> x1, x2 = colliding_pair(layer, np.array([1.0, -3.0]))
    >>> x1.tolist(), x2.tolist(), colliding_pair(layer, np.ones(2)) is None
    ([1.0, -4.5], [1.0, -1.5], True)
    """
    W, b = layer.W, layer.b
    n = W.shape[1]
    s, active = W @ x + b, layer.active(x[None])[0]
    rows = W[active]
    _, sigma, Vt = np.linalg.svd(rows, full_matrices=True) if len(rows) else (None, np.zeros(0), np.eye(n))
    if len(sigma) == n and sigma[-1] > 4 * len(rows) * EPSILON * sigma[0]:
        return None
    v = Vt[-1]
    change = np.abs(W[~active] @ v)
    with np.errstate(over="ignore"):  # room without end
        room = np.divide(-s[~active], change, out=np.full(len(change), np.inf), where=change > 0)
    t = min(0.5 * room.min(initial=np.inf), 1 + np.linalg.norm(x))
    return x - t * v, x + t * v


def refuted(layer: Layer, pair: Pair) -> SpanningTest:
    """Return the verdict of a colliding pair.

    >>> refuted(Layer.of(torch.eye(2), None), (np.array([1.0, -4.0]), np.array([1.0, -2.0]))).reason
    'At an input only 1 of 2 rows are active, and they do not span the 2 dimensions.'
    """
    active = int(np.count_nonzero(layer.W @ ((pair[0] + pair[1]) / 2) + layer.b >= 0))
    n = layer.W.shape[1]
    reason = f"At an input only {active} of {len(layer.W)} rows are active, and they do not span the {n} dimensions."
    return SpanningTest(False, "collision", reason, (torch.from_numpy(pair[0]), torch.from_numpy(pair[1])))
