"""Recovering a ReLU network from what it answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from replication.checks import check_counts, check_numbers
from replication.recovery.oracle import Array, Function, Oracle, OutOfQueries, Refusal, in_ball
from replication.recovery.result import RecoveredLayer, RecoveredNetwork, Recovery, RecoveryStatus
from replication.recovery.search import Found, look_along, search_first_layer
from replication.recovery.shallow import Planes, Shallow, fitted

FITTED = 1e-8  # largest error, relative to the range of the outputs, of a network that is the function
REPAIRS = 10  # segments towards points where the network is wrong


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
    except Refusal as refusal:
        return stopped(oracle, found, RecoveryStatus.REFUSED, str(refusal))
    except OutOfQueries:
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
    for _ in range(REPAIRS):
        y, values = sample(oracle, generator)
        shallow = fitted(oracle, Planes.of(found.planes, oracle.inputs, oracle.outputs), y[0], values[0])
        wrong = np.abs(shallow(y[1]) - values[1]).max(axis=1) > FITTED
        if not wrong.any():
            return shallow_recovery(oracle, shallow, np.abs(shallow(y[1]) - values[1]).max())
        if found.bends:
            break
        look_along(oracle, found, y[1][wrong][0], -y[1][wrong][0], generator)
    return stopped(oracle, found, RecoveryStatus.PARTLY, "...")


def sample(oracle: Oracle, generator: np.random.Generator) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return points to fit and points to check, ((k, d), (l, d)), with the outputs there."""
    counts = 2 * (oracle.inputs + 1), 2 * (oracle.inputs + 1)
    near, far = (in_ball(generator, count, oracle.inputs, oracle.radius) for count in counts)
    near *= 0.1
    far[::2] *= 0.1
    values = oracle(np.concatenate([near, far]))
    return (near, far), (values[: counts[0]], values[counts[0] :])


def shallow_recovery(oracle: Oracle, shallow: Shallow, error: float) -> Recovery:
    """Say what a network of at most one hidden layer is that is the function."""
    network, known, defect = shallow.signs()
    planes, scale = network.planes, oracle.scale
    units = len(planes.offsets)
    constant = scale * (network.constant - network.slope @ oracle.centre)
    if not units:
        made = RecoveredNetwork([(scale * network.slope, constant)], {})
        reason = f"no kink within {oracle.radius:g} of the centre; affine to {error:.0e} there"
        return Recovery(RecoveryStatus.AFFINE, reason, made, (), (oracle.inputs, oracle.outputs), oracle.queries, error)
    layer = planes.normals, planes.offsets - planes.normals @ oracle.centre
    made = RecoveredNetwork(
        [layer, (scale * planes.strengths, constant)], {} if known else {(0, 1): scale * network.slope}
    )
    status = RecoveryStatus.RECOVERED if known else RecoveryStatus.FUNCTION
    reason = f"{units} hidden units; equal to {error:.0e} of the range at fresh points; {signs_in_words(known, defect)}"
    return Recovery(
        status, reason, made, (first_layer(planes, oracle, known),), (oracle.inputs, units, oracle.outputs),
        oracle.queries, error, defect,
    )  # fmt: skip


def signs_in_words(known: bool, defect: float) -> str:
    """Say whether the signs of the units are known."""
    if known:
        return f"their signs solve a system of 0 and 1 to {defect:.0e}"
    if defect == defect:
        return f"their signs would have to be 0 and 1, and are {defect:.1g} off"
    return "the outputs leave their signs open"


def first_layer(planes: Planes, oracle: Oracle, known: bool) -> RecoveredLayer:
    """Return the first layer as tensors, with biases for inputs that are not counted from the centre."""
    weight = torch.from_numpy(planes.normals)
    bias = torch.from_numpy(planes.offsets - planes.normals @ oracle.centre)
    return RecoveredLayer(weight, bias, torch.ones(len(bias), dtype=torch.bool), known)


def stopped(oracle: Oracle, found: Found, status: RecoveryStatus, reason: str) -> Recovery:
    """Say what was recovered when the search had to stop."""
    planes = Planes.of(found.planes, oracle.inputs, oracle.outputs)
    layers = (first_layer(planes, oracle, False),) if found.planes else ()
    widths = [len(found.planes)] if found.planes else []
    return Recovery(status, reason, None, layers, (oracle.inputs, *widths, oracle.outputs), oracle.queries)
