"""Conditions by Cholesky factorizations: never proved where exact arithmetic says no, and found where there is room."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication import ResidualUnit, Verdict
from replication.certification import decisions
from replication.certification.decisions import product_error
from replication.certification.factorizations import (
    SPECTRA,
    has_positive_sum,
    is_below_one,
    is_positive_definite,
    sums_of_errors,
)
from replication.operators import Dense, norm_from_below

ORDERS, SEEDS = st.integers(1, 5), st.integers(0, 10_000)
EDGES = st.sampled_from([-1e-3, -1e-13, -1e-15, 0.0, 1e-16, 1e-15, 1e-13, 1e-3])


def is_definite(H: list[list[Fraction]]) -> bool:
    """Decide definiteness of a symmetric matrix by elimination in exact arithmetic."""
    while H:
        head, *rest = H
        if head[0] <= 0:
            return False
        H = [[value - row[0] * top / head[0] for value, top in zip(row[1:], head[1:], strict=True)] for row in rest]
    return True


def exact(matrix: torch.Tensor) -> list[list[Fraction]]:
    return [[Fraction(value) for value in row] for row in matrix.tolist()]


def combined(first: list[list[Fraction]], second: list[list[Fraction]], share: int) -> list[list[Fraction]]:
    """Return the sum of a matrix and a share of another one."""
    return [[a + share * b for a, b in zip(*rows, strict=True)] for rows in zip(first, second, strict=True)]


def times(first: list[list[Fraction]], second: list[list[Fraction]]) -> list[list[Fraction]]:
    columns = list(zip(*second, strict=True))
    return [[sum((a * b for a, b in zip(row, column, strict=True)), Fraction()) for column in columns] for row in first]


def unit(n: int) -> list[list[Fraction]]:
    return exact(torch.eye(n))


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(ORDERS, SEEDS, EDGES, st.sampled_from([0.0, 1e-14, 1e-3]))
def test_what_is_called_definite_is_so_within_the_doubt(n: int, seed: int, edge: float, doubt: float) -> None:
    B = normal(n, n, seed=seed)
    symmetric = B + B.mT
    lowest = torch.linalg.eigvalsh(symmetric)[0]
    H = symmetric + (edge - lowest) * torch.eye(n)  # whose smallest eigenvalue is about the edge
    less = combined(exact(H), unit(n), 0)
    for i in range(n):
        less[i][i] -= Fraction(doubt)
    if is_positive_definite(H.clone(), doubt):
        assert is_definite(less)
    else:
        assert edge < doubt + 1e-12


@given(ORDERS, SEEDS, EDGES)
def test_norms_below_one_are_proved_rigorously(n: int, seed: int, edge: float) -> None:
    W1, W2 = normal(n, 3, seed=seed), normal(3, n, seed=seed + 1)
    W1 = (1 - edge) * W1 / torch.linalg.matrix_norm(W1 @ W2, ord=2)
    A = times(exact(W1), exact(W2))
    gram = times([*map(list, zip(*A, strict=True))], A)
    proved = is_below_one(W1 @ W2, *sums_of_errors(Dense(W1), Dense(W2)))
    assert proved <= is_definite(combined(unit(n), gram, -1))
    assert proved or edge < 1e-12


@given(ORDERS, SEEDS, EDGES)
def test_monotone_matrices_are_proved_rigorously(n: int, seed: int, edge: float) -> None:
    W1, W2 = normal(n, 3, seed=seed), normal(3, n, seed=seed + 1)
    lowest = float(torch.linalg.eigvalsh(W1 @ W2 + (W1 @ W2).mT)[0])
    if lowest < 0:
        W1 = W1 * (2 - edge) / -lowest
    A = times(exact(W1), exact(W2))
    total = combined(combined(A, [*map(list, zip(*A, strict=True))], 1), unit(n), 2)
    proved = has_positive_sum(W1 @ W2, *sums_of_errors(Dense(W1), Dense(W2)))
    assert proved <= is_definite(total)
    assert proved or edge < 1e-12


@given(ORDERS, ORDERS, SEEDS)
def test_sums_of_errors_are_those_of_the_errors(h: int, d: int, seed: int) -> None:
    W1, W2 = Dense(normal(h, d, seed=seed)), Dense(normal(d, h, seed=seed + 1))
    error = product_error(W1, W2)
    for found, sums in zip(sums_of_errors(W1, W2), (error.sum(1), error.sum(0)), strict=True):
        assert (sums <= found).all()
        assert (found <= 1.02 * sums).all()


def test_numbers_that_are_not_finite_prove_nothing() -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        for i, j in ((0, 0), (2, 2), (1, 2)):
            H = torch.eye(3, dtype=torch.float64)
            H[i, j] = H[j, i] = value
            assert not is_positive_definite(H, 0.0)


@given(st.integers(1, 6), SEEDS)
def test_a_norm_from_below_is_below_and_near(n: int, seed: int) -> None:
    A = normal(n, n, seed=seed)
    norm, found = float(torch.linalg.matrix_norm(A, ord=2)), norm_from_below(Dense(A), like=A, steps=30)
    assert 0.5 * norm <= found <= (1 + 1e-12) * norm


@pytest.mark.parametrize(
    ("size", "skew", "condition"), [(0.3, 0.5, "lipschitz"), (0.6, 1.0, "monotone"), (5.0, 9.0, None)]
)
def test_large_units_have_the_conditions_that_spectra_show(
    size: float, skew: float, condition: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = SPECTRA + 1
    B = normal(n, n, seed=0) / n**0.5
    W = size * (B + B.mT) / 2 + skew * (B - B.mT) / 2
    large = ResidualUnit(W, torch.zeros(n).double(), torch.eye(n).double(), torch.zeros(n).double())
    certificate = large.certificate(folds=False)
    assert certificate.condition == condition
    assert ("Cholesky" in certificate.reason) == (condition is not None)
    assert (certificate.verdict is Verdict.INVERTIBLE) == (condition is not None)
    if condition is not None:
        monkeypatch.setattr(decisions, "SPECTRA", n)
        assert decisions.decide(W, torch.zeros_like(W)).condition == condition
