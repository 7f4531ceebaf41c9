"""Chebyshev's steps in bfloat16 between residuals in float32, and rows solved part by part."""

from __future__ import annotations

import pytest
import torch
from builders import gram_unit
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from replication import Chebyshev, MonotoneConvUnit
from replication.checks import all_finite
from replication.maps import RectifierEquation
from replication.operators import Convolution
from replication.solvers import chebyshev, coarse
from replication.solvers.coarse import GAIN, CoarseChebyshev, relaxations, saves_time
from replication.solvers.iteration import iterate


def unit_and_outputs(rows: int, norm: float = 3.0) -> tuple[MonotoneConvUnit, Tensor, Tensor]:
    """Return a unit in float32, inputs and outputs."""
    unit = gram_unit(norm, torch.float32)
    x = torch.randn(rows, 6, 7, 6, generator=torch.Generator().manual_seed(0))
    return unit, x, unit(x).detach()


@given(st.floats(1e-6, 8), st.floats(0.001, 0.3))
def test_the_steps_leave_the_gain_asked_for_of_every_eigenvalue(norm: float, gain: float) -> None:
    eigenvalues = 1 + norm * torch.linspace(0, 1, 101, dtype=torch.float64)
    left, largest = torch.ones_like(eigenvalues), torch.ones_like(eigenvalues)
    for tau in relaxations(norm, gain):
        left *= 1 - tau * eigenvalues
        largest = torch.maximum(largest, left.abs())
    assert left.abs().max() <= gain * (1 + 1e-9)
    assert largest.max() <= 1 + norm  # on the way


@pytest.mark.parametrize("norm", [0.5, 3.0, 8.0])
def test_corrections_in_bfloat16_end_with_the_solution_of_float64(norm: float) -> None:
    unit, _, y = unit_and_outputs(20, norm)
    equation = RectifierEquation(unit.rectifier_map((6, 7, 6)), y)
    solution = iterate(equation, CoarseChebyshev(), 1e-6)
    assert solution.converged.all()
    assert (solution.iterations <= 4).all()
    exact = unit.double().inverse(y.double(), Chebyshev(), tolerance=1e-12).value
    error = (solution.value - exact).flatten(1).norm(dim=1)
    assert (error <= 1.1e-6 * y.flatten(1).norm(dim=1)).all()  # its inverse is 1-Lipschitz


def test_every_evaluation_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, _, y = unit_and_outputs(1)
    calls = []
    once = Convolution.gathered

    def counted(self: Convolution, v: Tensor, bias: Tensor | None) -> Tensor:
        calls.append(v.dtype)
        return once(self, v, bias)

    equation = RectifierEquation(unit.rectifier_map((6, 7, 6)), y)
    monkeypatch.setattr(Convolution, "gathered", counted)
    solution = iterate(equation, CoarseChebyshev(), 1e-6)
    assert 2 * int(solution.evaluations) == len(calls)  # two convolutions each
    assert calls.count(torch.float32) == 2 * (int(solution.iterations) + 1)


def test_rows_that_corrections_leave_are_solved_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, x, y = unit_and_outputs(5)
    monkeypatch.setattr(chebyshev, "saves_time", lambda equation: False)
    plain = unit.inverse(y, Chebyshev(), tolerance=1e-6)
    monkeypatch.setattr(chebyshev, "saves_time", lambda equation: True)
    quick = unit.inverse(y, Chebyshev(), tolerance=1e-6)
    monkeypatch.setattr(chebyshev, "CORRECTIONS", 0)
    left = unit.inverse(y, Chebyshev(), tolerance=1e-6)
    for solution in (plain, quick, left):
        assert solution.converged.all()
        assert solution.solver == "chebyshev"
        torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(left.value, plain.value, rtol=0, atol=0)
    assert (left.evaluations > plain.evaluations).all()


def test_a_limit_of_steps_holds_for_corrections_too(monkeypatch: pytest.MonkeyPatch) -> None:
    unit, _, y = unit_and_outputs(5)
    monkeypatch.setattr(chebyshev, "saves_time", lambda equation: True)
    assert not unit.inverse(y, Chebyshev(max_iterations=1), tolerance=1e-6).converged.any()


@torch.no_grad()
def test_only_float32_convolutions_of_small_norm_are_corrected_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "bfloat16_is_fast", lambda: True)
    for norm, dtype, expected in ((3.0, torch.float32, True), (3.0, torch.float64, False), (9.0, torch.float32, False)):
        unit = gram_unit(norm, dtype)
        equation = RectifierEquation(unit.rectifier_map((6, 7, 6)), torch.zeros(1, 6, 7, 6, dtype=dtype))
        assert saves_time(equation) is expected
    monkeypatch.setattr(coarse, "bfloat16_is_fast", lambda: False)
    unit, _, y = unit_and_outputs(1)
    assert not saves_time(RectifierEquation(unit.rectifier_map((6, 7, 6)), y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_solved_part_by_part_as_all_at_once(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, _, y = unit_and_outputs(7)
    unit, y = unit.to(dtype), y.to(dtype)
    at_once = unit.inverse(y, Chebyshev())
    monkeypatch.setattr(chebyshev, "AT_ONCE", 3 * y[0].numel())
    parts = unit.inverse(y, Chebyshev())
    assert parts.converged.all()
    assert torch.equal(parts.iterations, at_once.iterations)
    torch.testing.assert_close(parts.value, at_once.value)
    assert len(unit.inverse(y[:0], Chebyshev()).value) == 0


def test_finite_numbers_whose_sum_overflows_are_finite() -> None:
    largest = torch.finfo(torch.float32).max
    assert all_finite(torch.full((3,), largest))
    assert all_finite(torch.zeros(0))
    for bad in (torch.inf, -torch.inf, torch.nan):
        assert not all_finite(torch.tensor([largest, bad, -largest]))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf]))


def test_the_gain_is_what_bfloat16_can_give() -> None:
    assert torch.finfo(torch.bfloat16).eps < GAIN
