"""Recovering a ReLU network from what it answers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from replication.checks import check_counts, check_numbers
from replication.recovery.deep import Deep, assembled
from replication.recovery.oracle import Array, Function, Oracle, OutOfQueriesError, RefusedError, in_ball
from replication.recovery.report import deep_recovery, shallow_recovery, stopped
from replication.recovery.result import Recovery, RecoveryStatus
from replication.recovery.search import Found, look_along, random_segment, search_first_layer
from replication.recovery.second_layer import SecondLayer
from replication.recovery.shallow import Planes, Shallow, fitted

FITTED = 1e-8  # largest error, relative to the range of the outputs, of a network that is the function
CHECKS = 4000  # more points for two hidden layers, whose units may hardly ever be on
REPAIRS = 6  # searches along more segments while the network is wrong


def recover_network(
    f: Function,
    inputs: int,
    *,
    centre: Tensor | None = None,
    radius: float | None = None,
    max_queries: int = 2_000_000,
    seed: int = 0,
) -> Recovery:
    """Recover the architecture, weights and biases of a ReLU network from its outputs alone.

    The function bends along the hyperplanes of the first layer, and the boundaries of deeper units bend where they
    meet those of earlier ones.

    Source: paper E1 (Rolnick and Kording, ICML 2020), theorems 1 to 3; the procedure is reconstructed (A18).

    Args:
        f: maps rows (rows, d) in float64 to rows (rows, m) in float64, each by itself.
        inputs: d.
        centre: of the ball in which to look (d,); the origin if None.
        radius: of that ball; 10·√d if None, which suits inputs of about unit size.
        max_queries: rows that f may be asked for.
        seed: of the lines on which to look.

    Returns:
        What was recovered, with a status that does not need the truth.

    Raises:
        TypeError: if f does not return a float64 tensor, or a setting is of the wrong type.
        ValueError: if f returns other shapes or numbers that are not finite, or a setting is out of range.

    >>> import torch
    >>> f = lambda x: torch.relu(x[:, :1] - 2 * x[:, 1:] + 1) - 3 * torch.relu(x[:, 1:] - 0.5)
    >>> recovery = recover_network(f, inputs=2)
    >>> recovery.status.name, recovery.architecture
    ('RECOVERED', (2, 2, 1))
    """
    check_counts(1, inputs=inputs, max_queries=max_queries)
    check_counts(0, seed=seed)
    oracle = Oracle(f, centre_of(centre, inputs), radius_of(radius, inputs), max_queries)
    found = Found()
    try:
        oracle.calibrate(generator := np.random.default_rng(seed))
        return searched(oracle, found, generator)
    except RefusedError as refusal:
        return stopped(oracle, found, RecoveryStatus.REFUSED, str(refusal))
    except OutOfQueriesError:
        reason = f"{max_queries} queries were not enough: {len(found.planes)} units of the first layer were found"
        return stopped(oracle, found, RecoveryStatus.OUT_OF_QUERIES, reason)


def centre_of(centre: object, inputs: int) -> Array:
    """Return the centre as an array (d,), the origin where it is None."""
    if centre is None:
        return np.zeros(inputs)
    check_numbers(centre=centre)
    assert isinstance(centre, Tensor)
    if centre.shape != (inputs,):
        raise ValueError(f"centre must have the shape ({inputs},), not {tuple(centre.shape)}")
    return np.asarray(centre.detach().double().cpu().numpy())


def radius_of(radius: object, inputs: int) -> float:
    """Return the radius, 10·√d where it is None."""
    if radius is None:
        return float(10 * inputs**0.5)
    if not isinstance(radius, (int, float)) or isinstance(radius, bool):
        raise TypeError(f"radius must be a number, not {radius!r}")
    if not 0 < radius < float("inf"):
        raise ValueError(f"radius must be positive and finite, not {radius}")
    return float(radius)


def searched(oracle: Oracle, found: Found, generator: np.random.Generator) -> Recovery:
    """Look for the first layer and, where it is not all, for the second."""
    search_first_layer(oracle, found, generator)
    for turn in range(REPAIRS):
        y, values = sample(oracle, generator, 0)
        shallow = fitted(oracle, first_planes(oracle, found), y[::2], values[::2])
        wrong = largest(shallow, y, values) > FITTED
        if not wrong.any():
            return shallow_recovery(oracle, shallow, float(largest(shallow, y[1::2], values[1::2]).max()))
        if found.bends and found.planes and turn >= REPAIRS // 2:
            return searched_deeper(oracle, found, generator)
        look_along(oracle, found, *random_segment(oracle, generator, 1.0), generator)
    reason = f"{len(found.planes)} units of a first layer were found, but no network of them is the function"
    return stopped(oracle, found, RecoveryStatus.PARTLY, reason)


def searched_deeper(oracle: Oracle, found: Found, generator: np.random.Generator) -> Recovery:
    """Look for the second layer, where there are bends that are none of the first layer's, until it is the function."""
    second = SecondLayer(oracle, first_planes(oracle, found), generator)
    second.search(found)
    y, values = sample(oracle, generator, len(found.planes))
    for _ in range(REPAIRS):
        error, network, known = best_fit(second, y, values)
        wrong = y[largest(network, y, values) > FITTED]
        if error <= FITTED or not second.upright:
            break
        ends = wrong[generator.integers(len(wrong), size=2)]
        second.search_along([(ends[0], -ends[0]), (ends[0], ends[1])])
    return deep_recovery(second, network, known, error, error <= FITTED)


def best_fit(second: SecondLayer, y: Array, values: Array) -> tuple[float, Deep, bool]:
    """Return error, network, and whether its signs are known: of all units found, or of the whole ones alone."""
    trials: list[tuple[float, Deep, bool]] = []
    for boundaries in (second.boundaries, second.whole):
        network, known = assembled(second, boundaries, y[::2], values[::2]).signs()
        trials.append((float(largest(network, y[1::2], values[1::2]).max()), network, known))
    return min(trials, key=lambda trial: trial[0])


def first_planes(oracle: Oracle, found: Found) -> Planes:
    """Return the units found of the first layer."""
    return Planes.of(found.planes, oracle.inputs, oracle.outputs)


def sample(oracle: Oracle, generator: np.random.Generator, units: int) -> tuple[Array, Array]:
    """Return points near and far (rows, d), enough to fit so many units' weights and to check them, and the outputs."""
    count = 4 * (oracle.inputs + units + 10) + (CHECKS if units else 0)
    y = in_ball(generator, count, oracle.inputs, oracle.radius)
    y[::4] *= 0.1
    y[1::4] *= 0.1
    return y, oracle(y)


def largest(network: Shallow | Deep, y: Array, values: Array) -> Array:
    """Return the largest error of a network at each point (rows,)."""
    errors: Array = np.abs(network(y) - values).max(axis=1)
    return errors
