"""Compile the loops of this package and keep them on the disk: python -m replication.kernels.

A fresh installation would do so at its first inverse, which takes ten seconds or more.
"""

from __future__ import annotations

import torch

from replication import ResidualUnit
from replication.certification.p_matrices import p_matrix_search
from replication.conditions import P_MATRIX_LIMIT, is_p_matrix
from replication.solvers.pieces import solve_pieces
from replication.units import CausalConvUnit

ROWS = 64  # enough for loops over several rows at a time


def main() -> None:
    """Call whatever is compiled, on small problems."""
    turn = torch.tensor([[0.0, 3.0], [-3.0, 0.0]], dtype=torch.float64)
    zeros = torch.zeros(ROWS, 2, dtype=torch.float64)
    one = ResidualUnit(turn, zeros[0], torch.eye(2).double(), zeros[0])
    many = ResidualUnit(turn.expand(ROWS, 2, 2), zeros, torch.eye(2).double().expand(ROWS, 2, 2), zeros)
    for unit in (one, many):
        for solver in ("newton", "pivoting", "exact", "banach", "modulus"):
            unit.inverse(zeros + 1, solver)
    solve_pieces(turn, zeros + 1, zeros < 1)
    pixels = CausalConvUnit(1, 2).double()
    pixels.inverse(torch.ones(1, 1, 3, 3, dtype=torch.float64))
    large = torch.randn(P_MATRIX_LIMIT + 2, P_MATRIX_LIMIT + 2, generator=torch.Generator().manual_seed(0)).double()
    is_p_matrix(large[:2, :2])
    p_matrix_search(torch.eye(len(large)) + large / 4, parts=8)


if __name__ == "__main__":
    main()
