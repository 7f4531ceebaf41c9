"""A black box that is asked for outputs and counts how often, and what its outputs are good for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Function = Callable[[Tensor], Tensor]

SPACING = 1e-4  # of three points on a line that measure rounding, in radii
SAMPLES = 24
MARGIN = 64.0  # tolerance over the rounding that was measured
NOISE = 1e-9  # outputs rougher than this, relative to their range, are no float64 outputs of a network
CURVED = (
    30.0  # second differences of smooth functions fall by 100 when the spacing falls by 10; this tells them from noise
)


class RefusedError(Exception):
    """A black box that cannot be a ReLU network as it stands; the message says why."""


class OutOfQueriesError(Exception):
    """The black box may not be asked any more."""


class Oracle:
    """A function ℝᵈ → ℝᵐ of rows, around a centre, in units of its range, whose queries are counted.

    Attributes:
        queries: rows asked for so far.
        outputs: m.
        scale: unit of the outputs.
        tolerance: second differences below it are rounding.
    """

    def __init__(self, f: Function, centre: Array, radius: float, limit: int) -> None:
        self.f, self.centre, self.radius, self.limit = f, centre, radius, limit
        self.inputs, self.queries, self.scale, self.tolerance = len(centre), 0, 1.0, 0.0
        self.outputs = self(np.zeros((1, self.inputs))).shape[1]

    @torch.no_grad()
    def __call__(self, y: Array) -> Array:
        """Return the outputs (rows, m), in units of `scale`, at centre + y, y (rows, d).

        Raises:
            OutOfQueriesError: if there are more rows than may still be asked for.
            TypeError, ValueError: if the outputs are no finite float64 tensor (rows, m).
        """
        if self.queries + len(y) > self.limit:
            raise OutOfQueriesError
        self.queries += len(y)
        values = checked_outputs(self.f(torch.from_numpy(y + self.centre)), len(y))
        scaled: Array = values / self.scale
        return scaled

    def calibrate(self, generator: np.random.Generator) -> None:
        """Measure the range and the rounding of the outputs in the ball of the radius.

        Raises:
            RefusedError: if the outputs carry noise, or the function is curved.
        """
        y = in_ball(generator, SAMPLES, self.inputs, self.radius)
        v = directions(generator, SAMPLES, self.inputs) * SPACING * self.radius
        values = self(y)
        spread = float(np.abs(values - np.median(values, axis=0)).max())
        size = float(np.abs(values).max())
        self.scale = spread or size or 1.0
        values = values / self.scale
        rough = self.roughness(y, values, v)
        if rough > NOISE + 1e-12 * size / self.scale:
            if rough > CURVED * self.roughness(y, values, v / 10):
                raise RefusedError("the function is curved between its kinks, so it is not piecewise linear")
            raise RefusedError(
                f"the outputs carry noise of {rough:.0e} of their range, too much to tell the bends of a network; "
                "evaluate it in float64, without dropout and batch statistics"
            )
        self.tolerance = MARGIN * max(rough, 1e-16 * size / self.scale)

    def roughness(self, y: Array, values: Array, v: Array) -> float:
        """Return the median over points y (n, d) of the second differences over the steps ±v (n, d)."""
        bend = self(y + v) + self(y - v) - 2 * values
        return float(np.median(np.abs(bend).max(axis=1)))


def checked_outputs(values: Any, rows: int) -> Array:
    """Return what a black box gave as an array (rows, m).

    Raises:
        TypeError: if it is no tensor of float64.
        ValueError: if it is not finite or has another shape.
    """
    if not isinstance(values, Tensor) or values.dtype != torch.float64:
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"f must return a float64 tensor, not {kind}; convert the network: network.double()")
    if values.ndim != 2 or len(values) != rows or values.shape[1] == 0:
        raise ValueError(f"f must take rows ({rows}, d) to rows ({rows}, m), not to {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise ValueError("f has values that are not finite (NaN or infinity); choose a smaller radius")
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)


def directions(generator: np.random.Generator, rows: int, inputs: int) -> Array:
    """Return random unit vectors (rows, inputs)."""
    v = generator.standard_normal((rows, inputs))
    return np.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))


def in_ball(generator: np.random.Generator, rows: int, inputs: int, radius: float) -> Array:
    """Return points (rows, inputs) in random directions at distances uniform up to the radius."""
    return np.asarray(directions(generator, rows, inputs) * generator.uniform(0, radius, (rows, 1)))
