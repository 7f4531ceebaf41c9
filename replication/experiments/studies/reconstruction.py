"""How well reversible blocks give their first states back, against depth (figC1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.units import BlockSequence, ReversibleBlock


@torch.no_grad()
def grown_blocks(block: Callable[[], ReversibleBlock], depth: int, growth: float, dtype: torch.dtype) -> BlockSequence:
    """Return at least so many layers of blocks, with kernels as initialised times `growth`, in training mode."""
    first = block()
    blocks = [first, *(block() for _ in range(-(-depth // first.layers) - 1))]
    sequence = BlockSequence(blocks).to(dtype)
    for parameter in sequence.parameters():
        if parameter.ndim > 1:
            parameter.mul_(growth)
    return sequence


@torch.no_grad()
def relative_errors(sequence: BlockSequence, images: Tensor) -> tuple[Tensor, Tensor]:
    """Send images through and back; return the relative error of the first pair of states, and its growth (batch,).

    Args:
        sequence: blocks, in training mode.
        images: features (batch, channels, height, width) that the first pair is made of.
    """
    begin = torch.stack(next(iter(sequence)).begin(images)).transpose(0, 1).flatten(1)
    end = sequence(*next(iter(sequence)).begin(images))
    finite = all(bool(state.isfinite().all()) for state in end)
    back = sequence.inverse(*end) if finite else tuple(torch.full_like(state, torch.inf) for state in end)
    norm = begin.norm(dim=1)
    error = (torch.stack(back).transpose(0, 1).flatten(1) - begin).norm(dim=1) / norm
    return torch.where(error.isnan(), torch.inf, error), torch.stack(end).transpose(0, 1).flatten(1).norm(dim=1) / norm


def reconstruction(
    blocks: Mapping[str, Callable[..., ReversibleBlock]],
    settings: Sequence[Mapping[str, Any]],
    channels: int,
    size: int,
    images: int,
    depths: Sequence[int],
    seed: int,
) -> pd.DataFrame:
    """Measure the error of the first states, recomputed from the last ones, for networks of growing depth.

    Source: paper C, stability and reversibility (from recalled facts, assumptions A14 and A15).

    Args:
        blocks: makes a block from its channels and a setting's step and normalisation, by the network's name.
        settings: the panels: title, growth of the kernels, options of the blocks of each network that has options.
        channels, size, images: of the features, standard normal numbers.
        depths: numbers of layers.
        seed: of the draws.

    Returns:
        A row for each setting, network, dtype and depth: setting, growth, network, dtype, layers, error_median,
        error_max (relative, over images; infinite where the forward pass overflows), state_growth (median of
        ‖last states‖/‖first states‖), images.
    """
    runs = [
        (setting, network, dtype, depth)
        for setting in settings
        for network in blocks
        for dtype in (torch.float64, torch.float32)
        for depth in depths
    ]
    rows = []
    with Progress() as progress:
        for setting, network, dtype, depth in progress.track(runs, description="reconstruction"):
            torch.manual_seed(seed)
            features = torch.randn(images, channels, size, size, dtype=torch.float64).to(dtype)
            block = partial(blocks[network], channels, **setting["options"].get(network, {}))
            sequence = grown_blocks(block, depth, setting["growth"], dtype)
            error, state_growth = relative_errors(sequence, features)
            rows.append(
                {
                    "setting": setting["title"],
                    "growth": setting["growth"],
                    "network": network,
                    "dtype": str(dtype).removeprefix("torch."),
                    "layers": sum(block.layers for block in sequence),
                    "error_median": float(error.median()),
                    "error_max": float(error.max()),
                    "state_growth": float(state_growth.median()),
                    "images": images,
                }
            )
    return pd.DataFrame(rows)
