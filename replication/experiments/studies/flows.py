"""Normalizing flows on the 8×8 digits, with and without a cap on the norms: likelihoods and samples (figB4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.certificate import Verdict
from replication.experiments.data.batches import check_batch
from replication.experiments.data.images import Digits
from replication.experiments.results import Result
from replication.experiments.studies.families import largest_norm
from replication.networks import CausalFlow
from replication.units import CausalConvUnit

LEVELS = 17  # of the digits that scikit-learn ships: 0 to 16
SCALE = 8.0  # what the grey values, centred, are multiplied by: about one standard deviation each


def dequantized(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (batch, 1, 8, 8) of grey levels with uniform noise within the level, centred and scaled.

    Its density then bounds the probability of the levels from below.

    Source: Theis, van den Oord and Bethge, ICLR 2016, arXiv 1511.01844.
    """
    noise = torch.rand(levels.shape, generator=generator, dtype=levels.dtype)
    return ((levels + noise) / LEVELS - 0.5) * SCALE


def bits_per_dimension(flow: CausalFlow, levels: Tensor, generator: torch.Generator) -> Tensor:
    """Return −log₂ p of every image's levels (batch,), divided by the number of its pixels."""
    dimensions = levels[0].numel()
    nats = -flow.log_prob(dequantized(levels, generator)) - dimensions * math.log(SCALE / LEVELS)
    return nats / (dimensions * math.log(2))


def independent_bits(train: Tensor, test: Tensor) -> float:
    """Return the bits per dimension of a model of independent pixels: their histograms, one count added to each bin."""
    counts = torch.nn.functional.one_hot(train.long().flatten(1), LEVELS).sum(0) + 1.0
    log_share = (counts / counts.sum(-1, keepdim=True)).log2()
    return float(-log_share.gather(1, test.long().flatten(1).mT).mean())


def fit(
    flow: CausalFlow,
    levels: Tensor,
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Train a flow by maximum likelihood.

    Args:
        flow: changed in place.
        levels: grey levels (batch, 1, 8, 8), as floating-point numbers.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning-rate schedule from the optimizer and total_steps.
        epochs, batch_size: passes over the images, and images a step; a last smaller batch is left out.
        generator: of the order and of the noise.
        progress: called after each epoch.

    Raises:
        RuntimeError: if the loss is no longer finite.
    """
    steps = len(levels) // batch_size
    made = optimizer(flow.parameters())
    schedule = scheduler(made, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(levels), generator=generator)
        for rows in torch.split(order[: steps * batch_size], batch_size):
            loss = bits_per_dimension(flow, levels[rows], generator).mean()
            if not torch.isfinite(loss):
                raise RuntimeError(f"the loss of the flow is {float(loss.detach())}; lower the learning rate")
            made.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
            made.step()
            schedule.step()
        progress()


def grey_levels(data: Digits) -> tuple[Tensor, Tensor]:
    """Return the training and the test images as grey levels (batch, 1, 8, 8)."""
    data.setup()
    assert data.train is not None
    assert data.test is not None
    train, test = (part.tensors[0] * (LEVELS - 1) for part in (data.train, data.test))
    return train.round(), test.round()


def trained_flow(
    data: Digits,
    cap: float | None,
    seed: int,
    unit: Callable[..., CausalConvUnit],
    hidden: Sequence[int],
    units_per_stage: int,
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
    epochs: int,
    batch_size: int,
) -> CausalFlow:
    """Train a flow on the digits.

    Args:
        data: the digits.
        cap: on ‖W₁‖·‖W₂‖ of every unit; None for none.
        seed: of the weights, the order and the noise.
        unit: makes a unit from channels, hidden, image_size and norm_cap.
        hidden, units_per_stage: as for `CausalFlow`.
        optimizer, scheduler, epochs, batch_size: as for `fit`.

    Raises:
        ValueError: if there are fewer images than a batch has.
    """
    train, _ = grey_levels(data)
    check_batch(batch_size, len(train), data.title)
    flow = made_flow(cap, seed, unit, hidden, units_per_stage)
    generator = torch.Generator().manual_seed(seed)
    with Progress() as progress:
        task = progress.add_task(f"flow, cap {cap}, seed {seed}", total=epochs)
        fit(flow, train, optimizer, scheduler, epochs, batch_size, generator, lambda: progress.advance(task))
    return flow


def made_flow(
    cap: float | None, seed: int, unit: Callable[..., CausalConvUnit], hidden: Sequence[int], units_per_stage: int
) -> CausalFlow:
    """Return the flow of the digits as it is before it is trained; arguments as for `trained_flow`."""
    torch.manual_seed(seed)
    return CausalFlow((1, 8, 8), partial(unit, norm_cap=cap), tuple(hidden), units_per_stage)


def flow_study(
    trained: Callable[[float | None, int], tuple[CausalFlow, dict[str, Any]]],
    data: Digits,
    caps: Sequence[float | None],
    seeds: Sequence[int],
    samples: int,
) -> Result:
    """Measure the same flow, trained with each cap on ‖W₁‖·‖W₂‖ and each seed, and draw samples from the first seed's.

    Args:
        trained: returns the flow of a cap and a seed, and the epochs and seconds of its training.
        data: the digits.
        caps: of the units' norms; None for none.
        seeds: of the flows; of the noise on the images, too, and of the samples.
        samples: number of images drawn.

    Returns:
        A row for each cap and seed: norm_cap, seed, held_out_bits, training_bits, independent_bits (per dimension),
        certified_units, units, max_norm_A (estimate), parameters, epochs, seconds (of the training), samples,
        samples_converged, sample_residual_max (of the whole flow in float64); and the arrays "data" and "cap CAP" of
        samples in [0, 1].
    """
    train, test = grey_levels(data)
    if samples > len(test):
        raise ValueError(f"{data.title} has {len(test)} test images to show beside the samples, fewer than {samples}")
    rows: list[dict[str, object]] = []
    arrays = {"data": test[:: len(test) // samples, 0][:samples].numpy() / (LEVELS - 1)}
    for cap in caps:
        for seed in seeds:
            flow, about = trained(cap, seed)
            row, drawn = evaluated(flow, train, test, samples, torch.Generator().manual_seed(seed))
            rows.append({"norm_cap": cap, "seed": seed} | row | about)
            if seed == seeds[0]:
                arrays[f"cap {cap}"] = drawn.numpy()
    return Result(pd.DataFrame(rows).assign(independent_bits=independent_bits(train, test)), arrays)


@torch.no_grad()
def evaluated(
    flow: CausalFlow, train: Tensor, test: Tensor, samples: int, generator: torch.Generator
) -> tuple[dict[str, object], Tensor]:
    """Return a trained flow's columns of the table, and samples (samples, 8, 8) in [0, 1], computed in float64."""
    flow = flow.double()
    solution = flow.sample(samples, generator)
    certified = [unit.certificate().verdict is Verdict.INVERTIBLE for unit in flow.units]
    return {
        "held_out_bits": float(bits_per_dimension(flow, test.double(), generator).mean()),
        "training_bits": float(bits_per_dimension(flow, train.double(), generator).mean()),
        "certified_units": sum(certified),
        "units": len(certified),
        "max_norm_A": largest_norm(flow.units),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "samples": samples,
        "samples_converged": int(solution.converged.sum()),
        "sample_residual_max": float(solution.residual.max()),
    }, (solution.value[:, 0] / SCALE + 0.5).clamp(0, 1)
