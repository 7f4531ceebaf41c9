"""What every solver and every layer promises, asked of each of them in the same words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from builders import (
    CLOSED,
    KINDS_OF_UNITS,
    TAKEN_BY,
    UNITS,
    UNITS_IN_BATCH,
    assert_one_sentence,
    built,
    length,
    output_of,
    shape_of,
    taken,
    unit_to_solve,
)
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication import Certificate, Solution, Status, Verdict
from replication.solvers import SOLVERS

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
PAIRS = [(solver, kind) for solver in SOLVERS for kind in KINDS_OF_UNITS]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
solved = pytest.mark.parametrize(("solver", "kind"), [pair for pair in PAIRS if taken(*pair)])
refused = pytest.mark.parametrize(("solver", "kind"), [pair for pair in PAIRS if not taken(*pair)])
SCALES = [(torch.float32, 1e-30), (torch.float32, 1e30), (torch.float64, 1e-150), (torch.float64, 1e150)]
scales = pytest.mark.parametrize(("dtype", "scale"), SCALES, ids=str)
# Anderson's least squares magnify the rounding that depends on the batch
ROUNDING = {"anderson": 1e-9}

EVERY_LAYER = [name for name in [*UNITS, *CLOSED] if name != "batch"]  # which is asked as a kind of unit
every_layer = pytest.mark.parametrize("name", EVERY_LAYER)


def inputs(layer: nn.Module, rows: int, dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> Tensor:
    """Normal numbers; a batch of units takes a row for each of them."""
    if shape is None:
        shape = tuple(layer.input_shape)
    return torch.randn(rows, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def sizes(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """About all that is added up on the way from x to y (batch,)."""
    biases = sum(float(parameter.detach().double().norm()) for parameter in layer.parameters() if parameter.ndim < 3)
    return length(x) + length(y) + biases


def constant_of(layer: nn.Module, *shape: tuple[int, ...]) -> float:
    constant = layer.inverse_lipschitz(*shape)
    assert isinstance(constant, Tensor)
    return float(constant.detach())


def assert_honest(layer: nn.Module, y: Tensor, solution: Solution, tolerance: float) -> None:
    """The residual is that of the value returned, by float64 arithmetic, and decides what counts as converged."""
    assert torch.equal(solution.converged, solution.residual <= tolerance)
    finite = torch.isfinite(solution.value.flatten(1)).all(1)
    assert finite[solution.converged].all()
    exact = output_of(deepcopy(layer).double(), solution.value.double())
    scale = torch.where(length(y) > 0, length(y), 1.0)
    residual = length(exact - y.double()) / scale
    # caps leave room for the rounding of their dtype, so that the weights under them are others in float64
    capped = getattr(layer, "norm_cap", None) or any(map(parametrize.is_parametrized, layer.modules()))
    units = 1000 if capped else 20
    rounding = units * torch.finfo(y.dtype).eps * sizes(layer, solution.value, y) / scale
    off = (solution.residual.double() - residual).abs()
    assert (off[finite] <= (1e-6 * residual + rounding)[finite]).all()


def one_of(layer: nn.Module, kind: str, row: int) -> nn.Module:
    """What a row of a batch is an input of."""
    return layer[row] if kind == "batch" else layer


def refusal(call: Callable[[], object], *errors: type[Exception]) -> str:
    """The one sentence that a call ends in."""
    with pytest.raises(errors or (ValueError, TypeError)) as caught:
        call()
    assert_one_sentence(caught.value)
    sentence = str(caught.value)
    assert re.search(r"\b(must|needs?|takes?|convert|remove|known are|options are|has none|use|have|not)\b", sentence)
    return sentence


# solvers


@dtypes
@solved
def test_a_solver_brings_inputs_back(solver: str, kind: str, dtype: torch.dtype) -> None:
    unit = unit_to_solve(kind, dtype)
    x = inputs(unit, UNITS_IN_BATCH, dtype)
    y = output_of(unit, x)
    solution = unit.inverse(y, solver)
    assert isinstance(solution, Solution)
    assert solution.converged.all()
    assert solution.value.shape == x.shape
    assert solution.value.dtype == dtype
    assert_honest(unit, y, solution, TOLERANCE[dtype])
    assert (length(solution.value - x) <= 10 * TOLERANCE[dtype] * (length(y) + 1)).all()
    assert (solution.evaluations >= solution.iterations.clamp_max(1)).all()


@solved
def test_rows_do_not_depend_on_the_rows_beside_them(solver: str, kind: str) -> None:
    unit = unit_to_solve(kind)
    x = inputs(unit, UNITS_IN_BATCH, torch.float64)
    x[1] *= 1e6
    x[2] *= 1e-6
    y = output_of(unit, x)
    y[3] = 1.7e308  # whose norm overflows
    together = unit.inverse(y, solver)
    assert together.status[3] is Status.NOT_FINITE
    for row in range(UNITS_IN_BATCH):
        alone = one_of(unit, kind, row).inverse(y[row : row + 1], solver)
        assert alone.status[0] is together.status[row]
        if row < 3:
            off = length(alone.value - together.value[row : row + 1])
            assert off <= ROUNDING.get(solver, 1e-12) * sizes(unit, alone.value, y[row : row + 1])


@solved
def test_no_rows_are_no_work_for_a_solver(solver: str, kind: str) -> None:
    unit = unit_to_solve(kind)
    rows = (UNITS_IN_BATCH, 0) if kind == "batch" else (0,)
    solution = unit.inverse(torch.zeros(*rows, *unit.input_shape, dtype=torch.float64), solver)
    assert solution.value.shape == (*rows, *unit.input_shape)
    assert solution.codes.shape == solution.residual.shape == solution.iterations.shape == rows
    assert solution.status.shape == rows


@dtypes
@solved
def test_zero_is_an_output_like_others_with_the_absolute_residual(solver: str, kind: str, dtype: torch.dtype) -> None:
    for biases in (0.0, 1.0):
        unit = unit_to_solve(kind, dtype, biases)
        y = torch.zeros(UNITS_IN_BATCH, *unit.input_shape, dtype=dtype)
        solution = unit.inverse(y, solver)
        assert solution.converged.all()
        assert_honest(unit, y, solution, TOLERANCE[dtype])
        assert biases or not solution.value.any()


@scales
@solved
def test_tiny_and_huge_rows_are_solved_or_said_not_to_be(
    solver: str, kind: str, dtype: torch.dtype, scale: float
) -> None:
    for biases in (0.0, 1.0):
        unit = unit_to_solve(kind, dtype, biases)
        y = scale * output_of(unit, inputs(unit, UNITS_IN_BATCH, dtype))
        solution = unit.inverse(y, solver, **({} if solver == "auto" else {"max_iterations": 80}))
        assert_honest(unit, y, solution, TOLERANCE[dtype])
        if scale > 1 or not biases:  # tiny rows are below the rounding of the biases
            assert solution.converged.all()


@dtypes
@solved
@pytest.mark.parametrize("tolerance", [1e-1, 1e-4])
def test_the_error_bound_of_a_solver_holds(solver: str, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    unit = unit_to_solve(kind, dtype)
    x = inputs(unit, UNITS_IN_BATCH, dtype)
    y = output_of(unit, x)
    solution = unit.inverse(y, solver, tolerance)
    assert solution.error_bound is not None  # as every one of these units is a contraction, or monotone
    rounding = 10 * torch.finfo(dtype).eps * sizes(unit, x, y)  # of y
    assert (length(solution.value - x) <= solution.error_bound.double() + rounding).all()
    assert (solution.error_bound <= 10 * tolerance * length(y) + 1e-3).all()  # of some use


@refused
def test_a_solver_refuses_the_units_that_it_is_not_for(solver: str, kind: str) -> None:
    unit = unit_to_solve(kind)
    y = torch.ones(UNITS_IN_BATCH, *unit.input_shape, dtype=torch.float64)
    needs = "needs a unit with one ReLU layer" if kind == "feed-forward" else f"needs a {TAKEN_BY[solver][0]}"
    assert needs in refusal(lambda: unit.inverse(y, solver), ValueError)


@solved
def test_a_solver_refuses_what_is_no_output_before_any_work(solver: str, kind: str) -> None:
    unit = unit_to_solve(kind)
    y = torch.ones(UNITS_IN_BATCH, *unit.input_shape, dtype=torch.float64)
    assert "float32" in refusal(lambda: unit.inverse(y.float(), solver), TypeError)
    assert "list" in refusal(lambda: unit.inverse(y.tolist(), solver), TypeError)
    for number in (math.nan, math.inf):
        assert "not finite" in refusal(lambda number=number: unit.inverse(number * y, solver), ValueError)
    assert "shape" in refusal(lambda: unit.inverse(y[..., :-1] if y.ndim == 2 else y[:, :1], solver), ValueError)
    assert "tolerance" in refusal(lambda: unit.inverse(y, solver, 0.0), ValueError)
    assert "tolerance" in refusal(lambda: unit.inverse(y, solver, "small"), TypeError)
    assert "no option 'omgea'" in refusal(lambda: unit.inverse(y, solver, omgea=1), TypeError)


# layers


@every_layer
def test_a_layer_says_what_it_is_and_has_all_that_is_asked_of_one(name: str) -> None:
    layer = built(name)
    assert isinstance(layer.title, str)
    assert layer.title
    try:
        assert tuple(layer.input_shape) == shape_of(name)
    except ValueError as error:  # of layers that take images of every size
        assert_one_sentence(error)
    for method in ("inverse", "certificate", "inverse_lipschitz", "log_abs_det_jacobian", "differentiable_inverse"):
        assert callable(getattr(layer, method))


@dtypes
@every_layer
def test_a_layer_brings_inputs_back(name: str, dtype: torch.dtype) -> None:
    layer = built(name, dtype=dtype)
    x = inputs(layer, 3, dtype, shape_of(name))
    y = output_of(layer, x)
    solution = layer.inverse(y, "auto", TOLERANCE[dtype])
    assert isinstance(solution, Solution)
    assert solution.value.shape == x.shape
    assert solution.value.dtype == dtype
    assert solution.codes.shape == solution.residual.shape == solution.iterations.shape == (3,)
    assert_honest(layer, y, solution, TOLERANCE[dtype])
    if layer.certificate().verdict is Verdict.INVERTIBLE:
        assert solution.converged.all()
        constant = constant_of(layer, shape_of(name))
        constant = constant if math.isfinite(constant) else 100.0
        allowed = constant * TOLERANCE[dtype] * (length(y) + length(x))
        assert (length(solution.value - x) <= allowed).all()
    if solution.error_bound is not None:
        rounding = 1e3 * torch.finfo(dtype).eps * sizes(layer, x, y)
        assert (length(solution.value - x) <= solution.error_bound.double() + rounding).all()


@every_layer
def test_rows_of_a_layer_do_not_depend_on_the_rows_beside_them(name: str) -> None:
    layer = built(name)
    x = inputs(layer, 3, torch.float64, shape_of(name))
    x[1] *= 1e6
    y = output_of(layer, x)
    together = layer.inverse(y)
    for row in range(3):
        alone = layer.inverse(y[row : row + 1])
        assert alone.status[0] is together.status[row]
        assert length(alone.value - together.value[row : row + 1]) <= 1e-9 * sizes(layer, x, y)[row]


@every_layer
def test_no_rows_are_no_work_for_a_layer(name: str) -> None:
    layer = built(name)
    x = torch.zeros(0, *shape_of(name), dtype=torch.float64)
    solution = layer.inverse(output_of(layer, x))
    assert solution.value.shape == x.shape
    assert solution.codes.shape == solution.residual.shape == (0,)


@scales
@every_layer
def test_a_layer_is_honest_about_zero_and_about_tiny_and_huge_rows(name: str, dtype: torch.dtype, scale: float) -> None:
    layer = built(name, dtype=dtype)
    for x in (0.0, scale):
        y = output_of(layer, x * inputs(layer, 3, dtype, shape_of(name)))
        solution = layer.inverse(y)
        assert (solution.residual <= TOLERANCE[dtype])[solution.converged].all()
        assert_honest(layer, y, solution, TOLERANCE[dtype])
        assert x or layer.certificate().verdict is not Verdict.INVERTIBLE or solution.converged.all()


@every_layer
def test_a_layer_has_a_certificate_with_a_reason(name: str) -> None:
    certificate = built(name).certificate()
    assert isinstance(certificate, Certificate)
    assert certificate.reason.endswith(".")
    assert "\n" not in certificate.reason


@every_layer
def test_the_constant_of_a_layer_bounds_how_its_inverse_stretches(name: str) -> None:
    layer = built(name)
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randn(200, *shape_of(name), dtype=torch.float64, generator=g) for _ in range(2))
    near = first + 1e-3 * second
    constant = constant_of(layer, shape_of(name))
    for other in (second, near):
        stretch = length(first - other) / length(output_of(layer, first) - output_of(layer, other))
        assert (stretch <= constant * (1 + 1e-9)).all()


@every_layer
def test_the_constant_of_a_layer_is_by_default_that_of_its_own_inputs(name: str) -> None:
    layer = built(name)
    assert constant_of(layer) == constant_of(layer, shape_of(name))


@every_layer
def test_the_log_determinant_of_a_layer_is_autograds_or_said_not_to_exist(name: str) -> None:
    layer = built(name)
    x = inputs(layer, 2, torch.float64, shape_of(name))
    try:
        found = layer.log_abs_det_jacobian(x)
    except TypeError as error:
        assert_one_sentence(error)
        return
    assert found.shape == (2,)
    for row, number in zip(x, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None]).flatten(), row).flatten(1)
        torch.testing.assert_close(number.detach(), torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-9, atol=1e-9)


@every_layer
def test_the_differentiable_inverse_of_a_layer_is_its_inverse_and_has_its_gradient(name: str) -> None:
    layer = built(name)
    y = output_of(layer, inputs(layer, 2, torch.float64, shape_of(name))).requires_grad_()
    solution = layer.inverse(y.detach(), tolerance=1e-13)
    if not solution.converged.all():  # of one without a guarantee, which may fold
        assert layer.certificate().verdict is not Verdict.INVERTIBLE
        return
    x = layer.differentiable_inverse(y, "auto", 1e-13)
    torch.testing.assert_close(x, solution.value, rtol=0, atol=1e-12)
    v, direction = torch.randn_like(x), torch.randn_like(x)
    (gradient,) = torch.autograd.grad((x * v).sum(), y)
    # the derivative of inverse(f(x)) = x is the identity
    moved = torch.autograd.functional.jvp(layer, solution.value, direction)[1]
    torch.testing.assert_close((gradient * moved).sum(), (v * direction).sum(), rtol=1e-8, atol=1e-8)


@every_layer
def test_a_layer_refuses_what_is_no_output_before_any_work(name: str) -> None:
    layer = built(name)
    y = output_of(layer, inputs(layer, 2, torch.float64, shape_of(name)))
    if any(True for _ in layer.parameters()):
        assert "float32" in refusal(lambda: layer.inverse(y.float()), TypeError)
    assert "list" in refusal(lambda: layer.inverse(y.tolist()), TypeError)
    assert "not finite" in refusal(lambda: layer.inverse(math.nan * y), ValueError)
    assert "shape" in refusal(lambda: layer.inverse(y.flatten(1)[:, :-1]), ValueError)
    assert "unknown solver" in refusal(lambda: layer.inverse(y, "magic"), ValueError)
    assert "tolerance" in refusal(lambda: layer.inverse(y, "auto", -1.0), ValueError)
    assert "no option 'omgea'" in refusal(lambda: layer.inverse(y, "banach", omgea=1), TypeError)
