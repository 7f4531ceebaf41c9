"""Gradient flow of shallow univariate ReLU networks: in all weights, and in parameters without redundancy (figE2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

ACCEPTED = 0.02  # a step may be off what the linearised flow predicts by this share of the residual
FIRST_STEP = 1e-6
Velocity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Shallow:
    """The network x ↦ Σ cᵢ·relu(aᵢx − bᵢ)/α, with knots bᵢ/aᵢ.

    Source: paper E2.

    Attributes:
        a, b, c: the weights, each (m,).
        alpha: the scale α.

    >>> float(Shallow(np.array([2.0]), np.array([1.0]), np.array([3.0]), 10.0)(np.array([1.5]))[0])
    0.6
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    alpha: float

    @staticmethod
    def on_a_grid(m: int, w: float, c: float, alpha: float, reach: float) -> Shallow:
        """Return a network that is 0: aᵢ = ±w, knots on a grid of [−reach, reach], each with c and with −c.

        A grid in place of uniform draws: their scatter, of order 1/√m, would hide the limit.

        Raises:
            ValueError: if m is no multiple of four.
        """
        if m % 4:
            raise ValueError(f"m must be a multiple of 4, two slopes and two signs at each knot, not {m}")
        knots = np.linspace(-reach, reach, m // 4)
        a = np.repeat([w, w, -w, -w], m // 4)
        return Shallow(a, a * np.tile(knots, 4), np.repeat([c, -c, c, -c], m // 4), alpha)

    @property
    def m(self) -> int:
        """The number of units."""
        return len(self.a)

    @property
    def knots(self) -> np.ndarray:
        """The points bᵢ/aᵢ where units bend (m,)."""
        return np.asarray(self.b / self.a)

    @property
    def conserved(self) -> np.ndarray:
        """What the flow conserves, δᵢ = cᵢ² − aᵢ² − bᵢ² (m,)."""
        return np.asarray(self.c**2 - self.a**2 - self.b**2)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Return the preactivations (n, m)."""
        return np.asarray(np.multiply.outer(x, self.a) - self.b)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs (n,)."""
        return np.asarray(np.maximum(self.hidden(x), 0) @ self.c / self.alpha)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Return the derivatives of the outputs by (a, b, c) (n, 3m)."""
        s = self.hidden(x)
        active = self.c * (s > 0)
        return np.concatenate([active * x[:, None], -active, np.maximum(s, 0)], axis=1) / self.alpha

    def moved(self, step: np.ndarray) -> Shallow:
        """Return the network with a step (3m,) added to its weights."""
        a, b, c = step.reshape(3, -1)
        return replace(self, a=self.a + a, b=self.b + b, c=self.c + c)


@dataclass(frozen=True)
class Fit:
    """Where the flow came to: the network, the steps it took, and the largest residual at a sample."""

    network: Shallow
    steps: int
    residual: float


def fitted(network: Shallow, x: np.ndarray, y: np.ndarray, tolerance: float, max_steps: int) -> Fit:
    """Follow the gradient flow of ½Σ(f(xⱼ) − yⱼ)² until no residual is larger than a tolerance.

        θ ← θ − Jᵀ·K⁻¹(1 − exp(−K·t))·r,    K = JJᵀ,  r = f(x) − y

    A step of the exponential Euler method is the exact flow of the linearised network, so that t may be as large as
    the linearisation is good: plain descent needs t below 1/λmax, and K has condition numbers of 10⁵.

    Args:
        network: where the flow begins.
        x, y: samples (n,).
        tolerance: of the largest |rⱼ|.
        max_steps: after which it stops anyway.
    """
    residual, time, steps = network(x) - y, FIRST_STEP, 0
    while np.abs(residual).max() > tolerance and steps < max_steps:
        J = network.jacobian(x)
        rates, modes = np.linalg.eigh(J @ J.T)
        rates = np.maximum(rates, np.finfo(float).tiny)
        start = modes.T @ residual
        while True:
            moved = network.moved(J.T @ (modes @ (np.expm1(-rates * time) / rates * start)))
            predicted, found = modes @ (np.exp(-rates * time) * start), moved(x) - y
            if np.linalg.norm(found - predicted) <= ACCEPTED * np.linalg.norm(residual):
                break
            time /= 2
        network, residual, time, steps = moved, found, 1.5 * time, steps + 1
    return Fit(network, steps, float(np.abs(residual).max()))


def full_flow(network: Shallow, x: np.ndarray, y: np.ndarray, times: np.ndarray, step: float) -> list[Shallow]:
    """Return the networks that the gradient flow in all weights reaches at given times."""

    def velocity(weights: np.ndarray) -> np.ndarray:
        a, b, c = weights.reshape(3, -1)
        here = replace(network, a=a, b=b, c=c)
        return np.asarray(-here.jacobian(x).T @ (here(x) - y))

    start = np.concatenate([network.a, network.b, network.c])
    weights = integrated(velocity, start, times, step)
    return [replace(network, **dict(zip("abc", column.reshape(3, -1), strict=True))) for column in weights]


@dataclass(frozen=True)
class Reduced:
    """The same functions without redundancy: Σ rᵢ·relu(x·cos θᵢ − sin θᵢ)/α, r = c·‖(a, b)‖, θ the angle of (a, b).

    Attributes:
        r, theta: each (m,).
        alpha: the scale α.
    """

    r: np.ndarray
    theta: np.ndarray
    alpha: float

    @staticmethod
    def of(network: Shallow) -> Reduced:
        """Return the parameters of a network."""
        return Reduced(network.c * np.hypot(network.a, network.b), np.arctan2(network.b, network.a), network.alpha)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """Return the preactivations of directions of length 1 (n, m)."""
        return np.asarray(np.multiply.outer(x, np.cos(self.theta)) - np.sin(self.theta))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs (n,)."""
        return np.asarray(np.maximum(self.hidden(x), 0) @ self.r / self.alpha)


def reduced_flow(network: Shallow, x: np.ndarray, y: np.ndarray, times: np.ndarray, step: float) -> list[Reduced]:
    """Return what the flow of the reduced parameters alone reaches at given times, from a network's δ, r and θ.

        r′ = −√(δ² + 4r²)·G,    θ′ = −(r/w²)·H,    w² = (√(δ² + 4r²) − δ)/2

    with G and H the derivatives of the loss by r and, over r, by θ: since (c² + w²)² = δ² + 4r² for w = ‖(a, b)‖, the
    rates of r = cw and θ in the flow of all weights are functions of r and θ.

    Source: paper E2 (dynamics in a non-redundant parametrisation); the form is derived here.
    """
    delta = network.conserved
    start = Reduced.of(network)

    def velocity(parameters: np.ndarray) -> np.ndarray:
        r, theta = parameters.reshape(2, -1)
        here = Reduced(r, theta, network.alpha)
        s, residual = here.hidden(x), here(x) - y
        slope = -np.multiply.outer(x, np.sin(theta)) - np.cos(theta)  # of s by θ
        G = residual @ np.maximum(s, 0) / network.alpha
        H = residual @ ((s > 0) * slope) / network.alpha
        size = np.sqrt(delta**2 + 4 * r**2)
        return np.concatenate([-size * G, -r / ((size - delta) / 2) * H])

    parameters = integrated(velocity, np.concatenate([start.r, start.theta]), times, step)
    return [Reduced(r=column[: network.m], theta=column[network.m :], alpha=network.alpha) for column in parameters]


def integrated(velocity: Velocity, start: np.ndarray, times: np.ndarray, step: float) -> np.ndarray:
    """Return the states at the times (times, states) of an autonomous differential equation, by Runge and Kutta's rule.

    Steps are of one size: the velocity jumps where a knot meets a sample, and a knot that both sides drive there stays
    and slides along the jump, for which a rule that adapts its steps would take ever smaller ones.
    """
    states, state, now = [], start, 0
    for time in times:
        for _ in range(round(time / step) - now):
            k1 = velocity(state)
            k2 = velocity(state + step / 2 * k1)
            k3 = velocity(state + step / 2 * k2)
            k4 = velocity(state + step * k3)
            state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        now = round(time / step)
        states.append(state)
    return np.array(states)
