"""Recoveries told: what was found, in words, tensors and a network."""

from __future__ import annotations

import numpy as np
import torch

from replication.recovery.deep import Deep
from replication.recovery.oracle import Oracle
from replication.recovery.result import RecoveredLayer, RecoveredNetwork, Recovery, RecoveryStatus
from replication.recovery.search import Found
from replication.recovery.second_layer import SecondLayer
from replication.recovery.shallow import Planes, Shallow


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


def deep_recovery(second: SecondLayer, deep: Deep, known: bool, error: float, fits: bool) -> Recovery:
    """Say what a network of two hidden layers is, or, where it is not the function, what was found of it."""
    oracle, planes = second.oracle, deep.planes
    scale, units = oracle.scale, len(deep.biases)
    complete = np.array([boundary.known.all() for boundary in second.boundaries], dtype=bool)
    layers = (first_layer(planes, oracle, second.upright), second_layer(second, deep, known and fits))
    architecture = (oracle.inputs, len(planes.offsets), layers[1].bias.shape[0], oracle.outputs)
    if not fits:
        reason = (
            f"{architecture[1]} units of a first layer and {complete.sum()} of a second were found with all their "
            f"weights, {(~complete).sum()} in part; the network made of them is off by {error:.0e} of the range"
        )
        return Recovery(
            RecoveryStatus.PARTLY, reason, None, layers, architecture, oracle.queries, defect=deep.defect
        )  # fmt: skip
    first = planes.normals, planes.offsets - planes.normals @ oracle.centre
    made = RecoveredNetwork(
        [first, (deep.weights, deep.biases), (scale * deep.strengths, scale * deep.constant)],
        {} if known else {(1, 2): scale * deep.skip},
    )
    status = RecoveryStatus.RECOVERED if known and complete.all() else RecoveryStatus.FUNCTION
    reason = (
        f"{architecture[1]} and {units} hidden units; equal to {error:.0e} of the range at fresh points; "
        f"{signs_in_words(known, deep.defect)}"
    )
    return Recovery(status, reason, made, layers, architecture, oracle.queries, error, deep.defect)


def second_layer(second: SecondLayer, deep: Deep, known: bool) -> RecoveredLayer:
    """Return the second layer as tensors: the network's units where it is the function, else the boundaries found."""
    boundaries = second.boundaries
    complete = torch.tensor([bool(boundary.known.all()) for boundary in boundaries], dtype=torch.bool)
    if known and len(deep.biases) == len(boundaries):
        weight = torch.from_numpy(deep.weights).clone()
        weight[torch.tensor(np.array([~boundary.known for boundary in boundaries]))] = float("nan")
        return RecoveredLayer(weight, torch.from_numpy(deep.biases), complete, True)
    if known:
        return RecoveredLayer(torch.from_numpy(deep.weights), torch.from_numpy(deep.biases), complete[complete], True)
    h = len(deep.planes.offsets)
    weight = torch.tensor(np.array([boundary.weights for boundary in boundaries]).reshape(-1, h))
    bias = torch.tensor([boundary.offset for boundary in boundaries], dtype=torch.float64)
    return RecoveredLayer(weight, bias, complete, False)
