"""A network of one hidden layer, from its hyperplanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replication.recovery.oracle import Array, Oracle
from replication.recovery.pieces import Hyperplane
from replication.recovery.signs import flips


@dataclass(frozen=True)
class Planes:
    """The units of the first layer: normals (h, d), offsets (h,) and output weights (m, h), orientations at will."""

    normals: Array
    offsets: Array
    strengths: Array

    @staticmethod
    def of(planes: Sequence[Hyperplane], inputs: int, outputs: int) -> Planes:
        """Put hyperplanes together."""
        return Planes(
            np.array([plane.normal for plane in planes]).reshape(-1, inputs),
            np.array([plane.offset for plane in planes]),
            np.array([plane.strength for plane in planes]).reshape(-1, outputs).T,
        )

    def turned(self, flipped: NDArray[np.bool_]) -> Planes:
        """Return the planes with some units (h,) turned round."""
        sign = np.where(flipped, -1.0, 1.0)
        return Planes(self.normals * sign[:, None], self.offsets * sign, self.strengths)

    def places(self, start: Array, end: Array) -> Array:
        """Return where a segment meets the planes (n,), as places in (0, 1)."""
        at, along = self(start), self(end)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = at / (at - along)
        return np.asarray(t[(t > 0) & (t < 1)])

    def __call__(self, y: Array) -> Array:
        """Return the preactivations (..., h) of points (..., d)."""
        values: Array = y @ self.normals.T + self.offsets
        return values


@dataclass(frozen=True)
class Shallow:
    """f(y) = strengths·relu(planes(y)) + slope·y + constant, of which some units may point the other way."""

    planes: Planes
    slope: Array
    constant: Array

    def __call__(self, y: Array) -> Array:
        """Return the outputs (rows, m) of points (rows, d)."""
        values: Array = np.maximum(self.planes(y), 0) @ self.planes.strengths.T + y @ self.slope.T + self.constant
        return values

    def signs(self) -> tuple[Shallow, bool, float]:
        """Turn round the units that the slope betrays; return the network, whether that was possible, and the defect.

        A unit that points the other way leaves −strength·normalᵀ in the slope.
        """
        planes = self.planes
        traces = np.einsum("mh,hd->mdh", -planes.strengths, planes.normals).reshape(
            self.slope.size, len(planes.offsets)
        )
        turned, defect = flips(traces, self.slope.ravel())
        if turned is None:
            return self, False, defect
        constant = self.constant + planes.strengths[:, turned] @ planes.offsets[turned]
        return Shallow(planes.turned(turned), np.zeros_like(self.slope), constant), True, defect


def fitted(oracle: Oracle, planes: Planes, y: Array, values: Array) -> Shallow:
    """Return the network with these units whose affine part fits values (rows, m) at points (rows, d)."""
    rest = values - np.maximum(planes(y), 0) @ planes.strengths.T
    design = np.concatenate([y, np.ones((len(y), 1))], axis=1)
    solution = np.linalg.lstsq(design, rest, rcond=None)[0]
    return Shallow(planes, solution[:-1].T, solution[-1])
