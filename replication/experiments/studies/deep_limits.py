"""ReLU networks of one width as they become deep: what converges, how fast, and with which weights (figE5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import SupportsFloat

import numpy as np
import pandas as pd
import torch
from scipy.linalg import expm
from scipy.special import zeta
from torch import nn

from replication import activation_pattern_product
from replication.experiments.data.images import ImageData
from replication.experiments.studies.many_networks import Samples, he_normal, train_together, wrong_percent

SHIFT = 0.1  # of the bias that carries outputs to zero
Row = dict[str, object]
Layer = tuple[np.ndarray, np.ndarray]  # W (d, d) and b (d, 1)
LayerOf = Callable[[int], Layer]  # of its number n = 1, 2, …


def row(part: str, case: str, quantity: str, value: SupportsFloat, depth: int = 0, p: float = float("nan")) -> Row:
    """Return one row of the table."""
    return {"part": part, "case": case, "p": p, "depth": depth, "quantity": quantity, "value": float(value)}


def deep_limits(
    data: ImageData,
    explicit: dict[str, int],
    width: int,
    inputs: int,
    depth: int,
    points: int,
    spectral_radius: float,
    powers: Sequence[float],
    random: dict[str, object],
    initialisation: dict[str, object],
    seed: int,
) -> pd.DataFrame:
    """Run deep networks N_n = relu(W_n·N_{n−1} + b_n), N₀ = relu(x), and measure how they approach a limit.

    Source: Xu and Zhang, Convergence of deep ReLU networks (2021); assumption A23.

    Args:
        data: on which the initialisations are tried.
        explicit: depth, width, inputs and networks of the explicit expression.
        width: of the networks whose limits are known.
        inputs: standard normal inputs of these.
        depth: largest number of layers.
        points: depths at which they are measured, evenly spaced in the logarithm.
        spectral_radius: of S ≥ 0 in W_n = exp(S·n^{−p}).
        powers: values of p > 1.
        random: powers, networks and depth of random perturbations.
        initialisation: settings as for `initialisations`.
        seed: of all draws.

    Returns:
        A row for each part, case, p, depth and quantity, with its value.
    """
    generator = np.random.default_rng(seed)
    S = generator.uniform(size=(width, width))
    S *= spectral_radius / np.abs(np.linalg.eigvals(S)).max()
    start = np.maximum(generator.normal(size=(width, inputs)), 0)
    depths = np.unique(np.geomspace(1, depth, points).round().astype(int))
    rows: list[Row] = list(explicit_errors(**explicit, seed=seed))
    for p in powers:
        rows += closed_form(S, p, start, depths)
    rows += boundary(S, start, depths, spectral_radius)
    for name, layer in cases(width, generator, depth).items():
        rows += trajectory(name, layer, start, depths)
    rows += random_perturbations(width=width, generator=generator, **random)  # type: ignore[arg-type]
    rows += initialisations(data, seed=seed, **initialisation)  # type: ignore[arg-type]
    return pd.DataFrame(rows)


def explicit_errors(depth: int, width: int, inputs: int, networks: int, seed: int) -> Iterator[Row]:
    """Yield the largest relative error of the explicit expression by activation matrices, in float64, by depth."""
    generator = torch.Generator().manual_seed(seed)
    for layers in sorted({1, depth // 5, depth}):
        worst = 0.0
        for _ in range(networks):
            network = nn.Sequential(
                *(part for _ in range(layers) for part in (nn.Linear(width, width, dtype=torch.float64), nn.ReLU()))
            )
            with torch.no_grad():
                for layer in network[::2]:
                    layer.weight.normal_(0, (2 / width) ** 0.5, generator=generator)  # type: ignore[operator]
                    layer.bias.normal_(0, 0.1, generator=generator)  # type: ignore[operator]
                x = torch.randn(inputs, width, dtype=torch.float64, generator=generator)
                y = network(x)
                error = (activation_pattern_product(network, x).value(x) - y).norm(dim=1) / y.norm(dim=1)
            worst = max(worst, float(error.max()))
        yield row("explicit", "random networks", "relative_error", worst, layers)


def outputs(layer: LayerOf, start: np.ndarray, depth: int) -> Iterator[tuple[int, Layer, np.ndarray, np.ndarray]]:
    """Yield the number of each layer, the layer, and the outputs (d, inputs) before and after it."""
    z = start
    for n in range(1, depth + 1):
        W, b = layer(n)
        before, z = z, np.maximum(W @ z + b, 0)
        yield n, (W, b), before, z


def exponentials(S: np.ndarray, p: float, depth: int) -> LayerOf:
    """Return the layers W_n = exp(S·n^{−p}), b_n = 0."""
    n = torch.arange(1, depth + 1, dtype=torch.float64)
    made = torch.linalg.matrix_exp(torch.as_tensor(S) * (n**-p)[:, None, None]).numpy()
    zero = np.zeros((len(S), 1))
    return lambda n: (made[n - 1], zero)


def closed_form(S: np.ndarray, p: float, start: np.ndarray, depths: np.ndarray) -> Iterator[Row]:
    """Yield the distance of the outputs from their limit exp(S·ζ(p))·relu(x), relative to it, and the tail of the sum.

    With S ≥ 0 all weights and preactivations are at least 0 and the matrices commute, so N_n = exp(S·Σ i^{−p})·relu(x).
    The tail is ‖S‖·Σ_{i>n} i^{−p}, which ‖W_i − I‖ approaches.
    """
    limit, size = expm(S * zeta(p)) @ start, np.linalg.norm(S, 2)
    name = f"exp(S/n^{p:g})"
    for n, _, _, z in outputs(exponentials(S, p, depths[-1]), start, depths[-1]):
        if n in depths:
            error = np.linalg.norm(z - limit, axis=0).max() / np.linalg.norm(limit, axis=0).max()
            yield row("sufficient", name, "error", error, n, p)
            yield row("sufficient", name, "tail", size * zeta(p, n + 1), n, p)


def boundary(S: np.ndarray, start: np.ndarray, depths: np.ndarray, radius: float) -> Iterator[Row]:
    """Yield the sizes of the outputs for p = 1, where they grow like n to the power of the spectral radius of S."""
    for n, _, _, z in outputs(exponentials(S, 1, depths[-1]), start, depths[-1]):
        if n in depths:
            yield row("boundary", "exp(S/n)", "norm", np.linalg.norm(z), n, 1)
            yield row("boundary", "exp(S/n)", "expected_norm_growth", n**radius, n, 1)


@dataclass(frozen=True)
class FromOutputs:
    """Layers made from the outputs that they are to have: N_n(x) = P_n·relu(x) + c_n, all units active.

    Attributes:
        P: P₀ = I, P₁, … (depth + 1, d, d), invertible, with entries at least 0.
        c: c₀ = 0, c₁, … (depth + 1, d, 1), at least 0.
    """

    P: np.ndarray
    c: np.ndarray

    def __call__(self, n: int) -> Layer:
        W = np.linalg.solve(self.P[n - 1].T, self.P[n].T).T  # P_n·P_{n−1}⁻¹
        return W, self.c[n] - W @ self.c[n - 1]

    @staticmethod
    def drawn(width: int, depth: int, generator: np.random.Generator, power: float = 1.5) -> FromOutputs:
        """Draw a limit with diagonally dominant P, and steps towards it that shrink like n^{−power}."""
        size = np.arange(1, depth + 1)[:, None, None] ** -power
        P = 2 * np.eye(width) + generator.uniform(size=(width, width)) / width
        P = np.concatenate([np.eye(width)[None], P + size * generator.uniform(size=(depth, width, width)) / width])
        c = 1 + size * generator.uniform(size=(depth, width, 1))
        return FromOutputs(P, np.concatenate([np.zeros((1, width, 1)), c]))


def cases(width: int, generator: np.random.Generator, depth: int) -> dict[str, LayerOf]:
    """Return networks that say what weights must do, and what they need not do, for outputs to converge."""
    eye, zero = np.eye(width), np.zeros((width, 1))
    projection = np.diag((np.arange(width) < width // 2).astype(float))

    def scalar(factor: Callable[[int], float]) -> LayerOf:
        return lambda n: (factor(n) * eye, zero)

    return {
        "invertible limit": FromOutputs.drawn(width, depth, generator),
        "W = ½I": lambda n: (0.5 * eye, zero),
        "W = projection": lambda n: (projection, zero),
        "W = I, b = −0.1": lambda n: (eye, zero - SHIFT),
        "W = permutation": lambda n: (np.roll(eye, 1, axis=0), zero),
        "W = (1 + 1/n)I": scalar(lambda n: 1 + 1 / n),
        "W = (1 + (−1)ⁿ/(n+1))I": scalar(lambda n: 1 + (-1) ** n / (n + 1)),
        "W = (1 + 1/n²)I": scalar(lambda n: 1 + 1 / n**2),
    }


def trajectory(name: str, layer: LayerOf, start: np.ndarray, depths: np.ndarray) -> Iterator[Row]:
    """Yield what a case does: size and change of its outputs, and how far its layers are from the identity.

    Sizes are Euclidean over all inputs, relative to that of N₀.
    """
    size = np.linalg.norm(start)
    for n, (W, b), before, z in outputs(layer, start, depths[-1]):
        if n in depths:
            found = {
                "norm": np.linalg.norm(z) / size,
                "change": np.linalg.norm(z - before) / size,
                "distance": np.linalg.norm(W - np.eye(len(W)), 2),
                "bias": np.linalg.norm(b),
            }
            for quantity, value in found.items():
                yield row("cases", name, quantity, value, n)


def random_perturbations(
    powers: Sequence[float], networks: int, depth: int, width: int, generator: np.random.Generator
) -> Iterator[Row]:
    """Yield how far outputs move from depth n to 3n, median over networks with W_n = I + G_n·n^{−p}, and Σ‖W_i − I‖_F.

    G_n has independent normal entries of variance 1/d. For p > ½ the outputs converge almost surely, although the sum
    diverges for p ≤ 1: given N_{n−1} the noise of every unit has mean 0, and E‖N_n‖² ≤ (1 + n^{−2p})·E‖N_{n−1}‖², so
    that its sum is a martingale bounded in L² and converges; and the rectified sum of a sequence whose sums converge
    converges too, N_n = S_n − min(−N₀, min_{k≤n} S_k) for each unit.
    """
    exponent = np.repeat(np.asarray(powers, float), networks)[:, None, None]
    z = np.abs(generator.normal(size=(len(exponent), width, 1)))
    marks = sorted({depth // 3**k for k in range(9) if depth // 3**k >= 1})
    kept, total = {}, np.zeros(len(exponent))
    for n in range(1, depth + 1):
        G = generator.normal(size=(len(exponent), width, width)) * width**-0.5 * float(n) ** -exponent
        total += np.sqrt(np.einsum("kij,kij->k", G, G))
        z = np.maximum(z + G @ z, 0)
        if n in marks:
            kept[n] = z
            for place, p in enumerate(powers):
                yield row("random", "normal", "distance_sum", total[place * networks :][:networks].mean(), n, p)
    for n, later in pairwise(marks):
        moved = np.linalg.norm(kept[later] - kept[n], axis=(1, 2)) / np.linalg.norm(kept[n], axis=(1, 2))
        for place, p in enumerate(powers):
            yield row("random", "normal", "change", np.median(moved[place * networks :][:networks]), later, p)


def initialisations(
    data: ImageData, depths: Sequence[int], width: int, power: float, steps: int, batch: int, rate: float,
    networks: int, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """Yield loss and test error of deep networks after a short training, from I + G_n·n^{−p} and from He's weights.

    First and last layer, which change the dimension, are He's in both.
    """
    data.setup()
    assert data.train is not None
    assert data.test is not None
    (images, labels), (others, targets) = (
        (part.tensors[0].flatten(1), part.tensors[1]) for part in (data.train, data.test)
    )
    rows = torch.arange(len(images)).expand(networks, -1)
    samples = Samples(images, rows, labels.expand(networks, -1), torch.full((networks,), len(images)))
    for depth in depths:
        for case in ("He", "I + G/n^p"):
            generator = torch.Generator().manual_seed(seed)
            weights = he_normal(networks, (images.shape[1], *[width] * depth, data.classes), generator)
            if case != "He":
                for n, W in enumerate(weights[1:-1], 2):
                    W.mul_(0.5**0.5 * float(n) ** -power).add_(torch.eye(width))
            trained, loss = train_together(
                weights, samples, partial(torch.optim.Adam, lr=rate), steps, batch, generator
            )  # fmt: skip
            found = wrong_percent(trained, others, targets)
            for quantity, values in (("loss", loss), ("test_error", found)):
                for place, value in enumerate(values.tolist()):
                    yield row("initialisation", case, f"{quantity}_{place}", value, depth, power)
