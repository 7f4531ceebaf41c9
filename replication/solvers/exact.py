"""The exact inverse: Newton's steps, and pivoting for the rows where they cycle."""

from __future__ import annotations

from dataclasses import dataclass

from replication.solvers.pieces import PieceWalk


@dataclass(frozen=True)
class Exact(PieceWalk):
    """Take Newton's steps; where they cycle or meet a singular piece, pivot until fewer signs disagree than before.

    Ends on every P-matrix, to machine precision, since the pivoting alone does and the least number of disagreeing
    signs falls each time. Rows whose matrix is not P may fail: they say so as soon as pivoting meets a piece whose
    determinant is not positive.

    Source: Júdice and Pires, Computers Oper. Res. 21 (1994) 587–596.

    Args:
        block_steps: Newton steps without fewer disagreeing signs before pivoting takes over.
        max_iterations: bound of the number of pieces solved.

    Raises:
        ValueError: if block_steps is not positive.
    """

    block_steps: int = 5
    max_iterations: int = 100_000

    def __post_init__(self) -> None:
        if self.block_steps < 1:
            raise ValueError(f"block_steps must be at least 1, not {self.block_steps!r}")

    @property
    def patience(self) -> int:
        return self.block_steps
