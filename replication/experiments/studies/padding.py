"""Random convolutional blocks under two paddings: which are invertible, and which come back (figB1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.conditions import is_p_matrix
from replication.experiments.data.ensembles import normal
from replication.experiments.studies.invertibility import recovered, share
from replication.operators import CORNERS, Convolution
from replication.solvers import Solver
from replication.units import ResidualUnit


@dataclass(frozen=True)
class Block:
    """The shape of a block and of its images.

    Attributes:
        channels: of the images.
        hidden: channels between the convolutions; no more than channels, for W₁ to have full row rank.
        size: height and width of the images.
    """

    channels: int
    hidden: int
    size: int

    def __str__(self) -> str:
        plural = "s" if self.channels > 1 else ""
        return f"{self.channels} channel{plural}, {self.hidden} hidden, {self.size}×{self.size}"


@dataclass(frozen=True)
class RandomBlocks:
    """Random blocks x + conv₂(relu(conv₁(x) + b₁)) + b₂ as matrices, before γ scales A = W₁W₂ (assumption A9).

    Attributes:
        W1, W2: matrices (cases, h·pixels, c·pixels) and (cases, c·pixels, h·pixels).
        b1, b2: biases, the same for all pixels of a channel (cases, h·pixels) and (cases, c·pixels).
        A0: product of the taps that take a pixel to itself (cases, h, h).
    """

    W1: Tensor
    b1: Tensor
    W2: Tensor
    b2: Tensor
    A0: Tensor

    @staticmethod
    def draw(block: Block, kernel_size: int, padding: str, cases: int, generator: torch.Generator) -> RandomBlocks:
        """Draw normal taps with variance 1/fan-in, and standard normal biases: the same for every padding."""
        shape1, shape2 = (block.hidden, block.channels), (block.channels, block.hidden)
        taps = (kernel_size, kernel_size)
        weight1, weight2 = (
            normal(cases, *shape, *taps, generator=generator) / (shape[1] * kernel_size**2) ** 0.5
            for shape in (shape1, shape2)
        )
        b1, b2 = (
            normal(cases, shape[0], generator=generator).repeat_interleave(block.size**2, 1)
            for shape in (shape1, shape2)
        )
        maps = [
            [Convolution(weight, (block.size, block.size), padding) for weight in kernels]
            for kernels in (weight1, weight2)
        ]
        W1, W2 = (torch.stack([single.matrix(b1) for single in kind]) for kind in maps)
        A0 = torch.stack([first.aligned @ second.aligned for first, second in zip(*maps, strict=True)])
        return RandomBlocks(W1, b1, W2, b2, A0)

    def scaled(self, gamma: float) -> ResidualUnit:
        """Return the blocks with A = γW₁W₂, as a batch of dense units."""
        return ResidualUnit(gamma**0.5 * self.W1, self.b1, gamma**0.5 * self.W2, self.b2)


def padding_sweep(
    blocks: Sequence[Block],
    paddings: Mapping[str, str],
    solvers: Mapping[str, Solver],
    gamma: Tensor,
    cases: int,
    kernel_size: int,
    tolerance: float,
    recovery: float,
    seed: int,
) -> pd.DataFrame:
    """Sweep γ over random blocks: which are invertible, by all principal minors of the whole matrix, and which return.

    Source: paper B, abstract (blocks with certain zero padding); assumptions A7 and A9.

    Args:
        blocks: shapes.
        paddings: by the name in the table, as for `Convolution`.
        solvers: by the name of the quantity they fill.
        gamma: values of γ, the scale of A, (values,).
        cases: random blocks for each γ: the same ones for every γ and padding, scaled.
        kernel_size: odd.
        tolerance, recovery: as `replication.experiments.studies.invertibility.sweep`.
        seed: of the draws.

    Returns:
        A row for each block, padding, γ and quantity: ensemble (the block), padding, gamma, quantity, cases, count,
        percent, ci_low, ci_high, iterations_median. The quantity is a solver, "p_matrix" (invertible) or, for padding
        at a corner, "first_tap" (I + A₀ is a P-matrix).
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("random blocks", total=len(blocks) * len(paddings) * len(gamma))
        for block in blocks:
            for name, padding in paddings.items():
                generator = torch.Generator().manual_seed(seed)
                x = normal(cases, block.channels * block.size**2, generator=generator)
                drawn = RandomBlocks.draw(block, kernel_size, padding, cases, generator)
                conditions = {"p_matrix": p_matrices(drawn.W1 @ drawn.W2, gamma)}
                if padding in CORNERS:
                    conditions["first_tap"] = p_matrices(drawn.A0, gamma)
                for index, value in enumerate(gamma.tolist()):
                    about = {"ensemble": str(block), "padding": name, "gamma": value}
                    for quantity, held, steps in returned(drawn.scaled(value), x, solvers, tolerance, recovery):
                        rows.append(about | {"quantity": quantity} | share(held, steps))
                    rows += [about | {"quantity": quantity} | share(held[index], None)
                             for quantity, held in conditions.items()]  # fmt: skip
                    progress.advance(task)
    return pd.DataFrame(rows)


@torch.no_grad()
def returned(
    units: ResidualUnit, x: Tensor, solvers: Mapping[str, Solver], tolerance: float, recovery: float
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield each method with the units (cases,) whose x it brings back, and the iterations of those."""
    for quantity, solver in solvers.items():
        held, steps = recovered(units, x, solver, tolerance, recovery)
        yield quantity, held, steps[held]


def p_matrices(A: Tensor, gamma: Tensor) -> Tensor:
    """Return where I + γA is a P-matrix (values, cases), by bisection over the ascending values of γ.

    If it is one, it is for every smaller γ′ too: all det(I + γAD) with slopes D in [0, 1] are positive, and so are
    those with (γ′/γ)·D.

    >>> A = torch.tensor([[[-0.5]], [[1.0]]]).double()
    >>> p_matrices(A, torch.tensor([1.0, 3.0]).double())
    tensor([[ True,  True],
            [False,  True]])
    """
    low = torch.zeros(len(A), dtype=torch.long)  # the first γ that fails lies from low to high
    high = torch.full_like(low, len(gamma))
    while (rest := low < high).any():
        middle = (low + 7 * high)[rest] // 8  # a proof goes through all minors, what refutes is soon met
        held = is_p_matrix(gamma[middle, None, None] * A[rest])
        low[rest], high[rest] = torch.where(held, middle + 1, low[rest]), torch.where(held, high[rest], middle)
    return torch.arange(len(gamma))[:, None] < low
