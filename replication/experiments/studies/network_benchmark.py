"""Inverses of whole networks, by solver, batch and precision, and the work against the error."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.experiments.studies.cost import TOTAL, inverse_cost, outcome
from replication.networks import RectifierNetwork
from replication.operators import Convolution, adjoint_kernel, norm_estimate
from replication.solvers import Solver
from replication.units import StandardConvUnit
from replication.units.rectifier_unit import RectifierUnit


def network_benchmark(
    network: RectifierNetwork,
    images: Tensor,
    solvers: Mapping[str, Solver],
    batches: Sequence[int],
    tolerances: Mapping[str, float],
    repetitions: int,
    largest_batch: Mapping[str, int],
) -> pd.DataFrame:
    """Time the forward pass and the inverse of all hidden layers, on the CPU and, where there is one, on a GPU.

    Args:
        network: trained, in evaluation mode.
        images: at least as many as the largest batch (batch, *image_shape).
        solvers: by name.
        batches: numbers of images.
        tolerances: relative residual of every unit, for each dtype's name ("float32", "float64").
        repetitions: timed runs, after one that is not timed.
        largest_batch: for solvers that are too slow for larger ones.

    Returns:
        dtype, batch, tolerance and the columns of `inverse_cost`.
    """
    rows: list[dict[str, object]] = []
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with Progress() as progress:
        task = progress.add_task("network benchmark", total=len(devices) * len(tolerances) * len(batches))
        for device in devices:
            for name, tolerance in tolerances.items():
                copied = copy.deepcopy(network).to(device, getattr(torch, name))
                for batch in batches:
                    own = images[:batch].to(device, getattr(torch, name))
                    able = {
                        method: solver
                        for method, solver in solvers.items()
                        if batch <= largest_batch.get(method, batch)
                    }
                    about = {"dtype": name, "batch": batch, "tolerance": tolerance}
                    rows += [about | row for row in inverse_cost(copied, own, able, tolerance, repetitions)]
                    progress.advance(task)
    return pd.DataFrame(rows)


def error_curve(
    layer: RectifierNetwork | RectifierUnit, x: Tensor, solvers: Mapping[str, Solver], tolerances: Sequence[float]
) -> pd.DataFrame:
    """Invert at falling tolerances, for evaluations against the true error.

    Args:
        layer: a network, inverted from its features, or a unit.
        x: its inputs (batch, *shape).
        solvers: by name.
        tolerances: relative residuals of every unit.

    Returns:
        A row for each solver and tolerance: dtype, batch, solver, tolerance, layer ("network"), and the columns of
        `outcome`.
    """
    with torch.no_grad():
        y = layer.features(x) if isinstance(layer, RectifierNetwork) else layer(x)
    about = {"dtype": str(x.dtype).removeprefix("torch."), "batch": len(x), "layer": TOTAL}
    return pd.DataFrame(
        [
            about | {"solver": name, "tolerance": tolerance} | outcome(layer.inverse(y, solver, tolerance), x)
            for name, solver in solvers.items()
            for tolerance in tolerances
        ]
    )


@torch.no_grad()
def contractive_unit(shape: Sequence[int], hidden: int, contraction: float, seed: int) -> tuple[RectifierUnit, Tensor]:
    """Make a unit x − W₁ᵀ·relu(W₁x + b₁) whose branch contracts by just this factor, and inputs for it, in float64.

    ‖W₁‖² is the contraction (to six digits), and the biases are so large that every ReLU is active at these inputs: the
    Lipschitz constant is attained, as it is not for kernels drawn at random or trained.

    Args:
        shape: of the inputs (batch, channels, height, width), standard normal.
        hidden: number of channels between the convolutions.
        contraction: Lipschitz constant of the branch, below 1.
        seed: of the random numbers.
    """
    g = torch.Generator().manual_seed(seed)
    rows, channels, height, width = shape
    unit = StandardConvUnit(channels, hidden, image_size=(height, width)).double()
    weight = torch.randn(unit.weight1.shape, generator=g, dtype=torch.float64)
    weight *= contraction**0.5 / norm_estimate(Convolution(weight, (height, width)))
    unit.weight1.copy_(weight)
    unit.weight2.copy_(-adjoint_kernel(weight))
    x = torch.randn(rows, channels, height, width, generator=g, dtype=torch.float64)
    unit.bias1.fill_(1 + unit.rectifier_map(tuple(x.shape[1:])).preactivation(x).abs().max())
    return unit, x


def benchmark_of_networks(
    monotone: RectifierNetwork,
    lipschitz: RectifierNetwork,
    images: Tensor,
    bench: Mapping[str, Any],
    curve: Mapping[str, Any],
    seed: int,
) -> pd.DataFrame:
    """Return bench_network's table: the costs of the monotone network, and curves where the existing method is at home.

    Args:
        monotone, lipschitz: trained networks.
        images: at least as many as the largest batch (batch, *image_shape).
        bench: further arguments of `network_benchmark`.
        curve: `solvers` and `tolerances` of `error_curve`, the number of `images` for it, and the arguments of
            `contractive_unit`, `contractive`.
        seed: of the contractive unit.
    """
    solvers, tolerances = curve["solvers"], curve["tolerances"]
    few = images[:: max(1, len(images) // curve["images"])].double()
    tables = {
        "lipschitz": error_curve(lipschitz, few, solvers, tolerances),
        "contraction": error_curve(*contractive_unit(**curve["contractive"], seed=seed), solvers, tolerances),
        "monotone": network_benchmark(monotone, images, **bench),
    }
    return pd.concat([table.assign(network=name) for name, table in tables.items()], ignore_index=True)
