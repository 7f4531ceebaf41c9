"""A reversible block as one layer among others, on images whose channels hold the pair of states."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.units.closed_form import ClosedFormLayer
from replication.units.reversible.blocks import ReversibleBlock
from replication.units.reversible.sequence import BlockSequence
from replication.units.reversible.single_images import check_map


class ReversibleLayer(ClosedFormLayer):
    """A reversible block or sequence as a hidden layer of a `LayerwiseNetwork`, on images whose channels hold the pair.

    Args:
        block: maps pairs of states to pairs; the first states are the first half of the channels.

    Raises:
        TypeError: if it is no reversible block or sequence of them.
        RuntimeError: if it is undone where it is no map of single images, or none that repeats, as in training mode
            with batch normalisation or dropout (`check_map`).

    >>> from replication import HamiltonianBlock
    >>> layer = ReversibleLayer(HamiltonianBlock(4)).double().eval()
    >>> x = torch.randn(10, 4, 8, 8, dtype=torch.float64)
    >>> layer.inverse(layer(x).detach()).converged.all()
    tensor(True)
    """

    title = "reversible block"

    def __init__(self, block: ReversibleBlock | BlockSequence) -> None:
        super().__init__()
        if not isinstance(block, ReversibleBlock | BlockSequence):
            raise TypeError(f"the layer takes a reversible block or a sequence of them, not {type(block).__name__}")
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.block(*x.chunk(2, dim=1)), dim=1)

    def undo(self, y: Tensor) -> Tensor:
        check_map(self.block)
        return torch.cat(self.block.inverse(*y.chunk(2, dim=1)), dim=1)

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        check_map(self.block)
        return torch.tensor(torch.inf)  # finite, but not bounded here
