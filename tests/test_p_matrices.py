"""P-matrices of any order: against all minors in rational arithmetic, against the recursion, and in time."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import determinant, exact_minors, rational
from torch import Tensor

from replication.certification import p_matrices
from replication.certification.p_matrices import determinant_sign, p_matrix_search
from replication.conditions import NEGATIVE, POSITIVE, UNDECIDED, p_matrix_test


def gaussian(n: int, norm: float, seed: int) -> Tensor:
    """I + A with a Gaussian A of this norm."""
    A = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.eye(n, dtype=torch.float64) + norm * A / torch.linalg.matrix_norm(A, 2)


def minor(M: Tensor, subset: Tensor | None) -> Fraction:
    """A principal minor in rational arithmetic."""
    assert subset is not None
    return determinant(rational(M[subset][:, subset].numpy()))


def all_minors(M: Tensor) -> list[Fraction]:
    return list(exact_minors(M.numpy() - np.eye(len(M)), np.eye(len(M))).values())


@pytest.fixture(params=[1, 13])
def leaf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How small a part is that is not divided: at 1 all is branch and bound."""
    monkeypatch.setattr(p_matrices, "LEAF", request.param)
    return request.param


def test_the_answer_is_that_of_all_minors(leaf: int) -> None:
    signs = []
    for seed in range(60):
        M = gaussian(1 + seed % 8, 0.8 + 0.4 * (seed % 5), seed)
        found, smallest = p_matrix_search(M), min(all_minors(M))
        assert found.sign == (POSITIVE if smallest > 0 else NEGATIVE)
        if found.sign == NEGATIVE:
            assert minor(M, found.subset) < 0
        signs.append(found.sign)
    assert 10 < signs.count(NEGATIVE) < 50


def test_no_answer_is_wrong_on_integer_matrices(leaf: int) -> None:
    for seed in range(80):
        M = torch.randint(-2, 3, (1 + seed % 6,) * 2, generator=torch.Generator().manual_seed(seed)).double()
        M += (1 + seed % 3) * torch.eye(len(M))
        found, smallest = p_matrix_search(M), min(all_minors(M))
        assert found.sign != POSITIVE or smallest > 0
        assert found.sign != NEGATIVE or minor(M, found.subset) < 0
        assert smallest <= 0 or found.sign == POSITIVE


@pytest.mark.parametrize("n", [14, 16])
@pytest.mark.parametrize("norm", [1.5, 2.0])
def test_the_answer_is_that_of_the_recursion(n: int, norm: float) -> None:
    matrices = [gaussian(n, norm, seed) for seed in range(80)]
    expected = p_matrix_test(torch.stack(matrices) - torch.eye(n, dtype=torch.float64)).signs
    assert [p_matrix_search(M).sign for M in matrices] == expected.tolist()


@given(st.integers(2, 7), st.floats(0.5, 2.5), st.floats(0, 0.2), st.integers(0, 10_000))
@settings(max_examples=40)
def test_an_answer_holds_for_every_matrix_within_the_error(n: int, norm: float, size: float, seed: int) -> None:
    M, g = gaussian(n, norm, seed), np.random.default_rng(seed)
    error = torch.from_numpy(size * g.random((n, n)))
    found = p_matrix_search(M, error)
    for _ in range(5):
        near = M + error * torch.from_numpy(0.999 * g.choice([-1.0, 1.0], (n, n)))
        if found.sign == POSITIVE:
            assert min(all_minors(near)) > 0
        if found.sign == NEGATIVE:
            assert minor(near, found.subset) < 0


def test_parts_carry_bounds_of_their_errors() -> None:
    M = gaussian(7, 1.2, 0)
    part = p_matrices.Part(M.numpy(), np.zeros((7, 7)), np.arange(7), np.empty(0, np.int64))
    part = part.eliminated(3).without(1).eliminated(2).eliminated(0)
    exact, pivots = rational(M.numpy()), part.pivots.tolist()
    whole = determinant([[exact[i][j] for j in pivots] for i in pivots])
    for a, i in enumerate(part.rows.tolist()):
        for b, j in enumerate(part.rows.tolist()):
            bordered = [[exact[p][q] for q in [*pivots, j]] for p in [*pivots, i]]
            entry = determinant(bordered) / whole
            assert abs(entry - Fraction(part.value[a, b].item())) <= Fraction(part.error[a, b].item())
            assert part.error[a, b] < 1e-13


@pytest.mark.parametrize(("n", "seconds"), [(50, 30), (100, 60)])  # several times what an idle core takes
def test_large_orders_are_decided_in_seconds(n: int, seconds: float) -> None:
    signs = []
    for norm in (1.2, 1.4, 1.75, 2.0):
        start = time.process_time()
        M = gaussian(n, norm, 3)
        found = p_matrix_search(M)
        assert time.process_time() - start < seconds
        assert found.sign != UNDECIDED
        if found.sign == NEGATIVE:
            assert determinant_sign(M[found.subset][:, found.subset]) < 0
        signs.append(found.sign)
    assert POSITIVE in signs
    assert NEGATIVE in signs


def test_a_p_matrix_that_is_not_diagonally_stable_is_found_by_branching() -> None:
    found = p_matrix_search(gaussian(50, 1.6, 5))
    assert found.sign == POSITIVE
    assert found.parts > 10


def test_limits_leave_it_undecided() -> None:
    M = gaussian(50, 1.6, 5)
    assert p_matrix_search(M, parts=3).sign == UNDECIDED
    assert p_matrix_search(M, parts=0).parts == 0


def test_blocks_are_decided_one_by_one() -> None:
    n, blocks = 60, [gaussian(12, 1.2, seed) for seed in range(5)]
    M = torch.block_diag(*blocks) + 100 * torch.ones(n, n, dtype=torch.float64).triu(1) * (
        torch.block_diag(*[torch.ones(12, 12)] * 5) == 0
    )
    order = torch.randperm(n)
    assert p_matrix_search(M[order][:, order]).sign == POSITIVE
    M[30:32, 30:32] = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    found = p_matrix_search(M[order][:, order])
    assert found.sign == NEGATIVE
    assert minor(M[order][:, order], found.subset) < 0


def test_a_minor_in_doubt_is_computed_in_integers() -> None:
    tiny = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert p_matrix_search(tiny).sign == UNDECIDED  # the minor is 0
    tiny[0, 1] += 2.0**-52
    found = p_matrix_search(tiny)
    assert found.sign == NEGATIVE
    assert minor(tiny, found.subset) == -Fraction(1, 2**52)
    assert p_matrix_search(tiny, torch.full((2, 2), 2.0**-50)).sign == UNDECIDED


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_signs_of_determinants_are_exact(n: int, seed: int) -> None:
    g = np.random.default_rng(seed)
    matrix = g.integers(-2, 3, (n, n)) * 2.0 ** g.integers(-60, 60, (n, n))
    exact = determinant(rational(matrix))
    assert determinant_sign(torch.from_numpy(matrix)) == (exact > 0) - (exact < 0)


def test_what_is_not_finite_is_undecided() -> None:
    assert p_matrix_search(torch.full((3, 3), torch.nan)).sign == UNDECIDED
    assert p_matrix_search(torch.eye(3), torch.full((3, 3), torch.inf)).sign == UNDECIDED
