"""The two algorithms and the loop: against naive versions, brute force and theory, and honest about failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import arrays_of, batch_of, gram_unit, images_of, unit_of_norm, without_biases
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import forward, naive_banach, naive_modulus, preimages, smallest_singular_value

from replication import (
    Anderson,
    Banach,
    Chebyshev,
    LipschitzConvUnit,
    Modulus,
    MonotoneConvUnit,
    NewtonCG,
    ResidualUnit,
    Status,
    resolvents,
)
from replication.conditions import is_monotone
from replication.experiments.studies.network_benchmark import contractive_unit
from replication.maps import DenseMap, RectifierEquation
from replication.operators import Convolution, Dense, norm_estimate
from replication.solvers import get_solver
from replication.solvers.auto import WIDE
from replication.solvers.quick_first import QuickFirst

SOLVERS = ["banach", "modulus", "anderson"]


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize(("solver", "naive"), [(Banach, naive_banach), (Modulus, naive_modulus)])
def test_iterates_are_those_of_the_naive_method(solver: type, naive: object, steps: int) -> None:
    unit = unit_of_norm(6, 4, 0.9, seed=3)
    _, y = images_of(unit, 5)
    solution = unit.inverse(y, solver(max_iterations=steps), tolerance=1e-300)
    expected = np.array([naive(row, steps, *arrays_of(unit)) for row in y.numpy()])
    np.testing.assert_allclose(solution.value.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert (solution.iterations == steps).all()


@pytest.mark.parametrize("solver", SOLVERS)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.1, 6), st.integers(0, 10_000))
def test_what_converges_is_a_preimage_found_by_brute_force(solver: str, h: int, d: int, norm: float, seed: int) -> None:
    unit = unit_of_norm(h, d, norm, seed)
    W1, _, W2, _ = arrays_of(unit)
    assume(smallest_singular_value(W1, W2) > 1e-3)  # a singular piece has a whole ray of preimages
    x, y = images_of(unit, 3, seed)
    solution = unit.inverse(y, solver, max_iterations=600)  # of which a contraction by 0.95 needs 450
    for row in range(3):
        found = preimages(y[row].numpy(), *arrays_of(unit))
        if solution.status[row] is Status.CONVERGED:
            value = solution.value[row].numpy()
            assert min(np.linalg.norm(value - other) for other in found) < 1e-5 * (1 + np.linalg.norm(value))
        if norm < 0.95:
            assert solution.status[row] is Status.CONVERGED
            assert len(found) == 1
            torch.testing.assert_close(solution.value[row], x[row], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_contractions_round_trip_to_the_precision_of_the_dtype(solver: str, dtype: torch.dtype, device: str) -> None:
    unit = unit_of_norm(10, 10, 0.8, seed=0, dtype=dtype).to(device)
    x, y = images_of(unit.cpu(), 50)
    unit.to(device)
    tolerance = 100 * torch.finfo(dtype).eps
    solution = unit.inverse(y.to(device), solver, tolerance=tolerance)
    assert solution.converged.all()
    error = (solution.value.cpu() - x).norm(dim=1) / y.norm(dim=1)
    assert (error <= tolerance * 5 * 20).all()  # 1/(1 − 0.8) for the contraction, the rest for ‖W₁‖‖W₂‖/‖A‖


def test_mixed_batch_gives_every_row_its_own_status() -> None:
    identity = torch.eye(2, dtype=torch.float64)
    W1 = torch.stack([0.5 * identity, 3 * identity, torch.tensor([[0.0, 0.0], [0.0, 3.0]]).double(), 1e200 * identity])
    W2 = torch.stack([identity, -identity, identity, 1e200 * identity])
    units = without_biases(W1, W2)
    y = torch.tensor([[1.0, -2.0], [1.0, 1.0], [1.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    solution = units.inverse(y, "banach")
    # contraction; x ← y + 3x grows; scalar 2-cycle x ← 2 − 3·relu(x); overflow
    assert solution.status.tolist() == [Status.CONVERGED, Status.DIVERGED, Status.STAGNATED, Status.NOT_FINITE]
    torch.testing.assert_close(solution.value[0], torch.tensor([2 / 3, -2.0], dtype=torch.float64))
    assert torch.isfinite(solution.value).all()
    assert solution.iterations[1] < 20  # growth by 3 a step is seen early


@pytest.mark.parametrize("solver", ["banach", "modulus"])  # Anderson's least squares magnify rounding
def test_rows_do_not_depend_on_their_batch(solver: str) -> None:
    gammas = torch.linspace(0.3, 4, 40, dtype=torch.float64)
    units = [unit_of_norm(5, 5, float(norm), seed) for seed, norm in enumerate(gammas)]
    batch = batch_of(units)
    _, y = images_of(batch, 40)
    together = batch.inverse(y, solver, patience=50)
    assert len(set(together.status)) > 1
    for row, unit in enumerate(units):
        alone = unit.inverse(y[row : row + 1], solver, patience=50)
        assert alone.status[0] is together.status[row]
        if alone.status[0] is Status.CONVERGED:
            assert alone.iterations[0] == together.iterations[row]
            torch.testing.assert_close(alone.value[0], together.value[row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25)
@given(st.floats(0.2, 8), st.integers(0, 10_000))
def test_residual_is_that_of_the_value_returned(solver: str, norm: float, seed: int) -> None:
    unit = unit_of_norm(6, 6, norm, seed)
    _, y = images_of(unit, 4, seed)
    solution = unit.inverse(y, solver, max_iterations=300)
    residual = forward(solution.value.numpy(), *arrays_of(unit)) - y.numpy()
    expected = np.linalg.norm(residual, axis=1) / np.linalg.norm(y.numpy(), axis=1)
    # where the point is far larger than y, so is the rounding of f there
    size = np.linalg.norm(solution.value.numpy(), axis=1) / np.linalg.norm(y.numpy(), axis=1)
    rounding = 1e-13 + 100 * np.finfo(float).eps * (1 + norm) * size.max()
    np.testing.assert_allclose(solution.residual.numpy(), expected, rtol=1e-6, atol=rounding)
    assert ((solution.residual <= 1e-10) == solution.converged).all()


@given(st.integers(1, 8), st.floats(0.1, 30), st.integers(0, 10_000))
def test_modulus_contracts_exactly_on_monotone_matrices(h: int, norm: float, seed: int) -> None:
    A = unit_of_norm(h, h, norm, seed)
    A = (A.W1 @ A.W2).detach()
    identity = torch.eye(h, dtype=torch.float64)
    shifted = 2 * identity + A
    assume(torch.linalg.cond(shifted) < 1e8)
    rate = float(torch.linalg.matrix_norm(torch.linalg.solve(shifted, A), 2))
    minimum = float(np.linalg.eigvalsh((A + A.T).numpy() / 2)[0])
    if abs(minimum + 1) > 1e-6:
        assert (rate < 1) == (minimum > -1)
        assert bool(is_monotone(A)) == (minimum > -1)


@pytest.mark.parametrize("seed", range(5))
def test_modulus_converges_at_the_rate_of_theory(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    B = torch.randn(4, 4, dtype=torch.float64, generator=g)
    A = 6 * B @ B.T / torch.linalg.matrix_norm(B @ B.T, 2)
    # c > 0 large: all preactivations stay positive, where |s| = s and the iteration is linear with the map (2I+A)⁻¹A
    s = 10 + torch.rand(4, dtype=torch.float64, generator=g)
    unit = without_biases(A, torch.eye(4).double())
    x = torch.linalg.lstsq(A, s[:, None]).solution.T
    y = unit(x).detach()
    rate = float(torch.linalg.matrix_norm(torch.linalg.solve(2 * torch.eye(4).double() + A, A), 2))
    residuals = [
        float(unit.inverse(y, "modulus", tolerance=1e-300, max_iterations=steps).residual) for steps in (20, 30)
    ]
    measured = (residuals[1] / residuals[0]) ** 0.1
    assert measured == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("omega", [0.3, 1.0, 3.0])
def test_every_omega_converges_on_monotone_units(omega: float) -> None:
    B = torch.randn(6, 6, dtype=torch.float64)
    unit = ResidualUnit(B, torch.randn(6).double(), B.T, torch.zeros(6).double())
    x, y = images_of(unit, 10)
    solution = unit.inverse(y, "modulus", omega=omega)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, x, rtol=1e-8, atol=1e-8)


def test_solvers_agree_where_both_are_guaranteed() -> None:
    unit = unit_of_norm(8, 8, 0.9, seed=5)
    _, y = images_of(unit, 20)
    torch.testing.assert_close(unit.inverse(y, "banach").value, unit.inverse(y, "modulus").value, rtol=1e-8, atol=1e-8)


def test_existing_method_cycles_on_a_monotone_unit_that_the_proposed_method_inverts() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    unit = without_biases(one, 3 * one)
    y = 4 * one
    existing, proposed = unit.inverse(y, "banach"), unit.inverse(y, "modulus")
    assert existing.status[0] is Status.STAGNATED
    assert proposed.status[0] is Status.CONVERGED
    torch.testing.assert_close(proposed.value, one)


def test_running_out_of_iterations_is_said() -> None:
    unit = unit_of_norm(6, 6, 0.99, seed=2)
    _, y = images_of(unit, 3)
    assert set(unit.inverse(y, "banach", max_iterations=2).status) == {Status.MAX_ITERATIONS}


def test_finished_rows_are_no_longer_evaluated() -> None:
    unit = unit_of_norm(6, 6, 0.9, seed=4)
    _, y = images_of(unit, 8)
    seen: list[int] = []

    class Counting(Banach):
        def step(self, equation: RectifierEquation, *rest: object) -> object:
            seen.append(len(equation.y))
            return super().step(equation, *rest)  # type: ignore[arg-type]

    y[0] = unit(torch.zeros(1, 6).double()).detach() * 1e-3  # of another scale, so that rows end at different times
    solution = Counting().solve(RectifierEquation(unit.rectifier_map((6,)), y), 1e-8)
    assert sum(seen) < len(y) * int(solution.iterations.max())
    assert seen[-1] < len(y)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown solver 'newtn'; known are anderson, auto, banach, chebyshev, exact,"):
        get_solver("newtn")
    with pytest.raises(TypeError, match="'banach' has no option 'omega'"):
        get_solver("banach", omega=2)
    with pytest.raises(TypeError, match="is configured already"):
        get_solver(Banach(), max_iterations=3)
    with pytest.raises(ValueError, match="omega must be a positive number"):
        Modulus(omega=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("solver", ["chebyshev", "anderson", "newton_cg"])
def test_accelerated_methods_invert_gram_units(solver: str, norm: float, dtype: torch.dtype, device: str) -> None:
    unit = gram_unit(norm, dtype).to(device)
    x = torch.randn(20, 6, 7, 6, dtype=dtype, device=device)
    tolerance = 100 * torch.finfo(dtype).eps
    solution = unit.inverse(unit(x).detach(), solver, tolerance=tolerance)
    assert solution.converged.all()
    assert solution.solver == solver
    error = (solution.value - x).flatten(1).norm(dim=1)
    assert (error <= 1.5 * solution.error_bound + 1e-6 * (dtype == torch.float32)).all()
    matrix_free = unit.inverse(unit(x).detach(), "modulus", omega="auto", tolerance=tolerance)
    torch.testing.assert_close(solution.value, matrix_free.value, rtol=1e-3, atol=3000 * tolerance)


def test_chebyshev_converges_at_the_rate_of_theory() -> None:
    unit = gram_unit(3.0)
    with torch.no_grad():
        unit.bias1.fill_(100.0)  # one linear piece
    y = unit(torch.randn(8, 6, 7, 6).double()).detach()
    steps = 30
    solution = unit.inverse(y, Chebyshev(max_iterations=steps), tolerance=1e-300)
    norm = float(unit.rectifier_map((6, 7, 6)).norm_bound.detach())
    kappa = 1 + norm
    rate = (kappa**0.5 - 1) / (kappa**0.5 + 1)
    first = unit.inverse(y, Chebyshev(max_iterations=0), tolerance=1e-300).residual
    assert (solution.residual <= 2 * rate**steps * kappa * first).all()


@pytest.mark.parametrize("norm", [1.0, 3.0, 12.0])
def test_acceleration_saves_evaluations(norm: float) -> None:
    unit = gram_unit(norm)
    y = unit(torch.randn(20, 6, 7, 6).double()).detach()
    plain = unit.inverse(y, Chebyshev(max_iterations=10_000), tolerance=1e-10).evaluations.double().mean()
    gradient = unit.inverse(y, Anderson(memory=1, growth=1.0), tolerance=1e-10).evaluations.double().mean()
    anderson = unit.inverse(y, "anderson", tolerance=1e-10).evaluations.double().mean()
    assert anderson < gradient
    assert plain < 4 * (1 + norm) ** 0.5 * 12  # √κ·log(10¹⁰)/2, with room


def test_anderson_beats_the_existing_method_on_its_own_ground() -> None:
    torch.manual_seed(1)
    unit = LipschitzConvUnit(6, 9, image_size=(7, 6), lipschitz=0.9).double()
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.mul_(30)  # against the caps
    y = unit(torch.randn(20, 6, 7, 6).double()).detach()
    existing, anderson = (unit.inverse(y, solver, tolerance=1e-10) for solver in ("banach", "anderson"))
    assert anderson.converged.all()
    assert anderson.evaluations.double().mean() < existing.evaluations.double().mean()
    torch.testing.assert_close(anderson.value, existing.value, rtol=1e-7, atol=1e-7)


def test_anderson_saves_most_where_the_branch_contracts_by_just_0_9() -> None:
    unit, x = contractive_unit((8, 6, 9, 9), hidden=9, contraction=0.9, seed=0)
    assert norm_estimate(Convolution(unit.weight1.detach(), (9, 9))) ** 2 == pytest.approx(0.9, rel=1e-5)
    y = unit(x).detach()
    existing, anderson = (unit.inverse(y, solver, tolerance=1e-10) for solver in ("banach", "anderson"))
    errors = [(solution.value - x).flatten(1).norm(dim=1).max() for solution in (existing, anderson)]
    assert errors[1] <= 1.5 * errors[0]
    taken = unit.inverse(y, tolerance=1e-10)  # which tries the existing method first, and here in vain
    assert taken.solver == "anderson"
    assert torch.equal(taken.value, anderson.value)
    assert (taken.evaluations > anderson.evaluations).all()
    assert 3 * anderson.evaluations.double().mean() <= existing.evaluations.double().mean()


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0.01, 1e4), st.integers(0, 10_000))
def test_newton_with_conjugate_gradients_solves_every_gram_equation(h: int, d: int, norm: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(h, d, dtype=torch.float64, generator=g)
    W *= (norm / torch.linalg.matrix_norm(W @ W.mT, 2)) ** 0.5
    b1, b2 = torch.randn(h, dtype=torch.float64, generator=g), torch.randn(d, dtype=torch.float64, generator=g)
    gram = DenseMap(Dense(W), b1, Dense(W.mT), b2, gram=True)
    x = torch.randn(5, d, dtype=torch.float64, generator=g)
    equation = RectifierEquation(gram, gram(x))
    solution = NewtonCG(max_iterations=200).solve(equation, 1e-12)
    assert solution.converged.all()
    error = (solution.value - x).norm(dim=1)
    assert (error <= 2e-12 * equation.y.norm(dim=1) + 1e-13 * (1 + norm)).all()  # its inverse is 1-Lipschitz
    assert (solution.evaluations > solution.iterations).all()


@pytest.mark.parametrize("scale", [1e-24, 1e-20, 1e17])
@pytest.mark.parametrize("solver", ["newton_cg", "chebyshev", "modulus", "anderson"])
def test_tiny_and_huge_rows_are_solved_in_float32(solver: str, scale: float) -> None:
    unit = gram_unit(9.0, torch.float32)
    with torch.no_grad():
        unit.bias1.zero_()
    x = scale * torch.randn(3, 6, 7, 6)
    solution = unit.inverse(unit(x).detach(), solver)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value / scale, x / scale, rtol=0, atol=1e-3)


def test_large_gram_units_are_taken_without_their_matrix_by_newton_cg_alone() -> None:
    unit = gram_unit(30.0, size=(20, 20))  # 3600 hidden numbers
    x = torch.randn(3, 6, 20, 20).double()
    solution = unit.inverse(unit(x).detach(), "newton_cg", tolerance=1e-12)
    with pytest.raises(ValueError, match="is too large for methods and certificates that take its matrix apart"):
        unit.inverse(x, "newton")
    torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="forcing must lie between 0 and 1"):
        NewtonCG(forcing=1.0)


@pytest.mark.parametrize("method", ["FourierResolvent", "IterativeResolvent", "ImageResolvent"])
def test_modulus_takes_convolutions_of_every_kind(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    padding = "circular" if method == "FourierResolvent" else "zeros"
    if method == "IterativeResolvent":
        monkeypatch.setattr(resolvents, "FACTORIZED", 0)
        monkeypatch.setattr(resolvents, "ROW_SHARE", 0)
    unit = MonotoneConvUnit(3, 5, image_size=(7, 6), padding=padding, norm_cap=9.0).double()
    x = torch.randn(4, 3, 7, 6).double()
    equation = RectifierEquation(unit.rectifier_map((3, 7, 6)), unit(x).detach())
    assert type(equation.map.resolvent(2.0, like=equation.y).inner).__name__ == method
    solution = unit.inverse(unit(x).detach(), "modulus", omega="auto", tolerance=1e-12)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-9)


def test_auto_takes_the_method_that_suits_the_unit() -> None:
    large = (16, 16)
    units = {
        "exact": unit_of_norm(5, 5, 4.0, seed=1),
        "chebyshev": MonotoneConvUnit(2, 3, image_size=large, norm_cap=3.0).double(),
        "newton_cg": gram_unit(2000.0, size=large),
        "banach": LipschitzConvUnit(2, 3, image_size=large).double(),
    }
    for method, unit in units.items():
        y = torch.zeros(1, 5).double() if method == "exact" else torch.zeros(1, unit.channels, *large).double()
        assert unit.inverse(y).solver == method
    with pytest.raises(TypeError, match="'auto' has no option 'omega'; it has none"):
        get_solver("auto", omega=1.0)


def test_bad_anderson_options_are_refused() -> None:
    with pytest.raises(ValueError, match="memory must be at least 1"):
        Anderson(memory=0)


@pytest.mark.parametrize(("norm", "method"), [(0.7, "anderson"), (3.0, "exact")])
def test_wide_units_of_small_norm_are_iterated_and_others_are_not(norm: float, method: str) -> None:
    unit = unit_of_norm(WIDE, WIDE, norm, seed=1)
    x, y = images_of(unit, 3)
    solution = unit.inverse(y)
    assert solution.solver == method
    assert solution.converged.all()
    assert solution.residual.max() < 1e-12
    if norm < 1:
        assert ((solution.value - x).norm(dim=1) <= solution.error_bound).all()
        assert torch.allclose(solution.value, x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("steps", [0, 12, 100])
def test_rows_that_the_iteration_leaves_are_solved_by_the_other_method(steps: int) -> None:
    unit = unit_of_norm(20, 20, 0.8, seed=2)
    _, y = images_of(unit, 40)
    y[0] = unit.b2 - 50  # where all is off or on, an iteration ends sooner
    quick = QuickFirst(Anderson(max_iterations=steps))
    mixed, exact = unit.inverse(y, quick), unit.inverse(y, "exact")
    assert mixed.converged.all()
    assert torch.allclose(mixed.value, exact.value, rtol=1e-11, atol=1e-11)
    assert mixed.solver == {0: "exact", 100: "anderson"}.get(steps, mixed.solver)
    alone = unit.inverse(y, Anderson(max_iterations=steps), tolerance=1e-13)
    assert torch.equal(mixed.value[alone.converged], alone.value[alone.converged])
