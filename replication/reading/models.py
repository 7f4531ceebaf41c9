"""Modules and whole models certified and inverted: as one unit, or stage by stage where they are chains."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from replication.certificate import Certificate, Verdict, coincide
from replication.checks import check_numbers, check_rows
from replication.networks.layerwise import LayerwiseNetwork, NetworkCertificate, NetworkSolution, product_of
from replication.reading import modules
from replication.reading.chains import CHANGING, chain_of, shape_before
from replication.reading.guest import Guest, UnreadableError, unwrapped
from replication.reading.held import random_rows
from replication.reading.networks import as_network
from replication.rows import residual_scale, row_norm
from replication.solvers import Solution, Solver, Status, get_solver
from replication.solvers.solution import CODE, resolve_tolerance
from replication.units.layer import amplified

FEW = 2  # rows of inputs that are made up where none are given
STAGES = (
    0.01  # share of the tolerance that the stages of a chain are solved to, since later stages magnify what is left
)
ROUNDING = 32  # roundings that a stage's residual may be asked for at least


@torch.no_grad()
def certify(module: nn.Module, x: Tensor) -> Certificate | NetworkCertificate:
    """Say whether a module or model is invertible: a verdict with its evidence.

    A model that applies modules one after the other is certified stage by stage, as `as_network` reads it; printed, the
    result is a table. Where a stage folds, two inputs of the model with the same output are looked for, and hold for
    the model itself. A module that cannot be read has the verdict *unknown*, with what stands in the way.

    Args:
        module: a layer or network of this package, any module that keeps the shape, or a chain of such.
        x: inputs (batch, *shape), which fix the shape; folds are looked for at them.

    Raises:
        TypeError, ValueError: if the module is none, or x has no such shape or is not finite.

    >>> certify(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.randn(3, 2)).verdict.value
    'not invertible'
    """
    if callable(getattr(module, "certificate", None)) or not isinstance(module, nn.Module):
        return modules.certify(module, x)
    check_numbers(x=x)
    try:
        network = network_of(module, x)
    except UnreadableError as error:
        return whole_or_why(module, x, error)
    if network is None:
        return modules.certify(module, x)
    certificate = network.certificate()
    return replace(certificate, witness=held_by(Guest(module), certificate.witness))


def network_of(model: nn.Module, x: Tensor) -> LayerwiseNetwork | None:
    """Return a chain, or what changes the shape, as a network; None if it is one stage that keeps the shape.

    Raises:
        UnreadableError: if a stage cannot be read.
    """
    if not chain_of(unwrapped(model)) and keeps_shape(model, x):
        return None
    network = as_network(model, x)
    return None if len(network.hidden_layers) == 1 and keeps_shape(model, x) else network


def keeps_shape(model: nn.Module, x: Tensor) -> bool:
    """Return whether what a model makes of x has the shape of x."""
    y = Guest(model)(x)
    return isinstance(y, Tensor) and y.shape == x.shape


def whole_or_why(model: nn.Module, x: Tensor, error: UnreadableError) -> Certificate:
    """Certify a model whose stages are not all read as one module, or say why they are not if it changes the shape."""
    if keeps_shape(model, x):
        certificate = modules.certify(model, x)
        assert isinstance(certificate, Certificate)
        return certificate
    reason = str(error)
    return Certificate(Verdict.UNKNOWN, None, f"{reason[0].upper()}{reason[1:]}.")


def held_by(guest: Guest, witness: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return two inputs if the model itself takes them to the same output."""
    if witness is None:
        return None
    x1, x2 = witness
    return witness if coincide(guest(x1[None]), guest(x2[None]), x1, x2) else None


@torch.no_grad()
def invert(
    module: nn.Module, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
) -> Solution:
    """Recover x from y = module(x), for any module that keeps the shape, and for chains of modules.

    The residual, the status and the error bound are those of the module itself, evaluated at the values returned: a row
    has converged if ‖module(value) − y‖/‖y‖ is within the tolerance. A chain is undone stage by stage, as `as_network`
    reads it: its error bound is the product of the Lipschitz constants of the stages' inverses times its residual. A
    module of one stage that `as_unit` cannot read is inverted too, if it acts on every row by itself: by Newton's
    method on products with its Jacobian, without an error bound; a value may then be one of several preimages.

    Args:
        module: as for `as_unit` or `as_network`, or any other that keeps the shape, in evaluation mode.
        y: outputs (batch, *target), of the dtype of the module's inputs.
        solver, tolerance, options: as for `RectifierUnit.inverse`.

    Returns:
        A solution with a status for every row; of a chain, a `NetworkSolution`.

    Raises:
        ValueError, TypeError: if the module is no map of single rows, or a chain cannot be undone, or y, the solver,
            the tolerance or an option is wrong.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 4)
    ...
    ...     def forward(self, x):
    ...         return x + self.second(torch.relu(self.first(x)))
    >>> model = nn.Sequential(nn.Linear(3, 4), Block(), Block()).double()
    >>> x = torch.randn(5, 3, dtype=torch.float64)
    >>> solution = invert(model, model(x).detach())
    >>> bool((solution.value - x).abs().max() < 1e-6), [record.title for record in solution.layers]
    (True, ['residual unit', 'residual unit', 'linear map'])
    """
    guest, method = Guest(module), get_solver(solver, **options)
    if type(module) is LayerwiseNetwork:
        return module.inverse(y, method, tolerance)
    chain = chain_of(guest.module)
    if not chain and not isinstance(guest.module, CHANGING):
        return modules.invert(module, y, method, tolerance)
    check_numbers(y=y)
    check_rows(y, like=next(module.parameters(), y) if len(chain) > 1 else y)
    x = inputs_like(guest.module, y)
    if x is None:  # then it can only be undone as a whole
        try:
            return modules.invert(module, y, method, tolerance)
        except ValueError as error:
            raise UnreadableError(
                f"{error}; and the model has no outputs of shape (batch, {', '.join(map(str, y.shape[1:]))}) as far as "
                "its stages tell; use as_network(model, x).inverse(y) with inputs x"
            ) from error
    try:
        network = network_of(module, x)
    except UnreadableError:
        if x.shape[1:] != y.shape[1:]:
            raise
        network = None
    if network is None:
        return modules.invert(module, y, method, tolerance)
    goal = resolve_tolerance(tolerance, y.dtype)
    finer = max(STAGES * goal, ROUNDING * torch.finfo(y.dtype).eps)
    return judged(network.inverse(y, method, finer), network, guest, y, goal)


def inputs_like(model: nn.Module, y: Tensor) -> Tensor | None:
    """Return random inputs of a chain whose outputs look like y, None where none of any shape do.

    Raises:
        UnreadableError: if their shape cannot be told, since it is flattened.
    """
    try:
        shape = shape_before(model, tuple(y.shape[1:]))
        x = random_rows(y.new_zeros(1, *shape), torch.ones(FEW, dtype=y.dtype))
        return x if Guest(model)(x).shape[1:] == y.shape[1:] else None
    except UnreadableError:
        raise
    except (LookupError, RuntimeError, TypeError, ValueError):  # of shapes that fit no stage
        return None


def judged(
    solution: NetworkSolution, network: LayerwiseNetwork, guest: Guest, y: Tensor, tolerance: float
) -> NetworkSolution:
    """Return a solution with the residual, status and error bound that the model itself gives it.

    A row has converged if the model's own residual is within the tolerance, and not otherwise, whatever its stages say.
    """
    if not len(y):
        return solution
    size = row_norm(guest(solution.value) - y)
    residual = size / residual_scale(y)
    codes = torch.where(solution.converged, CODE[Status.STAGNATED], solution.codes)
    codes = torch.where(residual <= tolerance, CODE[Status.CONVERGED], codes)
    bound = solution.error_bound
    if bound is not None:
        shapes = {record.index: tuple(record.solution.value.shape[1:]) for record in solution.layers}
        constant = product_of([float(network.layer(k).inverse_lipschitz(shape)) for k, shape in shapes.items()])
        bound = amplified(constant, size) if math.isfinite(constant) else bound
    residual = residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
    return replace(solution, residual=residual, codes=codes, bound=bound)
