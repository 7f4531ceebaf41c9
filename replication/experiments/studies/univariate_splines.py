"""What shallow univariate ReLU networks are compared with: data, splines, the exact limit of fixed knots (figE2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.stats import norm

NEAR = 0.05  # of the mean spacing of samples: a knot within it is at a sample


@dataclass(frozen=True)
class Samples:
    """Samples of a function in [−1, 1].

    Attributes:
        x: their places, increasing (n,).
        y: their values (n,).
    """

    x: np.ndarray
    y: np.ndarray

    @staticmethod
    def draw(wave: str, period: float, n: int, jitter: float, seed: int) -> Samples:
        """Draw n samples of a wave at the middles of n equal parts of [−1, 1], moved by at most jitter of a part.

        Args:
            wave: "square", +1 and then −1 from −1 on, or "sine".
            period: of the wave.
            n: of samples.
            jitter: the largest shift, as a share of the spacing.
            seed: of the shifts.

        Raises:
            ValueError: if the wave is another.
        """
        spacing = 2 / n
        x = -1 + spacing * (np.arange(n) + 0.5 + jitter * np.random.default_rng(seed).uniform(-1, 1, n))
        phase = np.sin(2 * math.pi * (x + 1) / period)
        if wave not in ("square", "sine"):
            raise ValueError(f'wave must be "square" or "sine", not {wave!r}')
        return Samples(x, np.where(phase > 0, 1.0, -1.0) if wave == "square" else phase)

    @property
    def size(self) -> float:
        """The range of the values, which distances are relative to."""
        return float(np.ptp(self.y))

    def grid(self, points: int) -> np.ndarray:
        """Return equidistant points from the first sample to the last."""
        return np.linspace(self.x[0], self.x[-1], points)

    def cubic(self, grid: np.ndarray) -> np.ndarray:
        """Return the natural cubic spline."""
        return np.asarray(CubicSpline(self.x, self.y, bc_type="natural")(grid))

    def linear(self, grid: np.ndarray) -> np.ndarray:
        """Return the linear interpolant."""
        return np.asarray(np.interp(grid, self.x, self.y))

    def least_variation(self) -> float:
        """Return the total variation of the slope of the linear interpolant: no interpolant has less."""
        return float(np.abs(np.diff(np.diff(self.y) / np.diff(self.x))).sum())

    def free_intervals(self) -> np.ndarray:
        """Return which intervals between samples (n − 1,) functions of least variation need not cross on a line.

        Those at both of whose ends the linear interpolant bends to the same side.
        """
        bends = np.diff(np.diff(self.y) / np.diff(self.x))
        bends = np.concatenate([[0.0], np.where(np.abs(bends) > 1e-9 * np.abs(bends).max(), bends, 0), [0.0]])
        return np.asarray(bends[:-1] * bends[1:] > 0)

    def in_free_intervals(self, grid: np.ndarray) -> np.ndarray:
        """Return which points of a grid lie in such an interval."""
        place = np.clip(np.searchsorted(self.x, grid, side="right") - 1, 0, len(self.x) - 2)
        return self.free_intervals()[place]

    def share_near(self, knots: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Return the share of the knots between the first and the last sample that are at a sample, weighted."""
        near = NEAR * (self.x[-1] - self.x[0]) / (len(self.x) - 1)
        weights = np.ones_like(knots) if weights is None else weights
        within = weights * ((knots >= self.x[0] - near) & (knots <= self.x[-1] + near))
        at_a_sample = np.abs(np.subtract.outer(knots, self.x)).min(axis=1) <= near
        return float((within * at_a_sample).sum() / within.sum())


def variation_of_slope(values: np.ndarray, grid: np.ndarray) -> float:
    """Return the total variation of the slope of what has these values on an equidistant grid."""
    return float(np.abs(np.diff(values, 2)).sum() / (grid[1] - grid[0]))


def fixed_knots(a: np.ndarray, b: np.ndarray, samples: Samples, grid: np.ndarray) -> np.ndarray:
    """Return the interpolant Σ cᵢ·relu(aᵢx − bᵢ) of least Σcᵢ² at the points of a grid.

    It is the limit of the gradient flow from c = 0 as the weights a and b outweigh c, so that they stay.
    """
    features, at_grid = (np.maximum(np.multiply.outer(x, a) - b, 0) for x in (samples.x, grid))
    weights = features.T @ np.linalg.solve(features @ features.T, samples.y)
    return np.asarray(at_grid @ weights)


def initial_law(law: str, knots: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights a and b (2·knots,) whose knots are the quantiles of a law, so that nothing is left to chance.

    - uniform: a = ±1, knots uniform in [−reach, reach];
    - normal knots: a = ±1, knots standard normal;
    - normal weights: (a, b) standard normal, which have the kernel of directions that are uniform on the circle.

    Raises:
        ValueError: if the law is another.
    """
    middles = (np.arange(knots) + 0.5) / knots
    if law == "normal weights":
        angle = 2 * math.pi * (np.arange(2 * knots) + 0.5) / (2 * knots)
        return np.cos(angle), np.sin(angle)
    places = {"uniform": reach * (2 * middles - 1), "normal knots": norm.ppf(middles)}
    if law not in places:
        raise ValueError(f'law must be "uniform", "normal knots" or "normal weights", not {law!r}')
    a = np.repeat([1.0, -1.0], knots)
    return a, a * np.tile(places[law], 2)
