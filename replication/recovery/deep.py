"""A network of two hidden layers, from its first layer and the boundaries of its second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from replication.recovery.boundaries import Boundary
from replication.recovery.oracle import Array
from replication.recovery.second_layer import SecondLayer
from replication.recovery.shallow import Planes
from replication.recovery.signs import flips


@dataclass(frozen=True)
class Deep:
    """f(y) = strengths·relu(weights·z + biases) + skip·z + constant, z = relu(planes(y)).

    Some units of the second layer may point the other way, which leaves a trace in `skip`.

    Attributes:
        planes: the first layer, each unit turned as it is in the network.
        weights: (h₂, h₁).
        biases: (h₂,).
        strengths: (m, h₂).
        skip: (m, h₁).
        constant: (m,).
        defect: of the signs, as in `flips`.
    """

    planes: Planes
    weights: Array
    biases: Array
    strengths: Array
    skip: Array
    constant: Array
    defect: float

    def __call__(self, y: Array) -> Array:
        """Return the outputs (rows, m) of points (rows, d)."""
        z = np.maximum(self.planes(y), 0)
        values: Array = np.maximum(z @ self.weights.T + self.biases, 0) @ self.strengths.T + z @ self.skip.T
        return values + self.constant

    def signs(self) -> tuple[Deep, bool]:
        """Turn round the units that the skip betrays; return the network, whether that was possible."""
        traces = np.einsum("mj,jk->mkj", -self.strengths, self.weights).reshape(self.skip.size, len(self.biases))
        turned, defect = flips(traces, self.skip.ravel())
        defect = float(np.fmax(defect, self.defect))
        if turned is None:
            return replace(self, defect=defect), False
        sign = np.where(turned, -1.0, 1.0)
        constant = self.constant + self.strengths[:, turned] @ self.biases[turned]
        weights, biases = self.weights * sign[:, None], self.biases * sign
        return Deep(self.planes, weights, biases, self.strengths, 0 * self.skip, constant, defect), True


def assembled(second: SecondLayer, boundaries: Sequence[Boundary], y: Array, values: Array) -> Deep:
    """Put units found together, with the output layer that fits values (rows, m) at points (rows, d)."""
    planes = second.planes
    h, m = len(planes.offsets), second.oracle.outputs
    weights = np.array([np.nan_to_num(boundary.weights) for boundary in boundaries]).reshape(-1, h)
    biases = np.array([boundary.offset for boundary in boundaries])
    strengths = np.array([boundary.strength for boundary in boundaries]).reshape(-1, m).T
    z = np.maximum(planes(y), 0)
    rest = values - np.maximum(z @ weights.T + biases, 0) @ strengths.T
    solution = np.linalg.lstsq(np.concatenate([z, np.ones((len(z), 1))], axis=1), rest, rcond=None)[0]
    return Deep(planes, weights, biases, strengths, solution[:-1].T, solution[-1], second.defect)
