"""Random networks recovered from their outputs, and the bends of boundaries in the plane (figE1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication.experiments.results import Result
from replication.recovery import Recovery, RecoveryStatus, recover_network
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Array, Oracle

Task = tuple[str, tuple[int, ...], int]  # "network" or "trained", widths, seed

TEST_POINTS = 2000
STEPS = 300  # of training
RADIUS = 30.0  # around the mean image, in which boundaries of trained networks are sought
SAME = 1e-5  # of two normals: which unit a recovered one is
CIRCLE = 1e-3  # half the side of the square around a crossing on which its four kinks are sought
APART = 5.0  # in such sides: crossings nearer than that to another boundary are left out


def recoveries(
    networks: Sequence[Mapping[str, Any]],
    trained: Sequence[Mapping[str, Any]],
    plane: Sequence[int],
    plane_seeds: Sequence[int],
    lines: int,
    window: float,
    workers: int,
    seed: int,
) -> Result:
    """Recover random networks with normal weights of variance 2/inputs and standard normal biases.

    Source: paper E1; assumptions A18 and A19.

    Args:
        networks: for each kind `widths` of all layers, inputs and outputs included, and the `count` of networks.
        trained: the same for networks trained on scikit-learn's digits, 8×8 numbers from 0 to 1.
        plane: widths of networks on two inputs, whose boundaries' bends are measured.
        plane_seeds: of these.
        lines: of each direction, across the window, on which the boundaries of the first of them are sought.
        window: half its side.
        workers: processes that recover networks at once.
        seed: of the first network of each kind; the next have the next seeds.

    Returns:
        A table with a row for each network, as `comparison` makes it, and for each crossing of two boundaries in the
        plane, as `bends` makes it, told apart by `kind`; arrays `seen` (n, 3), kinks seen in the plane and the layer
        that they belong to, and `weights` of that network, flattened.
    """
    rows: list[dict[str, object]] = []
    tasks = [
        (name, tuple(kind["widths"]), seed + case)
        for name, kinds in (("trained", trained), ("network", networks))
        for kind in kinds
        for case in range(kind["count"])
    ]
    rows += track(in_processes(tasks, workers), "networks", total=len(tasks))
    for case in plane_seeds:
        found = bends(random_network(plane, case), window)
        rows += [{"kind": "crossing", "seed": case, "widths": "-".join(map(str, plane))} | row for row in found]
    first = random_network(plane, plane_seeds[0])
    flat = torch.cat([parameter.flatten() for parameter in first.parameters()]).detach().numpy()
    return Result(pd.DataFrame(rows), {"seen": seen_kinks(first, lines, window), "weights": flat})


def in_processes(tasks: Sequence[Task], workers: int) -> Iterator[dict[str, object]]:
    """Yield the rows of networks in their order."""
    if workers == 1:
        yield from map(compared, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(compared, tasks)


def compared(task: Task) -> dict[str, object]:
    """Return the row of a network, random or trained, of these widths and this seed."""
    torch.set_num_threads(1)
    name, widths, seed = task
    if name == "network":
        network = random_network(widths, seed)
        recovery = recover_network(network, widths[0], seed=seed)
    else:
        network, centre = trained_network(widths, seed)
        recovery = recover_network(network, widths[0], centre=centre, radius=RADIUS, seed=seed)
    return {"kind": name, "seed": seed} | comparison(network, recovery)


def trained_network(widths: Sequence[int], seed: int) -> tuple[nn.Sequential, Tensor]:
    """Return a network trained on all of scikit-learn's digits, and the mean of the images (64,)."""
    data = load_digits()
    x, labels = torch.tensor(data.data / 16), torch.tensor(data.target)
    network = random_network(widths, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    return network, x.mean(dim=0)


def random_network(widths: Sequence[int], seed: int) -> nn.Sequential:
    """Return a ReLU network with normal weights of variance 2/inputs and standard normal biases."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[nn.Module] = []
    for d, h in pairwise(widths):
        layer = nn.Linear(d, h, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(h, d, generator=generator, dtype=torch.float64) * math.sqrt(2 / d))
            layer.bias.copy_(torch.randn(h, generator=generator, dtype=torch.float64))
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@torch.no_grad()
def comparison(network: nn.Sequential, recovery: Recovery) -> dict[str, object]:
    """Compare a recovery with the truth.

    Returns:
        widths, hidden_layers, parameters, queries, status, architecture_exact, first_layer_found (share of its units,
        to 1e-5), weight_error (largest, of all layers' rows of weights and bias scaled to length one in weights; over
        all units, infinite where one is missing), function_error (at 2000 points, standard normal times two), signs
        (whether all of the first layer's are right), uncrossable (pairs of a second-layer unit and a plane that its
        boundary cannot cross), defect.
    """
    layers = [part for part in network if isinstance(part, nn.Linear)]
    widths = [layers[0].in_features, *(layer.out_features for layer in layers)]
    x = 2 * torch.randn(TEST_POINTS, widths[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    difference = recovery.network(x) - network(x) if recovery.network is not None else torch.tensor(math.inf)
    errors, found, signs = weight_errors(layers, recovery)
    return {
        "widths": "-".join(map(str, widths)),
        "hidden_layers": len(layers) - 1,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "queries": recovery.queries,
        "status": recovery.status.name.lower(),
        "whole": recovery.status in (RecoveryStatus.RECOVERED, RecoveryStatus.FUNCTION),
        "architecture_exact": list(recovery.architecture) == widths,
        "first_layer_found": found,
        "weight_error": max(errors),
        "function_error": float(difference.abs().max()),
        "signs": signs,
        "uncrossable": uncrossable(layers) if len(layers) == 3 else 0,
        "defect": recovery.defect,
    }


def weight_errors(layers: Sequence[nn.Linear], recovery: Recovery) -> tuple[list[float], float, bool]:
    """Return the largest error of each layer's units, the share of the first's found, and if its signs are right.

    Units are matched up to order and, where the recovery does not claim their signs, up to sign; each layer's weights
    are scaled as the one before was.
    """
    errors: list[float] = []
    order: Tensor | None = None
    scale = torch.ones(layers[0].in_features, dtype=torch.float64)
    found, signs = 0.0, False
    for depth, layer in enumerate(layers[:-1]):
        if depth >= len(recovery.layers):
            return [*errors, math.inf], found, signs
        got = recovery.layers[depth]
        true = torch.cat([layer.weight * scale, layer.bias[:, None]], dim=1)
        norm = true[:, :-1].norm(dim=1)
        true = true / norm[:, None]
        weight = got.weight if order is None else got.weight[:, order]
        guess = torch.cat([weight, got.bias[:, None]], dim=1)
        guess = guess / guess[:, :-1].norm(dim=1, keepdim=True)
        cosines = guess[:, :-1] @ true[:, :-1].T
        match = cosines.abs().nan_to_num(0).argmax(dim=0)
        sign = torch.sign(cosines[match, torch.arange(len(true))])
        error = (guess[match] * sign[:, None] - true).abs().amax(dim=1).nan_to_num(math.inf)
        errors.append(float(error.max()))
        if depth == 0:
            found, signs, order, scale = float((error < SAME).double().mean()), bool((sign > 0).all()), match, norm
    return errors, found, signs


def uncrossable(layers: Sequence[nn.Linear]) -> int:
    """Count the pairs of a second-layer unit and a plane of the first that its boundary cannot cross, for h₁ ≤ d.

    On plane k unit k is off, so the boundary crosses it iff another unit's weight has the sign opposite to the bias.
    """
    weight, bias = layers[1].weight, layers[1].bias
    against = (weight * bias[:, None] < 0).sum(dim=1, keepdim=True) - (weight * bias[:, None] < 0).long()
    return int((against == 0).sum())


def seen_kinks(network: nn.Sequential, lines: int, window: float) -> Array:
    """Return kinks in the plane (n, 3): place, and the layer, 1 where it lies on a plane that was recovered, else 2."""
    oracle = asked(network, window)
    planes = recover_network(network, 2).layers[0]
    places = []
    for along in np.linspace(-window, window, lines):
        for start, end in (((-window, along), (window, along)), ((along, -window), (along, window))):
            kinks = kinks_on_segment(oracle, np.array(start), np.array(end))
            places.append(np.array(start) + kinks.t[:, None] * (np.array(end) - np.array(start)))
    y = np.concatenate(places)
    away = np.abs(y @ planes.weight.numpy().T + planes.bias.numpy()).min(axis=1)
    return np.column_stack([y, np.where(away < 1e-6 * window, 1, 2)])


def asked(network: nn.Sequential, window: float) -> Oracle:
    """Return the oracle of a network on two inputs."""
    oracle = Oracle(network, np.zeros(2), window, 10**7)
    oracle.calibrate(np.random.default_rng(0))
    return oracle


def bends(network: nn.Sequential, window: float) -> Iterator[dict[str, object]]:
    """Measure, from outputs alone, the angles by which boundaries bend where two cross in the window.

    On a small square around the crossing each boundary makes two kinks; the boundary bends by the angle between them
    less a straight one.

    Yields:
        layers ("1-1" or "1-2"), angle (radians, by which the boundary of the deeper unit bends; for two of the first
        layer the larger of the two), true_angle, angle_error.
    """
    oracle = asked(network, window)
    first, second, _ = (part for part in network if isinstance(part, nn.Linear))
    for place, straight, true in crossings(first, second, window):
        kinks = around(oracle, place)
        if len(kinks) != 4:
            continue
        on = np.abs((kinks - place) @ straight.T).argsort(axis=0)[:2]  # the two kinks on each straight boundary
        pairs = [kinks[on[:, i]] for i in range(len(straight))]
        if len(straight) == 1:
            pairs.append(kinks[[i for i in range(4) if i not in on[:, 0]]])
        measured = [turn(pair - place) for pair in pairs]
        value = measured[1] if len(straight) == 1 else max(measured)
        yield {
            "layers": "1-2" if len(straight) == 1 else "1-1",
            "angle": value, "true_angle": true, "angle_error": abs(value - true),
        }  # fmt: skip


def crossings(first: nn.Linear, second: nn.Linear, window: float) -> Iterator[tuple[Array, Array, float]]:
    """Yield the crossings of the first layer's boundaries with each other and with the second's, from the true weights.

    Yields:
        Place (2,), unit normals of the boundaries that go straight on there (1 or 2, 2), and by what angle the other
        bends (0 where both go straight on).
    """
    W, b, V, c = (one.detach().numpy() for one in (first.weight, first.bias, second.weight, second.bias))
    norms = np.linalg.norm(W, axis=1)
    normals = W / norms[:, None]
    for k in range(len(W)):
        for place, j in on_line(W, b, V, c, k):
            off = np.abs(np.delete((W @ place + b) / norms, k))
            if j < 0:
                other = int(np.abs(np.where(np.arange(len(W)) == k, np.inf, W @ place + b)).argmin())
                off = np.abs(np.delete((W @ place + b) / norms, [k, other]))
            gradients = (V * (W @ place + b > 0)) @ W
            away = np.abs(V @ np.maximum(W @ place + b, 0) + c) / np.maximum(np.linalg.norm(gradients, axis=1), 1e-9)
            off = np.concatenate([off, np.delete(away, j) if j >= 0 else away])
            if np.abs(place).max() > window or off.min() < APART * CIRCLE:
                continue
            if j < 0:
                if k < other:
                    yield place, normals[[k, other]], 0.0
                continue
            on = (W @ place + b > 0) & (np.arange(len(W)) != k)
            less = (V[j] * on) @ W
            yield place, normals[[k]], angle(less, less + V[j, k] * W[k])


def on_line(W: Array, b: Array, V: Array, c: Array, k: int) -> Iterator[tuple[Array, int]]:
    """Yield the places (2,) on the k-th line where other lines cross it (−1) and where boundary j does (j)."""
    foot, along = -b[k] * W[k] / (W[k] @ W[k]), np.array([-W[k, 1], W[k, 0]]) / np.linalg.norm(W[k])
    others = np.delete(np.arange(len(W)), k)
    t = np.sort(-(W[others] @ foot + b[others]) / (W[others] @ along))
    for one in t:
        yield foot + one * along, -1
    edges = np.concatenate([[t[0] - 100], t, [t[-1] + 100]])
    u = (foot + edges[:, None] * along) @ W.T + b
    u[:, k] = 0
    g = np.maximum(u, 0) @ V.T + c
    for j in range(len(V)):
        for i in np.flatnonzero(g[:-1, j] * g[1:, j] < 0):
            share = g[i, j] / (g[i, j] - g[i + 1, j])
            yield foot + (edges[i] + share * (edges[i + 1] - edges[i])) * along, j


def angle(a: Array, b: Array) -> float:
    """Return the angle between two vectors (2,), in radians."""
    return float(abs(math.atan2(a[0] * b[1] - a[1] * b[0], a @ b)))


def turn(arms: Array) -> float:
    """Return by how much the way along two arms (2, 2) from a crossing turns there, in radians."""
    before, after = -arms[0], arms[1]
    return float(abs(math.atan2(before[0] * after[1] - before[1] * after[0], before @ after)))


def around(oracle: Oracle, place: Array) -> Array:
    """Return the kinks (n, 2) on a small square around a place."""
    corners = place + CIRCLE * np.array([[-1.0, -0.9], [1.0, -1.1], [1.1, 1.0], [-0.9, 1.0], [-1.0, -0.9]])
    found = []
    for start, end in pairwise(corners):
        kinks = kinks_on_segment(oracle, start, end)
        found.append(start + kinks.t[:, None] * (end - start))
    return np.concatenate(found)
