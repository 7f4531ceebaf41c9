"""The one step of all reversible blocks, (a, b) ↦ (b, ±a + branch(b)), undone with the branch but not its inverse."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from torch import Tensor, nn

from replication.units.kept import Kept

Pair = tuple[Tensor, Tensor]


class Coupling(Kept, nn.Module):
    """The step (a, b) ↦ (b, a + branch(b)), or (b, −a + branch(b)) if it reflects.

    Args:
        branch: a map from states to states of the same shape.
        reflects: whether a changes its sign.
    """

    settings = ("reflects",)

    def __init__(self, branch: nn.Module, reflects: bool = False) -> None:
        super().__init__()
        self.branch, self.reflects = branch, reflects

    def forward(self, a: Tensor, b: Tensor) -> Pair:
        branch = EVALUATION.get()(self, b)
        return b, branch - a if self.reflects else branch + a

    def evaluate(self, b: Tensor) -> Tensor:
        """Return branch(b)."""
        branch: Tensor = self.branch(b)
        return branch

    def inverse(self, b: Tensor, c: Tensor) -> Pair:
        """Return (a, b) from (b, ±a + branch(b))."""
        return self.undone(c, self.evaluate(b)), b

    def undone(self, c: Tensor, branch: Tensor) -> Tensor:
        """Return a from c = ±a + branch."""
        return branch - c if self.reflects else c - branch


# how couplings evaluate their branches on the way forward; `ReversibleSequence` puts a recording in its place
EVALUATION: ContextVar[Callable[[Coupling, Tensor], Tensor]] = ContextVar("EVALUATION", default=Coupling.evaluate)
