"""The inverse of a unit or network as a layer: differentiable by the implicit function theorem, nothing unrolled."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from replication import parametrizations
from replication.solvers import Solver, get_solver
from replication.uncompiled import uncompiled
from replication.units.layer import NO_GRADIENT, Layer


class Inverse(nn.Module):
    """x with f(x) = y, differentiable in y and in the parameters of the unit.

        dx = J⁻¹(dy − ∂f/∂θ dθ),   J = I + W₂DW₁ at x

    The gradient is that of the linear piece that x lies in; it costs one linear system a row, whatever the solver did,
    and can be taken once.

    Args:
        unit: f, a unit or layer, or a network whose `hidden_layers`, units and layers undone by a formula, are undone
            one by one. Its parameters are those of this module too.
        solver, tolerance, options: as for `unit.inverse`.

    Raises:
        TypeError: if it is neither.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))
    >>> y = torch.tensor([[4.0, -2.0]], requires_grad=True)
    >>> Inverse(unit)(y).sum().backward()
    >>> y.grad
    tensor([[0.2500, 1.0000]])
    """

    def __init__(
        self, unit: nn.Module, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> None:
        super().__init__()
        self.unit, self.solver, self.tolerance = unit, get_solver(solver, **options), tolerance
        self.layers()

    def layers(self) -> list[Layer]:
        """Return what is undone, in forward order; refuse what cannot be."""
        hidden = getattr(self.unit, "hidden_layers", None)
        layers = list(hidden) if isinstance(hidden, nn.ModuleList) else [self.unit]
        for layer in layers:
            if not getattr(layer, "differentiable", False):
                raise TypeError(NO_GRADIENT.format(type(layer).__name__))
        return cast("list[Layer]", layers)

    @uncompiled
    def forward(self, y: Tensor) -> Tensor:
        """Return x, like y.

        Raises:
            TypeError, ValueError: if y is not what the unit's inverse takes.
            RuntimeError: if a row is not inverted; `unit.inverse` gives the other rows and a status for each.
        """
        if not isinstance(y, Tensor):
            raise TypeError(f"the input must be a torch.Tensor, not {type(y).__name__}")
        if y.is_inference():
            y = y.clone()  # which autograd can work with, outside of inference mode
        with parametrizations.cached():
            for layer in reversed(self.layers()):
                y = layer.differentiable_inverse(y, self.solver, self.tolerance)
        return y

    def extra_repr(self) -> str:
        return f"solver={self.solver}"
