"""Reversible blocks one after another, trained by ordinary backpropagation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor, nn

from replication.units.reversible.blocks import ReversibleBlock
from replication.units.reversible.couplings import Pair
from replication.units.reversible.undoing import undone


class BlockSequence(nn.Module):
    """Reversible blocks of one width, trained by ordinary backpropagation, which stores the activations of every block.

    Args:
        blocks: at least one, in forward order.

    Raises:
        ValueError: if there is none.
        TypeError: if one is no reversible block.
    """

    def __init__(self, blocks: Iterable[ReversibleBlock]) -> None:
        super().__init__()
        blocks = list(blocks)
        for block in blocks:
            if not isinstance(block, ReversibleBlock):
                raise TypeError(f"a sequence is made of reversible blocks, not of {type(block).__name__}")
        if not blocks:
            raise ValueError("a sequence needs at least one block")
        self.blocks = nn.ModuleList(blocks)

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Take a pair of states through all blocks."""
        for block in self:
            first, second = block(first, second)
        return first, second

    def __iter__(self) -> Iterator[ReversibleBlock]:
        return iter(cast(Iterable[ReversibleBlock], self.blocks))

    def inverse(self, first: Tensor, second: Tensor) -> Pair:
        """Return the pair that `forward` took to this pair, as `ReversibleBlock.inverse`."""
        next(iter(self)).check_states(first, second)
        return undone(self, [coupling for block in self for coupling in block], first, second)
