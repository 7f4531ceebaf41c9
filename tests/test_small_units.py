"""Many small units at once: the compiled loops take the steps of the one loop of all fixed-point methods."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication import Banach, Modulus, ResidualUnit
from replication.maps import RectifierEquation
from replication.solvers.iteration import FEW, FixedPoint, iterate
from replication.solvers.small_units import are_small
from replication.solvers.solution import Solution

WHOLE = [1, 4, 8, 12]  # dimensions whose norms are added up alike, so that not even ties are broken otherwise
METHODS = [Banach(300, 40), Modulus(max_iterations=300, patience=40), Modulus(2.5, 7, 40), Banach(0, 0)]


def equation(units: int, h: int, d: int, norm: float, seed: int) -> RectifierEquation:
    """Random units of all norms up to one and outputs of them."""
    generator = torch.Generator().manual_seed(seed)
    W1, b1, W2, b2, x = (
        torch.randn(units, *shape, generator=generator, dtype=torch.float64)
        for shape in ((h, d), (h,), (d, h), (d,), (d,))
    )
    sizes = torch.linspace(0, norm, units, dtype=torch.float64) / torch.linalg.matrix_norm(W1 @ W2, ord=2)
    unit = ResidualUnit(sizes[:, None, None] * W1, b1, W2, b2)
    return RectifierEquation(unit.rectifier_map((d,)), unit(x).detach())


def assert_same(found: Solution, expected: Solution) -> None:
    """Points agree bit by bit; norms may round otherwise in their last bit."""
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.iterations, expected.iterations)
    assert torch.equal(found.evaluations, expected.evaluations)
    torch.testing.assert_close(found.residual, expected.residual, rtol=1e-14, atol=0, equal_nan=True)
    torch.testing.assert_close(found.value, expected.value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("method", METHODS, ids=str)
@given(
    st.sampled_from([1, FEW, FEW + 4]), st.integers(1, 9), st.sampled_from(WHOLE), st.floats(0, 50), st.integers(0, 99)
)
def test_compiled_loops_end_as_the_general_one(
    method: FixedPoint, units: int, h: int, d: int, norm: float, seed: int
) -> None:
    of_units = equation(units, h, d, norm, seed)
    assert are_small(of_units)
    assert_same(method.solve(of_units, 1e-9), iterate(of_units, method, 1e-9))


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e150, 1e300, torch.inf, torch.nan])
def test_compiled_loops_take_numbers_of_every_size(method: FixedPoint, scale: float) -> None:
    of_units = equation(6, 4, 8, 3.0, 0)
    extreme = RectifierEquation(of_units.map.linear(), of_units.y * scale)
    assert_same(method.solve(extreme, 1e-9), iterate(extreme, method, 1e-9))


@pytest.mark.parametrize("method", METHODS[:2], ids=str)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.8), st.integers(0, 99))
def test_a_row_alone_takes_the_steps_of_the_general_loop(
    method: FixedPoint, h: int, d: int, norm: float, seed: int
) -> None:
    units = equation(2, h, d, norm, seed)
    weights = units.map.W1.weight, units.map.b1, units.map.W2.weight, units.map.b2
    unit = ResidualUnit(*(tensor[1] for tensor in weights))
    alone = RectifierEquation(unit.rectifier_map((d,)), units.y[1:])
    assert are_small(alone)
    found, expected = method.solve(alone, 1e-9), iterate(alone, method, 1e-9)
    assert found.converged.all()
    assert expected.converged.all()
    assert abs(int(found.iterations) - int(expected.iterations)) <= 1  # sums are rounded otherwise
    torch.testing.assert_close(found.value, expected.value, rtol=1e-7, atol=1e-7)


def test_larger_matrices_shared_by_several_rows_and_single_precision_are_left_to_torch() -> None:
    small, large = equation(2, 4, 4, 1.0, 0), equation(2, 20, 20, 1.0, 0)
    weights = small.map.W1.weight, small.map.b1, small.map.W2.weight, small.map.b2
    shared = ResidualUnit(*(tensor[0] for tensor in weights)).rectifier_map((4,))
    single = ResidualUnit(*(tensor.float() for tensor in weights)).rectifier_map((4,))
    others = RectifierEquation(shared, small.y), RectifierEquation(single, small.y.float())
    assert [are_small(each) for each in (small, large, *others)] == [True, False, False, False]
