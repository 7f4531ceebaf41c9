"""Inputs with few active rows: the adversarial direction, and a search for leaner ones where layers collide."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from replication.relu_layers.collisions import Pair, colliding_pair
from replication.relu_layers.layer import Layer, unit


def adversarial_direction(W: Tensor) -> Tensor:
    """Return −Σⱼ wⱼ/‖wⱼ‖ (n,), along which few rows are active.

    Source: paper D (for Gaussian W with m < 3.4n it has fewer than n active rows, as n grows).

    Args:
        W: (m, n).

    >>> adversarial_direction(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
    tensor([-1., -1.])
    """
    return -torch.nn.functional.normalize(W, dim=1).sum(0)


def refutation(layer: Layer, generator: np.random.Generator) -> Pair | None:
    """Look for a colliding pair where the fewest rows are active: far out in chosen directions, and near the origin.

    >>> layer = Layer.of(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), None)
    >>> x1, x2 = refutation(layer, np.random.default_rng(0))
    >>> np.array_equal((layer.W @ x1).clip(0), (layer.W @ x2).clip(0)), np.array_equal(x1, x2)
    (True, False)
    """
    W, b = layer.W, layer.b
    n = W.shape[1]
    if np.linalg.matrix_rank(W) < n if len(W) else True:
        return colliding_pair(layer, np.zeros(n))
    points = lean_points(layer, generator)
    counts = np.count_nonzero(points @ W.T + b >= 0, axis=1)
    for place in np.argsort(counts, kind="stable")[:3]:
        pair = colliding_pair(layer, points[place])
        if pair is not None:
            return pair
    return None


def lean_points(layer: Layer, generator: np.random.Generator) -> np.ndarray:
    """Return points (k, n) with few active rows: far out, the origin, and where there are biases some about as far.

    >>> lean_points(Layer.of(torch.eye(2), None), np.random.default_rng(0)).shape
    (73, 2)
    """
    directions = np.concatenate([leanest_directions(layer.W, generator), beside_rows(layer, generator)])
    distances, origin = np.abs(layer.b), np.zeros((1, layer.W.shape[1]))
    if not distances.any():
        return np.concatenate([directions, origin])
    near = np.quantile(distances, generator.random(64)) * np.geomspace(0.01, 10, 64)
    near = near[:, None] * generator.standard_normal((64, layer.W.shape[1]))
    return np.concatenate([layer.far_out(directions), origin, near])


def leanest_directions(
    W: np.ndarray, generator: np.random.Generator, starts: int = 32, steps: int = 150, enough: int = 0
) -> np.ndarray:
    """Return directions (k, n) of norm 1 with few active rows, by descent of a smoothed number of active rows.

        minimise Σⱼ σ(⟨wⱼ,x⟩/τ) over the sphere, τ falling from 1/2 to 1/50 (in units of 1/√n)

    Starts are the adversarial direction and random ones; the best point on each path is returned, with its opposite.

    Args:
        W: (m, n).
        generator: of the random starts.
        starts, steps: of the descent.
        enough: it ends as soon as a direction with fewer active rows is found.

    >>> W = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> directions = leanest_directions(W, np.random.default_rng(0))
    >>> directions.shape, int((directions @ W.T >= 0).sum(axis=1).min())
    ((64, 2), 0)
    """
    n = W.shape[1]
    U = unit(W)
    x = unit(np.concatenate([-U.sum(0)[None], generator.standard_normal((starts - 1, n))]))
    best, fewest = x, np.full(starts, len(W) + 1)
    for tau in np.geomspace(0.5, 0.02, steps) / np.sqrt(n):
        along = x @ U.T
        counts = np.count_nonzero(along >= 0, axis=1)
        best = np.where((counts < fewest)[:, None], x, best)
        fewest = np.minimum(counts, fewest)
        if fewest.min() < enough:
            break
        slope = 1 - np.tanh(along / (2 * tau)) ** 2
        gradient = slope @ U
        gradient -= (gradient * x).sum(1, keepdims=True) * x
        x = unit(x - tau * unit(gradient))
    return np.concatenate([best, -best])


def beside_rows(layer: Layer, generator: np.random.Generator) -> np.ndarray:
    """Return the four directions ±x ± δwⱼ (4m, n), x orthogonal to wⱼ, for every row of a layer with m ≤ 2n rows.

    Where wⱼ has no opposite row the numbers of active rows at the four differ by one and add up to m twice, so one of
    them is below n: this proves the facts m < 2n and m = 2n of paper D.

    >>> layer = Layer.of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [1.0, -2.0]]), None)
    >>> directions = beside_rows(layer, np.random.default_rng(0))
    >>> bool(((directions @ layer.W.T >= 0).sum(axis=1).reshape(4, 4).min(axis=0) < 2).all())
    True
    """
    m, n = layer.W.shape
    if m > 2 * n:
        return np.empty((0, n))
    U = layer.unit_rows
    x = generator.standard_normal((m, n))
    x = unit(x - (x * U).sum(1, keepdims=True) * U)
    delta = 1e-4 * np.sort(np.abs(x @ U.T), axis=1)[:, 1:2] if m > 1 else np.ones((m, 1))
    sides = np.concatenate([x + delta * U, x - delta * U])
    return np.concatenate([sides, -sides])
