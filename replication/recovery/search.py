"""The search for units of the first layer, and for places where deeper ones bend, along random segments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from replication.recovery.hyperplanes import SAME, bends_everywhere, hyperplane_at, measured_again
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Array, Oracle, directions, in_ball
from replication.recovery.pieces import Hyperplane
from replication.recovery.shallow import Planes

PATIENCE = 4  # segments in a row that bring nothing new
SEGMENTS = 60
SCALES = (1.0, 1.0, 0.3, 1.0, 0.1)  # of the segments, in radii, by turns


@dataclass(frozen=True)
class Bend:
    """A kink of a deeper unit: a place (d,) and the hyperplane of its boundary there."""

    place: Array
    plane: Hyperplane


@dataclass
class Found:
    """What has been seen of the black box so far.

    Attributes:
        planes: units of the first layer.
        bends: kinks that are none of theirs.
        unclear: kinks that could not be measured.
    """

    planes: list[Hyperplane] = field(default_factory=list)
    bends: list[Bend] = field(default_factory=list)
    unclear: int = 0


def random_segment(oracle: Oracle, generator: np.random.Generator, scale: float) -> tuple[Array, Array]:
    """Return two nearly opposite points at a scale times the radius, with most hyperplanes near the centre between."""
    reach = scale * oracle.radius
    v = directions(generator, 1, oracle.inputs)[0]
    off = in_ball(generator, 2, oracle.inputs, 0.1 * reach)
    return reach * v + off[0], -reach * v + off[1]


def search_first_layer(oracle: Oracle, found: Found, generator: np.random.Generator) -> None:
    """Look along random segments until a few in a row bring no new unit of the first layer."""
    quiet = 0
    for turn in range(SEGMENTS):
        segment = random_segment(oracle, generator, SCALES[turn % len(SCALES)])
        quiet = 0 if look_along(oracle, found, *segment, generator) else quiet + 1
        if quiet == PATIENCE:
            break


def look_along(oracle: Oracle, found: Found, start: Array, end: Array, generator: np.random.Generator) -> bool:
    """Sort the kinks on a segment into what has been seen; return whether there is a new unit of the first layer."""
    kinks = kinks_on_segment(
        oracle, start, end, Planes.of(found.planes, oracle.inputs, oracle.outputs).places(start, end)
    )
    new: list[Hyperplane] = []
    for i, t in enumerate(kinks.t):
        place = start + t * (end - start)
        if any(abs(plane(place)) < SAME * oracle.radius for plane in new):
            continue
        plane = hyperplane_at(oracle, start, end, kinks, i)
        if plane is None:
            found.unclear += 1
        elif bends_everywhere(oracle, plane, generator):
            new.append(plane)
        else:
            found.bends.append(Bend(place, plane))
    others = [*found.planes, *new]
    for plane in new:
        found.planes.append(measured_again(oracle, plane, [one for one in others if one is not plane], generator))
    return bool(new)
