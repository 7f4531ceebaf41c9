"""The affine map that a multilayer ReLU network is around an input, as a product of activation matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replication.checks import check_rows
from replication.multilayer import Multilayer, check_finite


@dataclass(frozen=True)
class ActivationPatternProduct:
    """The affine piece of a network at each of some inputs.

    Attributes:
        matrix: D_L·W_L ⋯ D₁·W₁ (batch, outputs, inputs), the Jacobian of the network.
        offset: Σₖ (D_L·W_L ⋯ D_{k+1}·W_{k+1})·Dₖ·bₖ (batch, outputs).
        patterns: the diagonals of D₁, D₂, … (batch, width), one for each ReLU: True where it is active.
    """

    matrix: Tensor
    offset: Tensor
    patterns: tuple[Tensor, ...]

    def value(self, x: Tensor) -> Tensor:
        """Return matrix·x + offset (batch, outputs) for inputs (batch, inputs), one for each piece."""
        found: Tensor = torch.einsum("roi,ri->ro", self.matrix, x) + self.offset
        return found


def activation_pattern_product(network: nn.Module, x: Tensor) -> ActivationPatternProduct:
    """Write a multilayer ReLU network at some inputs as a matrix and an offset, by its activation matrices.

        N(x) = D_L·W_L ⋯ D₁·W₁·x + Σₖ (D_L·W_L ⋯ D_{k+1}·W_{k+1})·Dₖ·bₖ,    Dₖ = diag(1 where layer k is active)

    Where no ReLU follows the last layer, D_L = I. A preactivation of 0 counts as inactive. Gradients pass through.

    Source: Xu and Zhang, Convergence of deep ReLU networks (explicit expression by activation matrices, abstract).

    Args:
        network: an nn.Sequential of nn.Linear and nn.ReLU in turn, the last ReLU or none.
        x: inputs (batch, inputs), of the dtype of the network.

    Raises:
        TypeError: if the network is of another kind, or x is no tensor of its dtype.
        ValueError: if x has another shape or values that are not finite, or if the product overflows.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = [nn.init.ones_(parameter) for parameter in network.parameters()]
    >>> piece = activation_pattern_product(network, torch.tensor([[1.0, 1.0], [-3.0, 0.0]]))
    >>> piece.matrix.tolist(), piece.offset.tolist()
    ([[[2.0, 2.0]], [[0.0, 0.0]]], [[3.0], [1.0]])
    """
    layers = Multilayer.of(network)
    check_rows(x, layers.weights[0])
    if x.shape[1:] != layers.widths[:1]:
        raise ValueError(f"the network takes inputs (batch, {layers.widths[0]}), not of shape {tuple(x.shape)}")
    matrix: Tensor = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    offset, z, patterns = torch.zeros_like(x), x, []
    for place, (W, b) in enumerate(zip(layers.weights, layers.biases, strict=True), 1):
        matrix, offset, z = W @ matrix, offset @ W.mT + b, z @ W.mT + b
        if place < len(layers.weights) or layers.rectified:
            active = z > 0
            matrix, offset, z = matrix * active[:, :, None], offset * active, z * active
            patterns.append(active)
    for found in (matrix, offset):
        check_finite(found, "the product of the activation matrices")
    return ActivationPatternProduct(matrix, offset, tuple(patterns))
