"""Units with two ReLU layers that are invertible for all weights."""

from __future__ import annotations

import math

import pytest
import torch
from builders import length
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from replication import DeepConvUnit, DeepUnit, Inverse, Verdict
from replication.certification.feed_forward import LiftedMatrices
from replication.units.deep import DeepRectifierUnit


def dense(seed: int, d: int, h1: int, h2: int, size: float, norm_cap: float | None = None) -> DeepUnit:
    g = torch.Generator().manual_seed(seed)
    shapes = ((h1, d), (h1,), (h2,), (d, h2), (d,))
    W1, b1, b2, W3, b3 = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return DeepUnit(size * W1, b1, b2, size * W3, b3, norm_cap)


def convolutional(seed: int, size: float, padding: str = "zeros", kernel_size: int = 3) -> DeepConvUnit:
    torch.manual_seed(seed)
    unit = DeepConvUnit(2, 3, kernel_size, image_size=(4, 5), padding=padding).double()
    with torch.no_grad():
        for name, parameter in unit.named_parameters():
            parameter.copy_((size if name.startswith("weight") else 1.0) * torch.randn_like(parameter))
    return unit


def inputs(unit: DeepRectifierUnit, rows: int) -> Tensor:
    return torch.randn(rows, *unit.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


UNITS = {
    "dense": lambda: dense(0, 4, 5, 3, 1.0),
    "zeros": lambda: convolutional(0, 0.4),
    "circular": lambda: convolutional(1, 0.4, "circular"),
    "corner": lambda: convolutional(2, 0.4, "top-left", 2),
    "one tap": lambda: convolutional(3, 1.5, kernel_size=1),
}
every_unit = pytest.mark.parametrize("name", UNITS)


def test_a_dense_unit_computes_its_formula() -> None:
    unit = dense(0, 4, 5, 3, 1.0)
    x = inputs(unit, 6)
    hidden = torch.relu(x @ unit.W1.T + unit.b1)
    expected = x + torch.relu(hidden @ (unit.W1 @ unit.W3) + unit.b2) @ unit.W3.T + unit.b3
    torch.testing.assert_close(unit(x), expected)


@every_unit
def test_its_lifted_matrix_is_skew_symmetric_and_proves_it_invertible(name: str) -> None:
    unit = UNITS[name]()
    f = unit.deep_map(unit.input_shape).feed_forward()
    A = f.equation(unit(inputs(unit, 1)).detach())[0]
    torch.testing.assert_close(A, -A.mT, rtol=0, atol=1e-14)
    assert A.abs().max() > 0.1
    assert LiftedMatrices(f).decision().condition == "monotone"  # by the matrix, as of any module
    certificate = unit.certificate()
    assert (certificate.verdict, certificate.condition) == (Verdict.INVERTIBLE, "monotone")


@every_unit
def test_its_feed_forward_form_is_the_unit(name: str) -> None:
    unit = UNITS[name]()
    f, x = unit.deep_map(unit.input_shape).feed_forward(), inputs(unit, 3)
    A, c = f.equation(unit(x).detach())
    s = f.preactivations(x)
    torch.testing.assert_close(s + s.relu() @ A.mT, c)
    torch.testing.assert_close(f.recover(s, unit(x)).detach(), x)
    deep = unit.deep_map(unit.input_shape)
    torch.testing.assert_close(deep.lifted(s).detach(), s @ A.mT)
    torch.testing.assert_close(deep.right_side(unit(x)).detach(), c)
    torch.testing.assert_close(deep.recover(s, unit(x)).detach(), x)


@every_unit
def test_its_determinants_are_at_least_one_and_those_of_autograd(name: str) -> None:
    unit = UNITS[name]()
    x = inputs(unit, 8)
    found = unit.log_abs_det_jacobian(x)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda v: unit(v[None]).flatten()))(x).flatten(2)
    signs, expected = torch.linalg.slogdet(jacobians)
    torch.testing.assert_close(found, expected)
    assert (signs > 0).all()
    assert (found >= -1e-12).all()
    found.sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for n, p in unit.named_parameters() if n in ("W1", "W3", "weight1"))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.1, 1, 3, 8]))
def test_inverses_are_right_within_the_bound_of_the_proof(seed: int, d: int, h1: int, h2: int, size: float) -> None:
    unit = dense(seed, d, h1, h2, size)
    x = inputs(unit, 4)
    y = unit(x).detach()
    for tolerance in (1e-3, 1e-8):
        solution = unit.inverse(y, tolerance=tolerance)
        assert solution.converged.all()
        assert (solution.residual <= tolerance).all()
        assert (length(solution.value - x) <= solution.error_bound).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 1, 3]))
def test_the_inverse_is_as_lipschitz_as_the_proof_says(seed: int, size: float) -> None:
    unit = dense(seed, 2, 4, 4, size)
    constant = float(unit.inverse_lipschitz().detach())
    assert constant == pytest.approx(
        1 + float(torch.linalg.norm(unit.W1.detach(), 2) * torch.linalg.norm(unit.W3.detach(), 2)) / 2
    )
    x, step = inputs(unit, 200), 1e-3 * inputs(unit, 400)[200:]
    stretch = length(step) / length(unit(x + step).detach() - unit(x).detach())
    assert (stretch <= constant * (1 + 1e-9)).all()


def test_the_inverse_can_be_far_from_nonexpansive() -> None:
    """So that a bound of 1, as monotone units have, would be wrong: the oblique projection of two nearby directions."""
    angle, size = 1.0, 30.0
    W1 = size * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    W3 = size * torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    high = torch.full((1,), 1e6, dtype=torch.float64)
    unit = DeepUnit(W1, high, high, W3, torch.zeros(2, dtype=torch.float64))
    J = torch.autograd.functional.jacobian(lambda v: unit(v[None])[0], torch.zeros(2, dtype=torch.float64))
    assert torch.linalg.norm(torch.linalg.inv(J), 2) > 1.5


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_convolutions_with_large_norms_are_inverted_by_way_of_their_preactivations(size: float) -> None:
    unit = convolutional(0, size)
    x = inputs(unit, 4)
    y = unit(x).detach()
    solution = unit.inverse(y)
    assert float(unit.inverse_lipschitz()) > 10
    assert solution.converged.all()
    assert (length(solution.value - x) <= solution.error_bound).all()
    assert length(solution.value - x).max() < 1e-6
    assert size < 3 or solution.solver == "newton_gmres, exact"


@pytest.mark.parametrize("solver", ["newton_gmres", "anderson"])
def test_the_general_methods_invert_units_of_moderate_norm(solver: str) -> None:
    unit = convolutional(0, 0.15)
    x = inputs(unit, 4)
    solution = unit.inverse(unit(x).detach(), solver)
    assert solution.solver == solver
    assert length(solution.value - x).max() < 1e-8


def test_a_cap_bounds_the_product_of_the_norms() -> None:
    for unit in (dense(0, 4, 5, 3, 3.0, norm_cap=2.0), DeepConvUnit(2, 3, image_size=(5, 5), norm_cap=2.0).double()):
        assert 1 < float(unit.inverse_lipschitz().detach()) <= 2 * (1 + 1e-9)
        like = torch.zeros((), dtype=torch.float64)
        f = unit.deep_map(unit.input_shape)
        first, third = (torch.linalg.matrix_norm(part.matrix(like).detach(), 2) for part in (f.W1, f.W3))
        assert 1 < first * third <= 2


def test_gradients_of_the_inverse_are_those_of_finite_differences() -> None:
    unit = dense(1, 3, 4, 4, 0.5)
    y = unit(inputs(unit, 2)).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, *_: Inverse(unit, tolerance=1e-14)(v), (y, *unit.parameters()), atol=1e-6)


def test_what_is_no_deep_unit_is_refused() -> None:
    W, b = torch.ones(3, 2), torch.ones(3)
    with pytest.raises(ValueError, match="b2 must have the shape"):
        DeepUnit(W, b, torch.ones(4), W.mT.clone(), torch.ones(2))
    with pytest.raises(ValueError, match="must be matrices"):
        DeepUnit(b, b, b, b, b)
    with pytest.raises(ValueError, match="image_size"):
        DeepConvUnit(2, 3, norm_cap=1.0)
    with pytest.raises(ValueError, match="odd size"):
        DeepConvUnit(2, 3, 2)
    unit = DeepConvUnit(2, 3, image_size=(4, 4))
    with torch.no_grad():
        unit.weight1[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        unit.certificate()
