"""Trainable ReLU layers that stay injective: rows in opposite pairs, W = [B; −DB]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from replication.certificate import Certificate, Verdict
from replication.checks import check_counts, check_numbers, check_numbers_finite, check_precision
from replication.parametrizations import without_graph
from replication.relu_layers.singular_values import least_of_sets
from replication.relu_layers.stability import StabilityBounds
from replication.units.injective import InjectiveReLU


class PairedReLU(InjectiveReLU):
    """A trainable ReLU layer that stays injective: rows in opposite pairs, directions that always span.

        f(x) = (relu(z), d·relu(−z)),   z = Bx + c,   B = U·diag(s)·Vᵀ,   s ≥ floor,   d > 0

    U and V are kept orthogonal, so that σmin(B) ≥ floor, whatever the training does.

    Source: paper D (W = [B; −DB]); the parametrization is ours.

    Args:
        inputs: n.
        pairs: k ≥ n; there are 2k outputs.
        floor: lower bound of the singular values of B.

    Inputs have the shape (batch, n), outputs (batch, 2k).

    Raises:
        TypeError, ValueError: if a count is no positive integer, the floor not a positive number, or pairs < inputs.

    >>> layer = PairedReLU(2, 3)
    >>> layer.certificate().reason
    'W = [B; -DB] by construction, with sigmamin(B) >= 0.1.'
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> torch.allclose(layer.inverse(layer(x)).value, x, atol=1e-5)
    True
    """

    title = "paired ReLU"
    settings = ("floor",)
    U: Tensor
    V: Tensor

    def __init__(self, inputs: int, pairs: int, floor: float = 0.1) -> None:
        nn.Module.__init__(self)
        check_counts(1, inputs=inputs, pairs=pairs)
        check_numbers_finite(floor=floor)
        if pairs < inputs or not floor > 0:
            raise ValueError(f"pairs must be at least inputs and floor positive, not {pairs}, {inputs}, {floor}")
        self.floor = floor
        self.c = nn.Parameter(torch.zeros(pairs))
        self.log_d = nn.Parameter(torch.zeros(pairs))
        self.scale = nn.Parameter(torch.ones(inputs))
        orthonormal_columns(self, "U", pairs, inputs)
        orthonormal_columns(self, "V", inputs, inputs)

    def linear(self) -> Tensor:
        """Return B (k, n)."""
        check_precision(self.c)
        return self.U @ ((self.floor + F.softplus(self.scale))[:, None] * self.V.mT)

    def weights(self) -> tuple[Tensor, Tensor]:
        B, d = self.linear(), self.log_d.exp()
        return torch.cat([B, -d[:, None] * B]), torch.cat([self.c, -d * self.c])

    def certificate(self, time_limit: float = 60.0, general_position: bool = False) -> Certificate:
        check_numbers(**dict(self.named_parameters()))
        return Certificate(
            Verdict.INVERTIBLE,
            "opposite_rows",
            f"W = [B; −DB] by construction, with σmin(B) ≥ {self.floor:g}.",
        )

    @without_graph
    def stability(self) -> StabilityBounds:
        check_numbers(**dict(self.named_parameters()))
        rows = self.log_d.exp().clamp_max(1)[:, None].double() * self.linear().double()
        least = least_of_sets(rows, torch.ones(1, len(rows)))[0]
        moved = [float(torch.finfo(self.c.dtype).eps * tensor.double().norm()) for tensor in self.weights()]
        return StabilityBounds(float(least), math.inf, False, (moved[0], moved[1]))


def orthonormal_columns(module: nn.Module, name: str, rows: int, columns: int) -> None:
    """Make module.name a parameter (batch, columns) with orthonormal columns, kept so in training.

    >>> module = nn.Module()
    >>> orthonormal_columns(module, "U", 4, 2)
    >>> torch.allclose(module.U.mT @ module.U, torch.eye(2), atol=1e-6)
    True
    """
    setattr(module, name, nn.Parameter(torch.randn(rows, columns) / rows**0.5))
    # as in Orthogonal1x1: no stored base, so that the columns are orthonormal in whatever dtype they are used
    orthogonal(module, name, orthogonal_map="cayley", use_trivialization=False)
