"""The conditions on A: against their definitions and exact arithmetic, and never true by rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import determinant, exact_minors
from torch import Tensor

from replication.conditions import (
    NEGATIVE,
    P_MATRIX_LIMIT,
    POSITIVE,
    UNDECIDED,
    certain_signs,
    inverse_norm_bound,
    is_h_matrix,
    is_lipschitz,
    is_monotone,
    is_p_matrix,
    p_matrix_test,
)

EYE = torch.eye(3, dtype=torch.float64)


def random_matrix(n: int, norm: float, seed: int) -> Tensor:
    A = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return norm * A / torch.linalg.matrix_norm(A, 2)


@given(st.integers(1, 6), st.floats(0.1, 3), st.integers(0, 10_000))
def test_norm_conditions_agree_with_their_definitions(n: int, norm: float, seed: int) -> None:
    A = random_matrix(n, norm, seed)
    minimum = np.linalg.eigvalsh((A + A.T).numpy() / 2)[0]
    if abs(norm - 1) > 1e-9:
        assert bool(is_lipschitz(A)) == (norm < 1)
    if abs(minimum + 1) > 1e-9:
        assert bool(is_monotone(A)) == (minimum > -1)


def test_boundary_cases_are_not_certified() -> None:
    assert not is_lipschitz(EYE)
    assert not is_lipschitz((1 - 1e-16) * EYE)
    assert not is_monotone(-EYE)
    assert not is_h_matrix(-EYE)
    assert not is_p_matrix(-EYE)


@given(st.integers(1, 7), st.floats(0.2, 6), st.integers(0, 10_000))
def test_p_matrix_test_agrees_with_all_minors(n: int, norm: float, seed: int) -> None:
    A = random_matrix(n, norm, seed)
    minors = exact_minors(A.numpy(), np.eye(n))
    test = p_matrix_test(A)
    assert test.signs == (POSITIVE if min(minors.values()) > 0 else NEGATIVE)  # no minor of a random matrix is near 0
    if test.signs == NEGATIVE:
        assert minors[tuple(test.subset.nonzero().squeeze(1).tolist())] < 0
    else:
        assert not test.subset.any()


@given(st.integers(1, 6), st.integers(0, 10_000))
def test_p_matrix_test_is_never_wrong_on_integer_matrices(n: int, seed: int) -> None:
    A = torch.as_tensor(np.random.default_rng(seed).integers(-2, 3, (n, n)), dtype=torch.float64)
    smallest = min(exact_minors(A.numpy(), np.eye(n)).values())
    sign = p_matrix_test(A).signs
    if sign == POSITIVE:
        assert smallest > 0
    elif sign == NEGATIVE:
        assert smallest < 0
    else:
        assert smallest <= 0  # a zero pivot hides the minors behind it


@pytest.mark.parametrize(
    ("minor", "sign"), [(1e-17, UNDECIDED), (-1e-17, UNDECIDED), (1e-10, POSITIVE), (-1e-10, NEGATIVE)]
)
def test_minors_within_rounding_of_zero_are_undecided(minor: float, sign: int) -> None:
    # det [[1, 1], [1, 1 + minor]] = minor; adding 1 to the diagonal of A rounds by more than 1e-17
    A = torch.tensor([[0.0, 1.0], [1.0, minor]], dtype=torch.float64)
    assert p_matrix_test(A).signs == sign
    assert p_matrix_test(A, error=torch.full_like(A, 1e-9)).signs == UNDECIDED  # an error of A counts


def test_minors_that_underflow_or_overflow_are_undecided() -> None:
    A = torch.tensor([[1e150, 0, 1e300], [1e-200, 0, 0], [0, -1e51, 0]], dtype=torch.float64)
    assert exact_minors(A.numpy(), np.eye(3))[0, 1, 2] < 0
    assert p_matrix_test(A).signs != POSITIVE
    for value in (torch.inf, -torch.inf, torch.nan):
        assert p_matrix_test(torch.full((2, 2), value, dtype=torch.float64)).signs == UNDECIDED
        for condition in (is_lipschitz, is_monotone, is_h_matrix, is_p_matrix):
            assert condition(torch.stack([EYE / 2, value * EYE])).tolist() == [True, False]
        assert torch.isinf(inverse_norm_bound(torch.full((2, 2), value, dtype=torch.float64)))


@settings(max_examples=300)
@given(st.integers(1, 4), st.sampled_from([0, 3, 30, 150]), st.integers(0, 10_000))
def test_conditions_hold_for_entries_of_every_size(n: int, spread: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-150, 150, n)  # by which minors do not change
    with np.errstate(over="ignore"):
        A = rng.normal(size=(n, n)) * 10.0 ** rng.uniform(-spread, spread, (n, n)) * scales[:, None] / scales
    A = np.where(rng.random((n, n)) < 0.1, rng.choice([0, 5e-324, 1e-310, 1.7e308, -1.7e308], (n, n)), A)
    A = np.clip(A, -1.7e308, 1.7e308)
    smallest = min(exact_minors(A, np.eye(n)).values())
    matrix = torch.as_tensor(A)
    sign = p_matrix_test(matrix).signs
    assert not (sign == POSITIVE and smallest <= 0)
    assert not (sign == NEGATIVE and smallest >= 0)
    assert not (smallest <= 0 and any(condition(matrix) for condition in (is_lipschitz, is_monotone, is_h_matrix)))


@given(st.integers(1, 5), st.integers(0, 10_000))
def test_certain_signs_are_those_of_the_determinants(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.integers(-2, 3, (n, n)) + 2.0 ** rng.integers(-60, 10) * rng.normal(size=(n, n))
    exact = determinant([[Fraction(value) for value in row] for row in A])
    sign = int(certain_signs(torch.as_tensor(A), torch.tensor(0.0, dtype=torch.float64)))
    assert sign in (0, (exact > 0) - (exact < 0))
    singular = np.linalg.svd(A, compute_uv=False)[-1]  # an error of this size makes it singular
    assert certain_signs(torch.as_tensor(A), torch.tensor(singular, dtype=torch.float64)) == 0


@given(st.integers(2, 7), st.floats(0.5, 8), st.integers(0, 10_000))
def test_h_matrices_are_those_of_the_definition_and_p_matrices(n: int, norm: float, seed: int) -> None:
    A = random_matrix(n, norm, seed)
    A.diagonal().abs_()
    comparison = -A.abs().numpy() + np.diag(1 + 2 * np.diagonal(A.numpy()))
    is_m_matrix = np.linalg.eigvals(comparison).real.min() > 0  # the Z-matrix's definition
    if abs(np.linalg.eigvals(comparison).real.min()) > 1e-9:
        assert bool(is_h_matrix(A)) == is_m_matrix
    if is_h_matrix(A):
        assert is_p_matrix(A)
        exact = np.linalg.norm(np.linalg.inv(comparison), 2)
        assert exact <= float(inverse_norm_bound(A)) * (1 + 1e-9)
    elif not is_m_matrix:
        assert torch.isinf(inverse_norm_bound(A))


def test_conditions_are_batched() -> None:
    A = torch.stack([random_matrix(4, norm, 7) for norm in (0.5, 1.2, 3.0, 9.0, 40.0, 0.9)]).reshape(2, 3, 4, 4)
    for condition in (is_lipschitz, is_monotone, is_h_matrix, is_p_matrix):
        together = condition(A)
        assert together.shape == (2, 3)
        assert together.flatten().tolist() == [bool(condition(matrix)) for matrix in A.flatten(0, 1)]


def test_the_size_limit_is_said() -> None:
    with pytest.raises(ValueError, match=f"the limit is order {P_MATRIX_LIMIT}"):
        is_p_matrix(torch.eye(P_MATRIX_LIMIT + 1))


def test_threads_do_not_change_the_answer() -> None:
    A = torch.randn(5000, 10, 10, dtype=torch.float64) / 2  # work enough to be spread
    alone = p_matrix_test(A)
    torch.set_num_threads(2)
    try:
        spread = p_matrix_test(A)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(alone.signs, spread.signs)
    assert torch.equal(alone.subset, spread.subset)
