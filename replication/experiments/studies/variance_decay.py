"""How the sample variance of random ReLU networks decays with depth: in theory, at finite width, normalised (figE3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from torch import Tensor

from replication.signal_propagation import correlation_map, second_moments

NUMBERS = 1_000_000  # of weights that are drawn at once
INFINITE = math.inf


def theory(depth: int, checkpoints: Sequence[int] = ()) -> pd.DataFrame:
    """Return σ² = 1, v² = 1 − c and m/v of each layer of an infinitely wide network, by the correlation map from c = 0.

    Source: paper E3 (variance in the limit of infinite width).

    Args:
        depth: the last layer; layer 0 is the first preactivation.
        checkpoints: deeper layers, for the rate of the decay.

    Returns:
        A row for each layer: part, width, layer, total, variance, ratio (m/v).
    """
    kept, rows, c = {*range(depth + 1), *checkpoints}, [], torch.zeros((), dtype=torch.float64)
    for layer in range(max(kept) + 1):
        if layer in kept:
            variance = 1 - float(c)
            rows.append((layer, 1.0, variance, math.sqrt(float(c) / variance)))
        c = correlation_map(c)
    return pd.DataFrame(rows, columns=["layer", "total", "variance", "ratio"]).assign(part="theory", width=INFINITE)


def random_networks(
    widths: Sequence[tuple[int, int]], depth: int, samples: int, batch_norm: bool, seed: int
) -> pd.DataFrame:
    """Measure σ², v² and m/v of each layer of random networks of constant width without biases.

    Weights are normal with variance 2/N, those of the first layer 1/N, so that σ² stays 1 in the mean; inputs are
    standard normal.

    Source: paper E3 (simulations at finite width, and of batch normalisation); assumption A21.

    Args:
        widths: each width N with the number of networks.
        depth: the last layer; layer 0 is the first preactivation.
        samples: inputs of each network.
        batch_norm: whether preactivations are normalised over the samples before the rectifier; what is measured is
            the preactivation before that.
        seed: of weights and inputs.

    Returns:
        A row for each width and layer: part, width, layer, networks, total and variance (means over the networks, with
        their standard errors total_se and variance_se), ratio (m/v, mean over the networks) and ratio_sd.
    """
    part = "batch norm" if batch_norm else "random"
    rows = []
    for width, networks in track(widths, description=f"{part} networks"):
        generator = torch.Generator().manual_seed(seed)
        together = max(1, NUMBERS // width**2)
        sizes = [min(together, networks - start) for start in range(0, networks, together)]
        parts = [torch.stack(list(moments(width, size, depth, samples, batch_norm, generator)), 1) for size in sizes]
        total, squared_mean, variance = torch.cat(parts).double().unbind(-1)  # (networks, layers) each
        ratio = (squared_mean.clamp_min(0) / variance).sqrt()
        for layer in range(depth + 1):
            columns = {"total": total[:, layer], "variance": variance[:, layer], "ratio": ratio[:, layer]}
            rows.append(
                {"part": part, "width": float(width), "layer": layer, "networks": networks}
                | {name: float(values.mean()) for name, values in columns.items()}
                | {f"{name}_se": float(columns[name].std()) / math.sqrt(networks) for name in ("total", "variance")}
                | {"ratio_sd": float(ratio[:, layer].std())}
            )
    return pd.DataFrame(rows)


@torch.no_grad()
def moments(
    width: int, networks: int, depth: int, samples: int, batch_norm: bool, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield σ², m² and v² (networks, 3) of one layer after the other, in float32; no weights are kept."""
    y = torch.randn(networks, samples, width, generator=generator)
    for layer in range(depth + 1):
        weights = torch.randn(networks, width, width, generator=generator)
        y = (y.relu() if layer else y) @ weights * ((2 if layer else 1) / width) ** 0.5
        yield second_moments(y)
        if batch_norm:
            y = (y - y.mean(1, keepdim=True)) / y.std(1, correction=0, keepdim=True)


def map_by_draws(correlations: Sequence[float], draws: int, seed: int) -> pd.DataFrame:
    """Decide by random draws which of two forms of the map from layer to layer is right.

        m²′ = m²(1 + (√(1/c² − 1) − arccos c)/π)

    The first author's blog writes it with c² = m²/(m² + v²); the other form has c = m²/(m² + v²), the correlation.
    With σ² = 1, m²′ is the mean of 2·relu(u)·relu(u′) over normal pairs of correlation m².

    Source: paper E3 (the map, as in the blog of its first author).

    Args:
        correlations: values of m²/(m² + v²).
        draws: of pairs, for each.
        seed: of the draws.

    Returns:
        A row for each value: part, correlation, as_printed, corrected, draws_mean, draws_se.
    """
    generator, rows = np.random.default_rng(seed), []
    for correlation in correlations:
        u, other = generator.standard_normal((2, draws))
        v = correlation * u + math.sqrt(1 - correlation**2) * other
        products = 2 * np.maximum(u, 0) * np.maximum(v, 0)
        rows.append(
            {
                "part": "map", "correlation": correlation,
                "as_printed": following(correlation, math.sqrt(correlation)),
                "corrected": following(correlation, correlation),
                "draws_mean": products.mean(), "draws_se": products.std() / math.sqrt(draws),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def following(squared_mean: float, c: float) -> float:
    """Return the next m² by the form of the blog, at σ² = 1.

    >>> round(following(0.5, 0.5), 6) == round(float(correlation_map(torch.tensor(0.5))), 6)
    True
    """
    return squared_mean * (1 + (math.sqrt(1 / c**2 - 1) - math.acos(c)) / math.pi)


def read_off(points: Sequence[tuple[float, float]], layer: int) -> pd.DataFrame:
    """Return values of m/v at a layer that were read by eye off a published picture, with the widths they are for."""
    rows = [{"part": "read off", "width": width, "layer": layer, "ratio": ratio} for width, ratio in points]
    return pd.DataFrame(rows)


def variance_decay(
    depth: int,
    checkpoints: Sequence[int],
    widths: Sequence[tuple[int, int]],
    normalised_widths: Sequence[tuple[int, int]],
    samples: int,
    published: Sequence[tuple[float, float]],
    published_layer: int,
    correlations: Sequence[float],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return `theory`, `random_networks` without and with batch normalisation, `read_off` and `map_by_draws` in one.

    Args:
        depth, checkpoints: as for `theory`.
        widths: as for `random_networks`.
        normalised_widths: the same, with batch normalisation.
        samples: inputs of each network.
        published, published_layer: as for `read_off`.
        correlations, draws: as for `map_by_draws`.
        seed: of everything.
    """
    parts = [
        theory(depth, checkpoints),
        random_networks(widths, depth, samples, False, seed),
        random_networks(normalised_widths, depth, samples, True, seed),
        read_off(published, published_layer),
        map_by_draws(correlations, draws, seed),
    ]
    return pd.concat(parts, ignore_index=True)
