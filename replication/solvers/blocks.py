"""The block triangular form of a matrix's pattern, and walks over linear pieces block by block.

Where the graph of A's nonzeros is not strongly connected, its components make s + A·relu(s) = c a sequence of smaller
equations, each of them in the coordinates of one component once those it depends on are known. Lemke's method may need
exponentially many pivots for the whole (Murty's triangular matrices) and needs one for each block of order 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from replication.checks import check_counts
from replication.compiled import as_array, compiled
from replication.kernels.pieces import AGREES
from replication.solvers.pieces import PieceWalk, walk


@dataclass(frozen=True)
class BlockWalk(PieceWalk):
    """Block steps, and Lemke's method for the rows where they lead nowhere, in one diagonal block of A after the other.

    Args:
        block_steps: Newton steps without fewer disagreeing signs before Lemke's method takes over.
        max_iterations: bound of the number of linear systems solved and pivots made in each diagonal block.

    Raises:
        ValueError: if block_steps or max_iterations is not positive.
    """

    block_steps: int = 5
    max_iterations: int = 100_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(1, block_steps=self.block_steps)

    @property
    def patience(self) -> int:
        return self.block_steps

    def walk(self, A: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return walk_by_blocks(A, c, self.patience, self.max_iterations)


def diagonal_blocks(pattern: Tensor) -> list[Tensor]:
    """Return the index sets of the diagonal blocks of a block lower triangular form of a pattern (n, n) of nonzeros.

    Tarjan's algorithm ends components in this order: rows have nonzeros in the columns of their block and of those
    before it only.
    """
    count, labels = connected_components(pattern.cpu().numpy(), connection="strong")
    return [torch.from_numpy(labels == label).nonzero().squeeze(1).to(pattern.device) for label in range(count)]


@compiled
def count_zeros(entries: np.ndarray) -> int:
    """Return how many entries are zero, in a fraction of the time that NumPy or torch take."""
    zeros = 0
    for i in range(len(entries)):
        zeros += entries[i] == 0
    return zeros


def walk_by_blocks(
    A: Tensor, c: Tensor, patience: int, max_steps: int, start: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk as `walk` does, over one diagonal block of A after the other, with `max_steps` for each of them."""
    if not count_zeros(as_array(A).reshape(-1)):
        return walk(A, c, patience, max_steps, start)
    if A.ndim == 2:
        return walk_along(diagonal_blocks(A != 0), A, c, patience, max_steps, start)
    patterns, of_row = torch.unique((A != 0).flatten(1), dim=0, return_inverse=True)
    s = torch.empty_like(c)
    ends, steps = torch.empty_like(of_row), torch.empty_like(of_row)
    for number, pattern in enumerate(patterns):
        rows = of_row == number
        blocks = diagonal_blocks(pattern.reshape(A.shape[1:]))
        first = None if start is None else start[rows]
        s[rows], ends[rows], steps[rows] = walk_along(blocks, A[rows], c[rows], patience, max_steps, first)
    return s, ends, steps


def walk_along(
    blocks: list[Tensor], A: Tensor, c: Tensor, patience: int, max_steps: int, start: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk block by block: each c is less what the blocks before contribute, in float64."""
    if len(blocks) < 2:
        return walk(A, c, patience, max_steps, start)
    matrices, rest = (torch.from_numpy(as_array(tensor)) for tensor in (A, c))
    rest, s = rest.clone(), torch.empty_like(rest)
    ends = torch.full((len(c),), AGREES)
    steps = torch.zeros_like(ends)
    for block in (block.cpu() for block in blocks):
        own = matrices[..., block[:, None], block]
        first = None if start is None else start.cpu()[:, block]
        s[:, block], end, step = walk(own, rest[:, block], patience, max_steps, first)
        rest -= torch.matmul(matrices[..., block], s[:, block].relu()[:, :, None])[:, :, 0]
        ends, steps = torch.maximum(ends, end), steps + step
    lost = ends != AGREES
    if lost.any():  # without P-matrices, a block's solution may leave those after it without one: all blocks at once
        of_rows = matrices if A.ndim == 2 else matrices[lost.to(A.device)]
        again = None if start is None else start[lost.to(start.device)]
        rows = torch.from_numpy(as_array(c))[lost]
        s[lost], ends[lost], step = walk(of_rows, rows, patience, max_steps, again)
        steps[lost] += step
    return s.to(c), ends.to(c.device), steps.to(c.device)
