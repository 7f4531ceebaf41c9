"""What every layer that can be undone has: an inverse with a status for every row, a certificate, a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from replication import parametrizations
from replication.certificate import Certificate
from replication.checks import check_precision, check_tensor
from replication.solvers import Solution, Solver
from replication.units.kept import Kept

NO_GRADIENT = (
    "{} is no unit or layer of this package, so it has no differentiable inverse; read it by as_unit(module, x), if it "
    "is made of affine maps, activations and sums"
)


class Layer(Kept, nn.Module, ABC):
    """A layer with an inverse that says how it ended, and a certificate.

    Attributes:
        title: its kind, in a few words.
        closed_form: whether its inverse is a formula, so that no solver is asked.
        differentiable: whether its inverse has a gradient, which `Inverse` asks for.
    """

    title: str
    closed_form = False
    differentiable = False

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input.

        Raises:
            ValueError: if the layer takes inputs of every size.
        """
        raise ValueError(f"{self.title} layers take inputs of every size, so they have no shape of their own")

    @abstractmethod
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: Any
    ) -> Solution:
        """Recover x from y = f(x), row by row."""

    def differentiable_inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None
    ) -> Tensor:
        """Return x with f(x) = y, differentiable in y and in the parameters: what `Inverse` is made of.

        Raises:
            TypeError, ValueError: if y is not what the inverse takes.
            RuntimeError: if a row is not inverted.
        """
        raise TypeError(NO_GRADIENT.format(type(self).__name__))

    @abstractmethod
    def certificate(self) -> Certificate:
        """Return what is known of the layer, with the evidence."""

    @abstractmethod
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """Bound the Lipschitz constant of the inverse; infinite where nothing is known.

        Args:
            shape: of one input, by default the layer's own.
        """

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det ∂f/∂x| (batch,) at x (batch, *shape).

        Raises:
            TypeError: if the layer has no determinant, since it changes the dimension.
        """
        raise TypeError(f"{self.title} layers change the dimension, so they have no determinant; not for flows")

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor | None:
        """Bound the error of a solution (batch,) found from outputs y with errors of at most `bound` (batch,)."""
        if solution.error_bound is None:
            return None
        return amplified(self.inverse_lipschitz(tuple(solution.value.shape[1:])), bound) + solution.error_bound


class Unit(Layer):
    """A layer that is undone by a solver."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        """Return the solution `value` of f(x) = y as a differentiable function of y and the parameters.

        By the implicit function theorem, on the linear piece that the value lies in.
        """
        raise TypeError(NO_GRADIENT.format(type(self).__name__))

    def differentiable_inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None
    ) -> Tensor:
        check_precision(y)
        check_tensor(y, like=next(self.parameters(), y))
        parametrizations.fill_cache(self)  # with graphs, before the inverse asks without
        solution = self.inverse(y.detach(), solver, tolerance)
        check_converged(solution)
        return self.implicit(solution.value, y)


def check_converged(solution: Solution) -> None:
    """Refuse a solution with rows that were not inverted.

    Raises:
        RuntimeError: if there are any.
    """
    if solution.converged.all():
        return
    failed = Counter(status.name.lower() for status in solution.status.flat if status.name != "CONVERGED")
    ends = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in failed.items())
    raise RuntimeError(
        f"{failed.total()} of {solution.converged.numel()} rows were not inverted ({ends}); use unit.inverse "
        "for a status of each row, another solver, or a larger tolerance"
    )


def amplified(constant: Tensor | float, bound: Tensor) -> Tensor:
    """Return constant·bound (batch,), where a bound of 0 means no error at all, so that no constant makes one of it."""
    product = (constant * bound).clamp_min(torch.finfo(bound.dtype).tiny)  # what underflows is an error still
    return torch.where(bound == 0, 0, product.nan_to_num(nan=torch.inf, posinf=torch.inf))
