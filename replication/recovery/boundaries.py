"""The bent boundary of a unit of the second layer, as far as its weights are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from replication.recovery.oracle import Array
from replication.recovery.search import Bend
from replication.recovery.shallow import Planes

Pattern = NDArray[np.bool_]
ONE = 1e-9  # one minus the cosine of two boundaries' coefficients that are one boundary's
CLOSE = 1e-6  # distance from a boundary, in radii, of what lies on it


@dataclass
class Boundary:
    """The set {g = 0}, g(y) = slope·y + offset + Σ weights[k]·relu(planes[k](y)) over the known k.

    Where a weight is not known, g holds on one side of that plane.

    Attributes:
        planes: the first layer.
        slope: (d,), of g where all known units are off.
        offset: of g.
        weights: (h,), NaN where not known.
        side: the side of each plane on which g holds (h,), 1 or −1; of no matter where the weight is known.
        strength: output weights (m,): the gradient of f jumps by strength·∇g.
        places: points of the boundary with the units that are on there.
    """

    planes: Planes
    slope: Array
    offset: float
    weights: Array
    side: Array
    strength: Array
    places: list[tuple[Array, Pattern]] = field(default_factory=list)

    @staticmethod
    def at(bend: Bend, planes: Planes) -> Boundary:
        """Return the boundary through a place where all that is known is its hyperplane there."""
        on = planes(bend.place) > 0
        plane, h = bend.plane, len(on)
        side = np.where(on, 1.0, -1.0)
        start = [(bend.place, on)]
        return Boundary(planes, plane.normal, plane.offset, np.full(h, np.nan), side, plane.strength, start)

    @property
    def known(self) -> Pattern:
        """Which weights are known (h,)."""
        return ~np.isnan(self.weights)

    def __call__(self, y: Array) -> Array:
        """Return g at points y (..., d)."""
        values: Array = y @ self.slope + self.offset + np.maximum(self.planes(y), 0) @ np.nan_to_num(self.weights)
        return values

    def holds(self, y: Array) -> Pattern:
        """Return whether the points y (..., d) are where g is known."""
        return np.asarray(((self.planes(y) * self.side > 0) | self.known).all(axis=-1))

    def gradient(self, on: Pattern) -> Array:
        """Return ∇g where the units `on` (h,) are on."""
        gradient: Array = self.slope + (np.nan_to_num(self.weights) * on) @ self.planes.normals
        return gradient

    def value(self, y: Array, on: Pattern) -> float:
        """Return the affine function that g is where the units `on` are on, at y (d,)."""
        return float(y @ self.slope + self.offset + (np.nan_to_num(self.weights) * on) @ self.planes(y))

    def passes(self, place: Array, radius: float) -> bool:
        """Return whether the boundary passes through a place (d,)."""
        steepness = float(np.linalg.norm(self.gradient(self.planes(place) > 0)))
        return bool(self.holds(place)) and abs(float(self(place))) < CLOSE * radius * steepness

    def learn(self, k: int, bend: float, place: Array) -> None:
        """Take in that ∇g changes by bend·normal beyond plane k, where the boundary passes `place` (d,)."""
        if self.side[k] > 0:  # the plane's unit was on where g is known, and goes off beyond
            self.weights[k] = -bend
            self.slope = self.slope + bend * self.planes.normals[k]
            self.offset += bend * self.planes.offsets[k]
        else:
            self.weights[k] = bend
        self.places.append((place, self.planes(place) > 0))

    def turned(self, flipped: Pattern, upright: Planes) -> Boundary:
        """Return the same boundary told in units of which some (h,) point the other way; `upright` are these."""
        known = np.nan_to_num(self.weights) * flipped
        slope = self.slope + known @ self.planes.normals
        offset = self.offset + float(known @ self.planes.offsets)
        side = np.where(flipped, -self.side, self.side)
        places = [(place, on ^ flipped) for place, on in self.places]
        return Boundary(upright, slope, offset, self.weights, side, self.strength, places)

    def same_as(self, other: Boundary) -> bool:
        """Return whether two boundaries, told in the same units and all of whose weights are known, are one."""
        first, second = (np.concatenate([one.weights, one.slope, [one.offset]]) for one in (self, other))
        return bool(abs(first @ second) > (1 - ONE) * np.linalg.norm(first) * np.linalg.norm(second))

    def roots(self, start: Array, end: Array) -> Array:
        """Return where a segment meets the boundary, as places in (0, 1)."""
        t = np.concatenate([[0.0], np.sort(self.planes.places(start, end)), [1.0]])
        g = self(start + t[:, None] * (end - start))
        cross = g[:-1] * g[1:] < 0
        return np.asarray((t[:-1] + np.diff(t) * g[:-1] / (g[:-1] - g[1:] + (g[:-1] == g[1:])))[cross])
