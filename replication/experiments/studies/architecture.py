"""The network's layers as a table, read off the network object (fig1)."""

from __future__ import annotations

import copy

import pandas as pd
import torch
from torch import nn

from replication.networks import RectifierNetwork
from replication.units import (
    ChannelNormalisation,
    ConvRectifierUnit,
    Flip,
    Orthogonal1x1,
    SpaceToDepth,
    ZeroChannels,
)


def architecture(network: RectifierNetwork) -> pd.DataFrame:
    """Return a row for each layer, with the shapes seen on a pass of one image.

    Source: paper A, Fig. 1 (assumption A6).

    Returns:
        Columns layer, formula, undone_by, shape_in, shape_out ("16×14×14"), parameters. The first hidden layer comes
        first; pooling and the linear classifier, which are not undone, come last.
    """
    network = copy.deepcopy(network).eval()
    rows: list[dict[str, object]] = []
    reference = next(network.parameters())
    x = torch.zeros(1, *network.image_shape, dtype=reference.dtype)
    with torch.no_grad():
        for layer in network.hidden_layers:
            y = layer(x)
            rows.append(describe(layer) | shapes(x, y) | {"parameters": count(layer)})
            x = y
        pooled = x.mean(dim=(2, 3))
        logits = network.classifier(pooled)
    rows.append({"layer": "global average", "formula": "mean over pixels", "undone_by": ""} | shapes(x, pooled))
    rows.append(
        {"layer": "linear classifier", "formula": "Wx + b", "undone_by": ""}
        | shapes(pooled, logits)
        | {"parameters": count(network.classifier)}
    )
    return pd.DataFrame(rows).fillna({"parameters": 0}).astype({"parameters": int})


def describe(layer: nn.Module) -> dict[str, object]:
    """Return a layer's name, its formula, and how it is undone."""
    if isinstance(layer, ZeroChannels):
        formula, undone_by = f"{layer.channels} → {layer.total} channels", "drop them"
    elif isinstance(layer, SpaceToDepth):
        formula, undone_by = "2×2 pixels → channels", "depth to space"
    elif isinstance(layer, Flip):
        formula, undone_by = "half a turn", "half a turn"
    elif isinstance(layer, ChannelNormalisation):
        formula, undone_by = "a·x + b per channel", "(y − b)/a"
    elif isinstance(layer, Orthogonal1x1):
        formula, undone_by = "Qx per pixel", "Qᵀy"
    elif isinstance(layer, ConvRectifierUnit):
        second = "W₁ᵀ" if layer.gram else "W₂"
        formula = (
            f"x + {second}relu(W₁x + b₁) + b₂\n{layer.kernel_size}×{layer.kernel_size}, {layer.hidden} hidden channels"
        )
        undone_by = "fixed point"
    else:
        raise TypeError(f"no description for a layer of type {type(layer).__name__}; add it here")
    return {"layer": layer.title, "formula": formula, "undone_by": undone_by}


def shapes(x: torch.Tensor, y: torch.Tensor) -> dict[str, object]:
    """Return the shapes of one image's input and output, e.g. "16×14×14"."""
    return {name: "×".join(map(str, v.shape[1:])) for name, v in (("shape_in", x), ("shape_out", y))}


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
