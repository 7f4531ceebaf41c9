"""What the network asks of a layer that is undone by a method: a solution for every row, and a certificate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from replication.certificate import Certificate
from replication.solvers import Solution, Solver
from replication.units.kept import Kept


class Unit(Kept, nn.Module, ABC):
    """A layer with an inverse that says how it ended, and a certificate."""

    title: str

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the rows."""

    @abstractmethod
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: Any
    ) -> Solution:
        """Recover x from y = f(x), row by row."""

    @abstractmethod
    def certificate(self) -> Certificate:
        """Return what is known of the unit, with the evidence."""

    @abstractmethod
    def inverse_lipschitz(self, shape: tuple[int, ...]) -> Tensor:
        """Bound the Lipschitz constant of the inverse for inputs of this shape; infinite where nothing is known."""

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor | None:
        """Bound the error of a solution (rows,) found from outputs y with errors of at most `bound` (rows,)."""
        if solution.error_bound is None:
            return None
        return amplified(self.inverse_lipschitz(tuple(solution.value.shape[1:])), bound) + solution.error_bound


def amplified(constant: Tensor | float, bound: Tensor) -> Tensor:
    """Return constant·bound (rows,), where a bound of 0 means no error at all, so that no constant makes one of it."""
    product = (constant * bound).clamp_min(torch.finfo(bound.dtype).tiny)  # what underflows is an error still
    return torch.where(bound == 0, 0, product.nan_to_num(nan=torch.inf, posinf=torch.inf))
