"""Newton, pivoting and the exact inverse: finite on every P-matrix, exact, and honest beyond."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import cycling, images_of, triangular
from builders import unit_of_kind as random_unit
from builders import unit_of_matrix as unit_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import replication.compiled
from replication import CausalConvUnit, Exact, MonotoneConvUnit, Newton, Pivoting, ResidualUnit, Status, Verdict
from replication.conditions import is_p_matrix
from replication.experiments.data.ensembles import Entrywise, Gaussian, Gram, Monotone, Skew, Uniform, normal
from replication.experiments.studies.lemke_peer import LemkePeer
from replication.kernels import walking
from replication.kernels.lemke import FOUND, lemke
from replication.kernels.pieces import CYCLE, MAX_STEPS, NOT_P, SINGULAR
from replication.kernels.workspace import workspace
from replication.maps import RectifierEquation
from replication.solvers.blocks import diagonal_blocks, walk_by_blocks
from replication.solvers.pieces import AGREES, codes_of, solve_pieces, walk
from replication.solvers.solution import STATUSES

FINITE = ["exact", "pivoting"]


def every_piece(n: int) -> Tensor:
    """All subsets of n coordinates (2ⁿ, n)."""
    return torch.tensor(list(itertools.product((False, True), repeat=n)))


@pytest.mark.parametrize("patience", [1, 5, 0])
@pytest.mark.parametrize("a", [1.01, 2.0, 30.0])
def test_finite_methods_solve_the_matrix_on_which_newton_cycles_from_every_start(patience: int, a: float) -> None:
    A = cycling(a) - torch.eye(3).double()
    c = torch.cat([torch.randn(200, 3), torch.ones(1, 3), torch.eye(3)]).double()
    expected, ends, _ = walk(A, c, 5, 100)
    assert (ends == AGREES).all()
    torch.testing.assert_close(expected + expected.relu() @ A.T, c, rtol=1e-12, atol=1e-12 * a)
    newton_ends = set()
    for piece in every_piece(3):
        start = piece.expand(len(c), 3)
        s, ends, _ = walk(A, c, patience, 100, start)
        assert (ends == AGREES).all()
        torch.testing.assert_close(s, expected)
        newton_ends |= set(walk(A, c, -1, 100, start)[1].tolist())
    assert newton_ends == {AGREES, CYCLE}  # Newton alone cycles from some starts, and says so


@pytest.mark.parametrize("solver", FINITE)
@pytest.mark.parametrize("n", [1, 4, 8, 12])
def test_finite_methods_solve_murtys_matrix(solver: str, n: int) -> None:
    unit = unit_of(triangular(n))
    powers = 2.0 ** torch.arange(n).flip(0)  # right-hand sides that make single steps exponentially many
    y = torch.cat(
        [torch.randn(200, n), torch.ones(1, n), -torch.ones(1, n), powers[None], powers.cumsum(0)[None]]
    ).double()
    solution = unit.inverse(y, solver, tolerance=1e-11)
    assert solution.converged.all()
    for M in (triangular(n), triangular(n).T, triangular(n).flip(0, 1)):
        s, ends, _ = walk(M - torch.eye(n).double(), y, {"exact": 5, "pivoting": 0}[solver], 10_000)
        assert (ends == AGREES).all()
        torch.testing.assert_close(s + s.relu() @ (M - torch.eye(n).double()).T, y, rtol=1e-9, atol=1e-9)


def data_on_kinks(A: Tensor, seed: int, rows: int = 20) -> tuple[Tensor, Tensor]:
    """Small integers s, many of them zero, and s + A·relu(s); and these as outputs, whose preimage is not known."""
    g = torch.Generator().manual_seed(seed)
    s = torch.randint(-1, 2, (rows, A.shape[-1]), generator=g).double()
    return s, s + torch.matmul(A, s.relu()[:, :, None])[:, :, 0]


def certified_matrices(n: int) -> dict[str, Tensor]:
    """Matrices M of order n = 3k that `certify` calls P by different conditions, hard for Newton's or Lemke's steps."""
    g = torch.Generator().manual_seed(n)
    order = torch.randperm(n, generator=g)
    lower = torch.tril(torch.ones(n, n, dtype=torch.float64), -1)
    eye = torch.eye(n).double()
    cycles = torch.block_diag(*(cycling(1.1 + block / n) for block in range(n // 3)))
    below = torch.block_diag(*[torch.ones(3, 3)] * (n // 3)).double() == 0
    skew = torch.triu(torch.randint(-2, 3, (n, n), generator=g), 1).double()
    nearly = eye + 1.99 * lower
    nearly[0, -1] = 1e-4  # monotone, and no block triangular form
    scales = torch.logspace(-2, 2, n).double()[order]
    dominant = eye + 0.9 * (torch.rand(n, n, generator=g).double() - 0.5) * (1 - eye) / n * 2
    return {
        "Murty": triangular(n),
        "permuted": triangular(n)[order][:, order],
        "transposed": triangular(n).mT,
        "steeper": eye + 3 * lower,
        "cycling blocks": cycles + below * torch.tril(torch.ones(n, n)),
        "permuted cycling blocks": (cycles + 0.5 * below * torch.tril(torch.ones(n, n)))[order][:, order],
        "skew": eye + skew - skew.mT,
        "nearly Murty": nearly,
        "scaled H-matrix": scales[:, None] * dominant / scales,
    }


@pytest.mark.parametrize("n", [9, 60, 99])
def test_exact_solves_what_is_certified_on_many_kinks_at_once(n: int) -> None:
    for name, M in certified_matrices(n).items():
        unit = unit_of(M)
        assert unit.certificate().verdict is Verdict.INVERTIBLE, name
        x, y = data_on_kinks(M - torch.eye(n).double(), n)
        solution = unit.inverse(torch.cat([y, x, x.abs()]), "exact")
        assert solution.converged.all(), name
        assert int(solution.iterations.max()) < 100 * n, name


def test_batches_of_units_are_walked_by_the_blocks_of_each() -> None:
    n, g = 60, torch.Generator().manual_seed(0)
    orders = [torch.randperm(n, generator=g) for _ in range(20)]
    A = torch.stack([(triangular(n) - torch.eye(n))[order][:, order] for order in orders])
    A[0] = torch.randn(n, n, generator=g).double() / 20  # one without a block triangular form among the others
    zero = torch.zeros(20, n).double()
    units = ResidualUnit(torch.eye(n).double().expand(20, n, n), zero, A, zero)
    _, y = data_on_kinks(A, 1)
    solution = units.inverse(y, "exact")
    assert solution.converged.all()
    alone = unit_of(A[3] + torch.eye(n)).inverse(y[3:4], "exact")
    assert torch.equal(alone.value[0], solution.value[3])
    torch.testing.assert_close(units(solution.value).detach(), y)


def test_pixels_of_triangular_matrices_are_walked_by_blocks() -> None:
    unit = CausalConvUnit(60, 60, 2).double()
    with torch.no_grad():
        for weight, aligned in ((unit.weight1, torch.eye(60)), (unit.weight2, triangular(60) - torch.eye(60))):
            weight.zero_()
            weight[:, :, 1, 1] = aligned
    x = torch.randint(-1, 2, (4, 60, 2, 2), generator=torch.Generator().manual_seed(0)).double()
    y = unit(x).detach()
    for solver in ("exact", "jacobi"):
        assert unit.inverse(y, solver).converged.all()


@given(st.integers(1, 12), st.floats(0.05, 0.5), st.integers(0, 10_000))
def test_diagonal_blocks_come_in_an_order_that_makes_the_pattern_block_triangular(
    n: int, density: float, seed: int
) -> None:
    pattern = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < density
    blocks = diagonal_blocks(pattern)
    assert sorted(torch.cat(blocks).tolist()) == list(range(n))
    before = torch.zeros(n, dtype=torch.bool)
    reachable = torch.linalg.matrix_power(torch.eye(n) + pattern.float(), n) > 0
    for block in blocks:
        assert reachable[block][:, block].all()
        before[block] = True
        assert not pattern[block][:, ~before].any()


@given(st.integers(2, 9), st.integers(0, 10_000), st.booleans())
def test_walks_by_blocks_end_where_walks_over_the_whole_do(n: int, seed: int, batched: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(30, n, n, generator=g, dtype=torch.float64) * (torch.rand(30, n, n, generator=g) < 0.3)
    A = 0.9 * A / torch.linalg.matrix_norm(A, 2)[:, None, None].clamp_min(1e-9)  # a P-matrix
    c = torch.randn(30, n, generator=g, dtype=torch.float64)
    A = A if batched else A[0]
    (s, ends, _), (whole, *_) = walk_by_blocks(A, c, 5, 1000), walk(A, c, 5, 1000)
    assert (ends == AGREES).all()
    torch.testing.assert_close(s, whole)


def test_a_long_path_of_lemkes_method_is_left_for_another() -> None:
    n = 60
    A = triangular(n) - torch.eye(n).double()
    A[0, -1] = 1e-30  # no block triangular form
    s, y = data_on_kinks(A, 0, 60)
    found, ends, steps = walk(A, y, Exact().patience, Exact().max_iterations)
    assert (ends == AGREES).all()
    assert torch.equal(found, s)
    assert 50 * n < int(steps.max()) < 300 * n  # past the first path, which has 2ⁿ pivots


@pytest.mark.parametrize("norm", [5.0, 1000.0])
@pytest.mark.parametrize("n", [10, 60, 100])
def test_exact_solves_strongly_skew_units_in_few_pivots(n: int, norm: float) -> None:
    N = torch.randn(10, n, n, dtype=torch.float64)
    A = norm * (N - N.mT) / torch.linalg.matrix_norm(N - N.mT, ord=2, keepdim=True)
    zero = torch.zeros(10, n, dtype=torch.float64)
    units = ResidualUnit(torch.eye(n).double().expand(10, n, n), zero, A, zero)
    x = torch.randn(10, n, dtype=torch.float64)
    solution = units.inverse(units(x).detach(), "exact")
    assert solution.converged.all()
    assert solution.iterations.max() < 10 * n  # Murty's method takes tens of thousands here
    torch.testing.assert_close(solution.value, x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", [*FINITE, "newton", "modulus", "banach"])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 1e-170), (torch.float64, 1e160), (torch.float32, 1e-24)])
def test_tiny_and_huge_rows_are_solved_and_judged_by_their_own_size(
    solver: str, dtype: torch.dtype, size: float
) -> None:
    values = ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[0.0, -3.0], [3.0, 0.0]], [0.0, 0.0])
    unit = ResidualUnit(*(torch.tensor(value, dtype=dtype) for value in values))
    solution = unit.inverse(torch.full((1, 2), size, dtype=dtype), solver)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value / size, torch.tensor([[1.0, -2.0]], dtype=dtype), rtol=1e-4, atol=1e-4)


def test_coordinates_of_very_different_size_keep_their_signs() -> None:
    B = torch.tensor([[0.5, 3.0], [-3.0, 0.5]], dtype=torch.float64)
    scales = torch.tensor([1e16, 1.0], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    unit = ResidualUnit(torch.diag(scales), zero, B @ torch.diag(1 / scales), zero)
    x = torch.ones(1, 2, dtype=torch.float64)
    for solver in ("exact", "newton", "pivoting"):
        solution = unit.inverse(unit(x).detach(), solver)
        assert solution.converged.all()
        torch.testing.assert_close(solution.value, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [*FINITE, "newton"])
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_badly_scaled_p_matrices_are_solved_to_the_accuracy_of_their_condition(solver: str, n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    B = torch.randn(n, n, dtype=torch.float64, generator=g)
    P = B @ B.T / n + torch.eye(n).double() + B - B.T
    scales = torch.logspace(-5, 5, n, dtype=torch.float64)[torch.randperm(n, generator=g)]
    M = scales[:, None] * P  # positive row scales keep a P-matrix one, with a condition number near 1e10
    unit = unit_of(M)
    x = torch.randn(5, n, dtype=torch.float64, generator=g)
    solution = unit.inverse(unit(x).detach(), solver, tolerance=1e-10)
    condition = max(
        float(torch.linalg.cond(torch.where(torch.tensor(active), M, torch.eye(n).double())))
        for active in itertools.product((True, False), repeat=n)
    )
    error = (solution.value - x).norm(dim=1) / x.norm(dim=1)
    if solver == "newton":
        error = error[solution.converged]
    else:
        assert solution.converged.all()
    assert (error <= 10 * n * 2.2e-16 * condition).all()


@given(st.sampled_from(["normal", "integer", "zero column", "repeated row"]), st.integers(1, 7), st.integers(1, 7),
       st.floats(0.3, 8), st.integers(0, 10_000))  # fmt: skip
def test_whatever_the_matrix_what_converges_is_a_preimage_and_the_residual_is_honest(
    kind: str, h: int, d: int, scale: float, seed: int
) -> None:
    unit = random_unit(kind, h, d, scale, seed)
    _, y = images_of(unit, 6, seed)
    for solver in ("exact", "newton", "pivoting"):
        solution = unit.inverse(y, solver, max_iterations=300)
        size = torch.where(y.norm(dim=1) > 0, y.norm(dim=1), 1)
        residual = (unit(solution.value).detach() - y).norm(dim=1) / size
        torch.testing.assert_close(solution.residual, residual, rtol=1e-6, atol=1e-14)
        assert ((residual <= 1e-10) == solution.converged).all()
        assert (solution.iterations <= 300).all()


def test_walks_say_how_they_end() -> None:
    eye = torch.eye(2).double()
    ends = {
        AGREES: walk(eye, torch.ones(1, 2).double(), 5, 10),
        MAX_STEPS: walk(triangular(6) - torch.eye(6).double(), torch.ones(1, 6).double(), 0, 2),
        CYCLE: walk(cycling(3.0) - torch.eye(3).double(), torch.ones(1, 3).double(), -1, 100, torch.eye(3)[:1] > 0),
        SINGULAR: walk(-eye, torch.ones(1, 2).double(), -1, 10),
        NOT_P: walk(-3 * eye, torch.ones(1, 2).double(), 0, 10),
    }
    for end, (_, found, _) in ends.items():
        assert found.item() == end


def test_a_single_step_leaves_a_singular_block_step() -> None:
    # with both coordinates active the piece is singular; the solution has the second one active
    M = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    c = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    unit = unit_of(M)
    assert unit.inverse(c, "newton").status[0] is Status.NOT_FINITE
    solution = unit.inverse(c, "exact")
    assert solution.converged.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["newton", *FINITE])
def test_round_trips_in_both_dtypes_and_on_any_device(solver: str, dtype: torch.dtype, device: str) -> None:
    W = (torch.randn(200, 8, 8) / 8).to(dtype)
    units = ResidualUnit(W, torch.randn(200, 8).to(dtype), W.mT.contiguous(), torch.randn(200, 8).to(dtype)).to(device)
    x = torch.randn(200, 3, 8, dtype=dtype, device=device)
    solution = units.inverse(units(x).detach(), solver)
    assert solution.converged.all()
    assert solution.value.dtype == dtype
    assert solution.value.device == x.device
    torch.testing.assert_close(
        solution.value,
        x,
        rtol=1e-4 if dtype == torch.float32 else 1e-12,
        atol=1e-4 if dtype == torch.float32 else 1e-12,
    )


def test_small_convolutions_are_walked_by_their_matrix_and_large_ones_refused() -> None:
    unit = MonotoneConvUnit(2, 3).double()
    x = torch.randn(4, 2, 5, 4, dtype=torch.float64)
    solution = unit.inverse(unit(x).detach(), "exact", tolerance=1e-13)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, x)
    with pytest.raises(ValueError, match=r"3072 hidden numbers is too large .* \(at most 2048\)"):
        unit.inverse(torch.zeros(1, 2, 32, 32).double(), "exact")


@pytest.mark.parametrize("n", [6, 15, 16, 17, 33])
def test_pieces_are_solved_as_their_linear_systems(n: int) -> None:
    A, c = torch.randn(5, n, n, dtype=torch.float64), torch.randn(5, n, dtype=torch.float64)
    active = torch.rand(5, n) > 0.4
    active[0] = True
    z = solve_pieces(A, c, active)
    for row in range(5):
        S = active[row]
        M = (A[row] + torch.eye(n).double())[S][:, S]
        torch.testing.assert_close(z[row][S], torch.linalg.solve(M, c[row][S]))
        assert (z[row][~S] == 0).all()
    singular = solve_pieces(-torch.eye(2).double(), torch.ones(1, 2).double(), torch.tensor([[True, False]]))
    assert singular.isnan().all()


@pytest.mark.parametrize(("rows", "n"), [(300, 80), (20_000, 10)])
def test_threads_do_not_change_the_answer(rows: int, n: int) -> None:
    A, c = torch.randn(rows, n, n, dtype=torch.float64) / 20, torch.randn(rows, n, dtype=torch.float64)
    alone = walk(A, c, 5, 1000)
    torch.set_num_threads(2)
    try:
        spread = walk(A, c, 5, 1000)
    finally:
        torch.set_num_threads(1)
    for one, two in zip(alone, spread, strict=True):
        assert torch.equal(one, two)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="block_steps must be at least 1, not 0"):
        Exact(block_steps=0)
    for method in (Exact, Newton, Pivoting):
        with pytest.raises(ValueError, match="max_iterations must be at least 1, not 0"):
            method(max_iterations=0)


def p_problems() -> list[tuple[np.ndarray, np.ndarray]]:
    """1000 problems (A, c) of order 2 to 50 with a P-matrix I + A: monotone, triangular, contractive, tested."""
    g = torch.Generator().manual_seed(0)
    problems = []
    for case in range(1000):
        n = 2 + case % 49
        draw = (Monotone, Gram, Gaussian, Uniform)[case % 4]()
        A = draw.matrix(1, n, g)[0]
        A = A / torch.linalg.matrix_norm(A, 2) * (5.0 if case % 4 < 2 else 0.95)
        if case % 4 == 2 and n <= 12:
            wilder = 2.5 * A
            A = wilder if is_p_matrix(wilder) else A
        elif case % 4 == 3:
            A = torch.triu(20 * A, 1) + torch.diag(A.diagonal())
        c = 3 * torch.randn(n, dtype=torch.float64, generator=g)
        problems.append((A.numpy(), c.numpy()))
    return problems


def test_exact_finds_the_solutions_of_lcp_lemke() -> None:
    pytest.importorskip("quantecon")
    problems = p_problems()
    assert len(problems) == 1000
    with LemkePeer([(np.eye(len(c)) + A, -c) for A, c in problems]) as peer:
        peer.run()
        expected = peer.solved()
    for (A, c), z in zip(problems, expected, strict=True):
        s, ends, _ = walk(torch.as_tensor(A), torch.as_tensor(c)[None], Exact().patience, Exact().max_iterations)
        assert ends.item() == AGREES
        np.testing.assert_allclose(s[0].relu().numpy(), z, rtol=1e-7, atol=1e-7 * np.abs(c).max())


def rows(A: Tensor, c: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One problem (A, c) after the other."""
    return zip(A.numpy(), c.numpy(), strict=True)


def test_exact_solves_whatever_lcp_lemke_solves_in_every_ensemble() -> None:
    pytest.importorskip("quantecon")
    g = torch.Generator().manual_seed(0)
    problems = []
    for draw in (Gaussian(), Uniform(), Entrywise(), Gram(), Monotone(), Skew()):
        for n, cases, gamma in ((3, 200, 5.0), (10, 200, 5.0), (10, 200, 20.0), (30, 60, 5.0), (50, 20, 5.0)):
            units, x = draw.linear(cases, n, torch.tensor([gamma]).double(), g), normal(cases, n, generator=g)
            equation = RectifierEquation(units.rectifier_map((n,)), units(x).detach())
            problems.append((equation, equation.map.matrix().detach(), equation.c.detach()))
    with LemkePeer([(np.eye(len(c_i)) + A_i, -c_i) for _, A, c in problems for A_i, c_i in rows(A, c)]) as peer:
        peer.run()
        found = iter(peer.solved())
    for equation, A, c in problems:
        z = torch.from_numpy(np.stack([next(found) for _ in c]))
        by_peer = (c - torch.bmm(A, z[:, :, None])[:, :, 0]).relu() - z  # complementary, or NaN where none was found
        with torch.no_grad():
            solution = Exact().solve(equation, 1e-10)
            residual = equation.residual(solution.value).norm(dim=1) / equation.y.norm(dim=1)
        solved = by_peer.norm(dim=1) <= 1e-10 * c.norm(dim=1)
        assert solution.converged[solved].all()
        assert torch.equal(solution.converged, residual <= 1e-10)
        assert set(solution.status[~solution.converged]) <= {Status.NOT_P_MATRIX, Status.STAGNATED}


def test_lemkes_first_path_is_followed_to_its_end_if_others_end_in_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    g, n = torch.Generator().manual_seed(0), 10
    A = Gaussian().linear(300, n, torch.tensor([5.0]).double(), g).rectifier_map((n,)).matrix().detach().numpy()
    c, s, work, late = normal(300, n, generator=g).numpy(), np.empty(n), workspace(n), 0
    monkeypatch.setattr(walking, "PATH_LENGTH", 1)  # of the loop in Python
    for A_i, c_i in zip(A, c, strict=True):
        end, pivots = lemke(A_i, c_i, 1000, 0, work)
        if end == FOUND:
            work.smallest[0] = np.inf
            assert walking.follow_paths.py_func(A_i, c_i, s, 0, 1000, work)[0] == AGREES
            late += pivots > n
    assert late > 10


def test_blocks_without_a_solution_of_their_own_are_solved_together() -> None:
    g, n, work, found = torch.Generator().manual_seed(0), 6, workspace(6), 0
    A = 3 * torch.randn(300, n, n, generator=g).double()
    A[:, :3, 3:] = 0
    s = torch.randn(300, n, generator=g).double()
    c = s + torch.bmm(A, s.relu()[:, :, None])[:, :, 0]
    _, ends, _ = walk_by_blocks(A, c, 5, 1000)
    for A_i, c_i, end in zip(A.numpy(), c.numpy(), ends.tolist(), strict=True):
        if lemke(A_i, c_i, 1000, 0, work)[0] == FOUND:
            assert end == AGREES
            found += 1
    assert found > 100


def test_configured_methods_are_solvers() -> None:
    unit = unit_of(cycling(2.0))
    y = torch.ones(1, 3).double()
    for solver in (Exact(block_steps=2), Newton(max_iterations=3), Pivoting()):
        assert unit.inverse(y, solver).iterations.item() <= 8


@pytest.mark.parametrize("solver", [*FINITE, "newton"])
def test_no_rows_and_rows_that_are_not_finite_end_as_such(solver: str) -> None:
    for M in (cycling(2.0), triangular(6), 3 * torch.eye(2).double()):
        unit = unit_of(M)
        solution = unit.inverse(torch.zeros(0, len(M)).double(), solver)
        assert solution.value.shape == (0, len(M))
        assert solution.converged.shape == solution.residual.shape == (0,)
    eye, zero = torch.eye(2).double(), torch.zeros(2).double()
    steep = ResidualUnit(1e200 * eye, zero, eye, zero)  # W₁y overflows
    assert set(steep.inverse(1e200 * eye, solver).status) == {Status.NOT_FINITE}


def test_an_infinite_residual_is_not_within_an_infinite_tolerance() -> None:
    relative = torch.tensor([torch.inf, torch.nan, 0.5])
    codes = codes_of(torch.zeros(3, dtype=torch.long), relative, float("inf"))
    assert [STATUSES[code] for code in codes] == [Status.NOT_FINITE, Status.NOT_FINITE, Status.CONVERGED]


@pytest.mark.slow
def test_a_loop_is_compiled_anew_when_a_part_in_another_file_changes(tmp_path: Path) -> None:
    kernels = tmp_path / "replication" / "kernels"
    kernels.mkdir(parents=True)
    shutil.copy(replication.compiled.__file__, kernels.parent)
    for folder in (kernels, kernels.parent):
        (folder / "__init__.py").touch()
    loop = "from replication.compiled import compiled\nfrom replication.kernels.part import part\n"
    (kernels / "loop.py").write_text(loop + "@compiled\ndef loop(x):\n    return part(x)\n")
    for factor in (2, 30):
        part = "from replication.compiled import compiled\n@compiled\ndef part(x):\n    return x * FACTOR\n"
        (kernels / "part.py").write_text(part.replace("FACTOR", str(factor)))
        done = subprocess.run(
            [sys.executable, "-c", "from replication.kernels.loop import loop; print(loop(3))"],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "kept")},
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.stdout == f"{3 * factor}\n", done.stderr
