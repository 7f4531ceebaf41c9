"""The exact inverse: Newton's steps, and Lemke's pivoting for the rows where they cycle."""

from __future__ import annotations

from dataclasses import dataclass

from replication.solvers.blocks import BlockWalk


@dataclass(frozen=True)
class Exact(BlockWalk):
    """Take Newton's steps; hand the rows where they cycle or meet a singular piece to Lemke's method.

    Ends on every P-matrix, as Lemke's method does, with the accuracy that the matrix's condition allows. Pivots are
    a few times n in practice: the diagonal blocks of a block triangular A are solved one after the other, and where
    Lemke's path is long, others are tried. Rows whose matrix is not P may fail: they say so when two of Lemke's paths,
    the first with d = 1, end without a solution.

    For units with a matrix; causal ones of any size are undone likewise, pixel by pixel, by `Substitution`.

    Source: Kostreva, Linear Algebra Appl. 21 (1978) 263–274; Júdice and Pires, Computers Oper. Res. 21 (1994) 587–596
    (block steps with a safeguard); Lemke, Management Sci. 11 (1965) 681–689.

    Args, Raises: as `BlockWalk`.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> M = torch.tensor([[1.0, 0.0, 2.0], [2.0, 1.0, 0.0], [0.0, 2.0, 1.0]])  # a P-matrix, and not monotone
    >>> unit = ResidualUnit(torch.eye(3), torch.zeros(3), M - torch.eye(3), torch.zeros(3))
    >>> unit.inverse(unit(torch.tensor([[1.0, -2.0, 3.0]])).detach(), Exact()).value.round(decimals=3)
    tensor([[ 1., -2.,  3.]])
    """

    max_iterations: int = 1_000_000  # as of QuantEcon's lcp_lemke
