"""Diagonal stability: proofs checked in rational arithmetic, P-matrices decided, and what is planted is found."""

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

from replication.certification.diagonal_stability import (
    DiagonalStability,
    balancing,
    diagonally_stable,
    excluded,
    is_definite,
)
from replication.conditions import NEGATIVE, POSITIVE, UNDECIDED, p_matrix_test


def gaussian(n: int, norm: float, seed: int) -> Tensor:
    """I + A with a Gaussian A of this norm."""
    A = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.eye(n, dtype=torch.float64) + norm * A / torch.linalg.matrix_norm(A, 2)


def planted(n: int, decades: float, seed: int) -> Tensor:
    """A matrix with ΛM + MᵀΛ positive definite for a Λ^½ with entries in 10^±decades."""
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(2, n, n, dtype=torch.float64, generator=generator)
    skew = A - A.mT
    M = torch.eye(n, dtype=torch.float64) + 2 * skew / torch.linalg.matrix_norm(skew, 2)
    M += 0.95 * B / torch.linalg.matrix_norm(B, 2)
    scale = 10 ** (decades * (2 * torch.rand(n, dtype=torch.float64, generator=generator) - 1))
    return scale[:, None] * M / scale


def proves(M: Tensor, found: DiagonalStability) -> bool:
    """Whether what was found proves the sign, in rational arithmetic."""
    exact, n = rational(M.numpy()), len(M)
    if found.sign == POSITIVE:
        assert found.scaling is not None
        scaling, t = rational(found.scaling.numpy()), Fraction(found.strength)
        H = [
            [
                scaling[i] * exact[i][j] + exact[j][i] * scaling[j] - (2 * t * scaling[i] if i == j else 0)
                for j in range(n)
            ]
            for i in range(n)
        ]
        leading = [determinant([row[:k] for row in H[:k]]) for k in range(1, n + 1)]
        return t > 0 and min(scaling) > 0 and min(leading) > 0
    assert found.factor is not None
    L = rational(found.factor.numpy())
    products = [sum(sum(exact[i][j] * L[j][k] for j in range(n)) * L[i][k] for k in range(len(L[0]))) for i in range(n)]
    return max(products) <= 0 and any(any(row) for row in L)


@given(st.integers(1, 7), st.floats(0.2, 4), st.integers(0, 10_000))
def test_both_answers_are_proved_in_rational_arithmetic(n: int, norm: float, seed: int) -> None:
    M = gaussian(n, norm, seed)
    found = diagonally_stable(M)
    assert found.sign != UNDECIDED
    assert proves(M, found)


@given(st.integers(1, 6), st.integers(0, 100_000))
@settings(max_examples=150)
def test_no_answer_is_wrong_on_integer_matrices(n: int, seed: int) -> None:
    M = torch.randint(-3, 4, (n, n), generator=torch.Generator().manual_seed(seed)).double()
    M += torch.eye(n, dtype=torch.float64) * 2
    found = diagonally_stable(M)
    if found.sign != UNDECIDED:
        assert proves(M, found)
    if found.sign == POSITIVE:
        assert min(exact_minors(M.numpy() - np.eye(n), np.eye(n)).values()) > 0


@given(st.integers(2, 8), st.floats(0.5, 3), st.floats(0, 0.1), st.integers(0, 10_000))
@settings(max_examples=40)
def test_an_answer_holds_for_every_matrix_within_the_error(n: int, norm: float, size: float, seed: int) -> None:
    M = gaussian(n, norm, seed)
    error = size * torch.rand(n, n, dtype=torch.float64)
    found = diagonally_stable(M, error)
    for _ in range(20 if found.sign != UNDECIDED else 0):
        near = M + error * (2 * torch.randint(0, 2, (n, n)) - 1)
        if found.sign == POSITIVE:
            assert found.scaling is not None
            H = found.scaling[:, None] * near
            assert torch.linalg.eigvalsh(H + H.mT - (2 * found.strength * found.scaling).diag())[0] > 0
        else:
            assert found.factor is not None
            assert (((near @ found.factor) * found.factor).sum(1) <= 1e-12 * found.factor.abs().max() ** 2).all()


@pytest.mark.parametrize("norm", [1.0, 1.2, 1.5])
def test_nearly_all_p_matrices_of_order_ten_are_diagonally_stable(norm: float) -> None:
    matrices = torch.stack([gaussian(10, norm, seed) for seed in range(60)])
    p = p_matrix_test(matrices - torch.eye(10, dtype=torch.float64)).signs
    signs = torch.tensor([diagonally_stable(M).sign for M in matrices])
    assert (signs != UNDECIDED).all()
    assert not ((signs == POSITIVE) & (p != POSITIVE)).any()
    assert ((signs == POSITIVE) & (p == POSITIVE)).sum() >= 0.95 * (p == POSITIVE).sum()


@pytest.mark.parametrize("decades", [1, 3])
@pytest.mark.parametrize("n", [2, 10, 50])
def test_a_planted_scaling_is_found(n: int, decades: int) -> None:
    exact = []
    for seed in range(20):
        found = diagonally_stable(planted(n, decades, seed))
        assert found.sign == POSITIVE
        assert found.scaling is not None
        exact.append(bool((torch.frexp(found.scaling).mantissa == 0.5).all()))
    assert sum(exact) >= (10 if n == 2 else 19)  # powers of two, unless they are too coarse


def test_order_five_hundred_takes_seconds() -> None:
    start = time.process_time()
    assert diagonally_stable(planted(500, 3, 0)).sign == POSITIVE
    assert diagonally_stable(gaussian(500, 1.4, 0)).sign == POSITIVE
    assert time.process_time() - start < 60  # many times what an idle core takes


def test_no_scaling_is_proved_at_order_one_hundred() -> None:
    M = gaussian(100, 2.0, 0)
    found = diagonally_stable(M)
    assert found.sign == NEGATIVE
    assert found.factor is not None
    assert excluded(M, torch.zeros_like(M), found.factor).sign == NEGATIVE


def test_some_p_matrix_is_not_diagonally_stable() -> None:
    """The two conditions differ, so that the search for minors is needed."""
    found = [
        seed
        for seed in range(60)
        if p_matrix_test(gaussian(10, 2.0, seed) - torch.eye(10, dtype=torch.float64)).signs == POSITIVE
        and diagonally_stable(gaussian(10, 2.0, seed)).sign == NEGATIVE
    ]
    assert found


def test_what_is_singular_to_rounding_is_not_proved() -> None:
    ones = torch.ones(3, 3, dtype=torch.float64)
    assert diagonally_stable(ones).sign != POSITIVE
    assert not is_definite(ones, torch.zeros_like(ones), torch.ones(3, dtype=torch.float64), 0.0)
    assert not is_definite(torch.eye(3).double(), torch.full((3, 3), 0.5).double(), torch.ones(3).double(), 0.0)
    assert diagonally_stable(torch.zeros(2, 2)).sign == NEGATIVE  # by L = e₁: its product is 0 exactly
    assert diagonally_stable(torch.tensor([[0.0]]), torch.tensor([[1e-9]])).sign == UNDECIDED


def test_scales_at_the_ends_of_the_numbers_are_no_trap() -> None:
    for size in (1e-150, 1e150):
        assert diagonally_stable(size * gaussian(5, 0.9, 0)).sign == POSITIVE
    assert diagonally_stable(torch.full((2, 2), torch.nan)).sign == UNDECIDED
    assert diagonally_stable(torch.full((2, 2), torch.inf)).sign == UNDECIDED


@given(st.integers(2, 20), st.integers(0, 10_000))
def test_balancing_makes_rows_and_columns_of_one_length(n: int, seed: int) -> None:
    M = planted(n, 2.0, seed)
    d = balancing(M)
    balanced = d[:, None] * M / d
    balanced.fill_diagonal_(0)
    rows, columns = torch.linalg.vector_norm(balanced, dim=1), torch.linalg.vector_norm(balanced, dim=0)
    assert ((rows / columns).log().abs() < 0.1).all()


def test_a_triangular_matrix_is_stable_whatever_stands_above_its_diagonal() -> None:
    for n in (2, 5, 20):
        M = torch.eye(n, dtype=torch.float64) + 10 * torch.ones(n, n, dtype=torch.float64).triu(1)
        assert diagonally_stable(M).sign == POSITIVE
