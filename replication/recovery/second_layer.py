"""The search for the units of the second layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from replication.recovery.boundaries import Boundary
from replication.recovery.hyperplanes import SAME, hyperplane_at
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Array, Oracle
from replication.recovery.search import PATIENCE, SCALES, SEGMENTS, Bend, Found, random_segment
from replication.recovery.shallow import Planes
from replication.recovery.signs import flips
from replication.recovery.targeted import axes, can_be_set, complete, consistent, cross_the_rest
from replication.recovery.walks import follow, holds_up

TRIES = 3  # to follow a boundary


@dataclass
class SecondLayer:
    """The boundaries found so far, told in units of the first layer, which are upright as soon as that is known.

    Attributes:
        oracle: is asked.
        planes: the first layer.
        generator: of all that is random.
        boundaries: of the second layer, whole or stuck.
        upright: whether the units of the first layer point the way they do in the network.
        defect: of their signs, as in `flips`.
    """

    oracle: Oracle
    planes: Planes
    generator: np.random.Generator
    boundaries: list[Boundary] = field(default_factory=list)
    upright: bool = False
    defect: float = float("nan")

    @property
    def whole(self) -> list[Boundary]:
        """The boundaries all of whose weights are known."""
        return [boundary for boundary in self.boundaries if boundary.known.all()]

    def search(self, found: Found) -> None:
        """Follow the boundary through every bend seen, look along random segments, and then where chance is blind."""
        self.take_up(found.bends)
        quiet = 0
        for turn in range(SEGMENTS):
            segment = random_segment(self.oracle, self.generator, SCALES[turn % len(SCALES)])
            quiet = 0 if self.take_up(self.unexplained(*segment)) else quiet + 1
            if quiet == PATIENCE:
                break
        self.settle()
        self.stand_upright()
        if self.upright:
            self.search_targeted()

    def search_targeted(self) -> None:
        """Look where single units of the first layer are on, one after the other; units upright."""
        self.search_along(list(axes(self.planes, self.oracle.radius)) if can_be_set(self.planes) else [])

    def search_along(self, segments: Sequence[tuple[Array, Array]]) -> None:
        """Look along segments, finish boundaries that got stuck, and drop what contradicts; units upright."""
        for segment in segments:
            self.take_up(self.unexplained(*segment))
        settable = can_be_set(self.planes)
        for boundary in self.boundaries:
            if settable:
                cross_the_rest(self.oracle, boundary)
            complete(boundary)
        self.boundaries = [one for one in self.boundaries if not one.known.all() or self.stands(one)]
        self.settle()

    def stands(self, boundary: Boundary) -> bool:
        """Return whether a boundary all of whose weights are known fits the signs, and the function."""
        return consistent(boundary) and holds_up(self.oracle, boundary, self.generator)

    def take_up(self, bends: list[Bend]) -> bool:
        """Follow the boundaries through bends that lie on none that is known; return whether there were any."""
        new = False
        for bend in bends:
            on_plane = np.abs(self.planes(bend.place)).min() < SAME * self.oracle.radius
            if not on_plane and not any(one.passes(bend.place, self.oracle.radius) for one in self.boundaries):
                self.boundaries.append(self.followed(bend))
                new = True
        return new

    def followed(self, bend: Bend) -> Boundary:
        """Return the boundary through a bend as far as it can be followed; from anew if it does not hold up."""
        for _ in range(TRIES):
            boundary = Boundary.at(bend, self.planes)
            follow(self.oracle, boundary, self.generator)
            if not boundary.known.all() or holds_up(self.oracle, boundary, self.generator):
                return boundary
        return Boundary.at(bend, self.planes)

    def unexplained(self, start: Array, end: Array) -> list[Bend]:
        """Return the bends on a segment that are on no boundary known."""
        places = [self.planes.places(start, end), *(boundary.roots(start, end) for boundary in self.boundaries)]
        kinks = kinks_on_segment(self.oracle, start, end, np.concatenate(places))
        planes = [hyperplane_at(self.oracle, start, end, kinks, i) for i in range(len(kinks.t))]
        return [Bend(start + t * (end - start), plane) for t, plane in zip(kinks.t, planes, strict=True) if plane]

    def settle(self) -> None:
        """Leave out boundaries that are another again, and those that got stuck and begin on one that did not."""
        kept: list[Boundary] = []
        for boundary in self.whole:
            if not any(boundary.same_as(other) for other in kept):
                kept.append(boundary)
        stuck = [
            boundary
            for boundary in self.boundaries
            if not boundary.known.all()
            and not any(one.passes(boundary.places[0][0], self.oracle.radius) for one in kept)
        ]
        self.boundaries = kept + stuck

    def stand_upright(self) -> None:
        """Turn the units of the first layer round that point the other way, if that can be told.

        Such a unit leaves −weight·normal in the slope of every boundary.
        """
        if not self.whole:
            return
        weights = np.array([boundary.weights for boundary in self.whole])
        traces = np.einsum("jk,kd->jdk", -weights, self.planes.normals).reshape(-1, weights.shape[1])
        turned, self.defect = flips(traces, np.concatenate([boundary.slope for boundary in self.whole]))
        if turned is not None:
            upright = self.planes.turned(turned)
            self.boundaries = [boundary.turned(turned, upright) for boundary in self.boundaries]
            self.planes, self.upright = upright, True
