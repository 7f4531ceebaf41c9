"""How stable the inverse of a ReLU layer is: its constant, and its error under noise, against expansivity (figD4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from replication.experiments.data.ensembles import normal
from replication.relu_layers.stability import stability
from replication.rows import row_norm
from replication.units import InjectiveReLU


@torch.no_grad()
def noisy_inverses(
    sizes: Sequence[tuple[int, int]], expansivity: Sequence[float], inputs: int, pairs: int, noise: float, seed: int
) -> pd.DataFrame:
    """Measure the inverse of Gaussian layers, and of orthogonal frames beside them.

    All are scaled so that WᵀW is 2·I, or so in the mean: half of it is active at an input, so that lengths are kept, in
    the mean. Inputs are standard normal, noise is Gaussian of a given size relative to the output.

    Source: paper D (inverse Lipschitz constant); assumption A13.

    Args:
        sizes: numbers of inputs n, each with the number of layers.
        expansivity: values of m/n; orthogonal frames have the even ones.
        inputs: inverted with noise, for each layer.
        pairs: of inputs whose ratio ‖f(x) − f(x′)‖/‖x − x′‖ is computed, for each layer.
        noise: ‖e‖/‖f(x)‖.
        seed: of layers, inputs and noise.

    Returns:
        A row for each layer: layer ("gaussian" or "orthogonal_frame"), n, m, expansivity, case, sigma_lower and
        sigma_upper (of σ = minₓ σmin(W_S(x)); equal where exact), smallest_ratio (of the pairs), amplification_median
        and amplification_max (‖x̂ − x‖/‖e‖ over the inputs), converged (share of the inputs).
    """
    generator = torch.Generator().manual_seed(seed)
    rows = []
    total = sum(count * len(expansivity) for _, count in sizes)
    for about, layer in track(layers(sizes, expansivity, generator), "noisy inverses", total=total):
        bounds = stability(layer.W)
        row = about | {"sigma_lower": bounds.lower, "sigma_upper": bounds.upper}
        row |= {"smallest_ratio": float(ratios(layer, pairs, generator).min())}
        rows.append(row | amplification(layer, inputs, noise, generator))
    return pd.DataFrame(rows)


def layers(
    sizes: Sequence[tuple[int, int]], expansivity: Sequence[float], generator: torch.Generator
) -> Iterator[tuple[dict[str, object], InjectiveReLU]]:
    """Yield the layers with the columns that name them."""
    for n, count in sizes:
        for c in expansivity:
            m = round(c * n)
            about = {"n": n, "m": m, "expansivity": m / n}
            for case in range(count):
                W = normal(m, n, generator=generator) * (2 / m) ** 0.5
                yield about | {"layer": "gaussian", "case": case}, InjectiveReLU(W)
            if c % 2 == 0:
                frame = InjectiveReLU.orthogonal_frame(n, int(c) // 2, generator)
                yield about | {"layer": "orthogonal_frame", "case": 0}, frame


def ratios(layer: InjectiveReLU, pairs: int, generator: torch.Generator) -> Tensor:
    """Return ‖f(x) − f(x′)‖/‖x − x′‖ for pairs far apart, near each other, and on both sides of the origin."""
    x, other = (normal(pairs, *layer.input_shape, generator=generator) for _ in range(2))
    share = torch.rand(pairs, 1, generator=generator, dtype=x.dtype)
    first, second = torch.cat([x, x, x]), torch.cat([other, x + 0.01 * other, -share * x])
    return row_norm(layer(first) - layer(second)) / row_norm(first - second)


def amplification(layer: InjectiveReLU, inputs: int, noise: float, generator: torch.Generator) -> dict[str, float]:
    """Return the columns of the inverse under noise: median and largest ‖x̂ − x‖/‖e‖, and the share that converged."""
    x = normal(inputs, *layer.input_shape, generator=generator)
    y = layer(x)
    e = normal(*y.shape, generator=generator)
    e *= (noise * row_norm(y) / row_norm(e))[:, None]
    solution = layer.inverse(y + e, noise=float(row_norm(e).max()))
    error = row_norm(solution.value - x) / row_norm(e)
    return {
        "amplification_median": float(error.median()),
        "amplification_max": float(error.max()),
        "converged": float(solution.converged.double().mean()),
    }
