"""The inverse of a unit or network as a layer: differentiable by the implicit function theorem, nothing unrolled."""

from __future__ import annotations

from collections import Counter
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from replication import parametrizations
from replication.checks import check_precision, check_tensor
from replication.conjugate_gradients import conjugate_gradients
from replication.rectifier import MATRIX_LIMIT, RectifierMap
from replication.rows import residual_scale, row_norm
from replication.solvers import Solver, get_solver
from replication.solvers.pieces import solve_pieces
from replication.solvers.substitution import solve_jacobian
from replication.units.implicit import ImplicitStep
from replication.units.injective import InjectiveReLU
from replication.units.injective_convolutional import InjectiveConvReLU
from replication.units.plain import PlainLayer
from replication.units.rectifier_unit import RectifierUnit

Invertible = RectifierUnit | InjectiveReLU | InjectiveConvReLU


@runtime_checkable
class HasHiddenLayers(Protocol):
    """A network of layers that can be undone one by one."""

    hidden_layers: nn.ModuleList


class Inverse(nn.Module):
    """x with f(x) = y, differentiable in y and in the parameters of the unit.

        dx = J⁻¹(dy − ∂f/∂θ dθ),   J = I + W₂DW₁ at x

    The gradient is that of the linear piece that x lies in; it costs one linear system a row, whatever the solver did,
    and can be taken once.

    Args:
        unit: f, a rectifier unit, or a network whose `hidden_layers`, such units and layers undone by a formula, are
            undone one by one. Its parameters are those of this module too.
        solver, tolerance, options: as for `unit.inverse`.

    Raises:
        TypeError: if it is neither.

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

    def layers(self) -> list[Invertible | PlainLayer]:
        """Return what is undone, in forward order; refuse what cannot be."""
        unit = self.unit
        layers = []
        for layer in unit.hidden_layers if isinstance(unit, HasHiddenLayers) else [unit]:
            if not isinstance(layer, Invertible | PlainLayer):
                raise TypeError(
                    f"{type(layer).__name__} is no unit or layer of this package, so it has no differentiable inverse; "
                    "read it by as_unit(module, x), if it computes x + second(relu(first(x)))"
                )
            layers.append(layer)
        return layers

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
                y = layer.inverse(y) if isinstance(layer, PlainLayer) else self.undo(layer, y)
        return y

    def undo(self, unit: Invertible, y: Tensor) -> Tensor:
        """Return x with unit(x) = y, differentiably."""
        check_precision(y)
        check_tensor(y, like=next(unit.parameters(), y))
        parametrizations.fill_cache(unit)  # with graphs, before the inverse asks without
        solution = unit.inverse(y.detach(), self.solver, self.tolerance)
        if not solution.converged.all():
            failed = Counter(status.name.lower() for status in solution.status.flat if status.name != "CONVERGED")
            ends = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in failed.items())
            raise RuntimeError(
                f"{failed.total()} of {solution.converged.numel()} rows were not inverted ({ends}); use unit.inverse "
                "for a status of each row, another solver, or a larger tolerance"
            )
        if isinstance(unit, InjectiveReLU | InjectiveConvReLU):
            return unit.implicit(solution.value, y)
        rows, rectifier_map = unit.rows(solution.value)
        residual = rectifier_map(rows) - y.reshape(rows.shape)
        active = (rectifier_map.slopes(rows) > 0).flatten(1)
        x: Tensor = ImplicitStep.apply(
            residual,
            rows,
            lambda v: -solve_adjoint(rectifier_map, active, v),
            rectifier_map.W1.weight,
            rectifier_map.W2.weight,
        )
        return x.reshape(y.shape)

    def extra_repr(self) -> str:
        return f"solver={self.solver}"


@torch.no_grad()
def solve_adjoint(rectifier_map: RectifierMap, active: Tensor, v: Tensor) -> Tensor:
    """Return u with Jᵀu = v, J = I + W₂DW₁, on the piece where D is 1 on the active coordinates and 0 elsewhere.

    Causal units: by one sweep over the image. Others small enough to have a matrix: u = v − W₁ᵀq, where
    M[S,S]ᵀq_S = (W₂ᵀv)_S on the active coordinates S, and q = 0 elsewhere. Larger ones: by conjugate gradients, on J
    itself where it is symmetric, else on JᵀJ.

    Args:
        rectifier_map: f.
        active: the piece (rows, hidden numbers).
        v: (rows, *shape).

    Raises:
        RuntimeError: if the system is not solved, because the piece is singular or nearly so.
    """
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    W1_adjoint, W2_adjoint = W1.adjoint(), W2.adjoint()
    if rectifier_map.order <= MATRIX_LIMIT and not rectifier_map.causal:
        right = W2_adjoint(v)
        q = solve_pieces(rectifier_map.matrix().mT, right.flatten(1), active).reshape(right.shape)
        return v - W1_adjoint(q)

    D = active.to(v).reshape(-1, *W1.codomain)

    def jacobian(u: Tensor) -> Tensor:
        return u + W2(D * W1(u))

    def adjoint(u: Tensor) -> Tensor:
        return u + W1_adjoint(D * W2_adjoint(u))

    accuracy = 4 * torch.finfo(v.dtype).eps
    if rectifier_map.causal:
        u = solve_jacobian(rectifier_map.adjoint(), D > 0, v)
    elif rectifier_map.gram:
        u, _ = conjugate_gradients(jacobian, v, accuracy)
    else:
        u = jacobian(conjugate_gradients(lambda w: adjoint(jacobian(w)), v, accuracy)[0])
    if not torch.isfinite(v).all():
        return u
    missing = row_norm(adjoint(u) - v) / residual_scale(v)
    if not (missing <= torch.finfo(v.dtype).eps ** 0.5).all():
        raise RuntimeError(
            f"the gradient cannot be computed: the Jacobian of a row is singular or nearly so (its linear system is "
            f"solved to {float(missing.max()):.1e} only)"
        )
    return u
