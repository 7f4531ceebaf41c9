"""Newton's steps in lanes: the arithmetic of numpy, the ends of single rows, and nothing taken on trust."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import preimages

from replication import Exact
from replication.compiled import compiled
from replication.conditions import is_p_matrix
from replication.kernels import walking
from replication.kernels.lanes import MOST, lanes, walk_in_lanes
from replication.kernels.pieces import AGREES, LEFT
from replication.kernels.vectors import LANES, absolute, constant, load, store, where_positive
from replication.kernels.workspace import workspace
from replication.solvers.pieces import NO_PIECES, walk


@compiled
def every_operation(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Write one vector of results for each operation."""
    left, right = load(a, np.uint64(1)), load(b, np.uint64(0))
    store(out, np.uint64(0), left + right)
    store(out, np.uint64(1), left - right)
    store(out, np.uint64(2), left * right)
    store(out, np.uint64(3), left / right)
    store(out, np.uint64(4), absolute(left))
    store(out, np.uint64(5), where_positive(left, right, constant(7.0)))


def test_vectors_do_in_every_lane_what_numpy_does() -> None:
    g = np.random.default_rng(0)
    a, b, out = g.standard_normal((2, LANES)), g.standard_normal((1, LANES)), np.empty((6, LANES))
    a[1, :4] = 0.0, -0.0, np.inf, np.nan
    every_operation(a, b, out)
    x, y = a[1], b[0]
    expected = np.stack([x + y, x - y, x * y, x / y, np.abs(x), np.where(x > 0, y, 7.0)])
    np.testing.assert_allclose(out, expected, rtol=1e-15)


def in_lanes(A: np.ndarray, c: np.ndarray, max_steps: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return s, the ends and the steps of rows that are walked in lanes alone."""
    s, ends, steps = np.empty_like(c), np.empty(len(c), np.int64), np.empty(len(c), np.int64)
    walk_in_lanes(A, c, NO_PIECES, 5, max_steps, s, ends, steps, lanes(c.shape[1]))
    return s, ends, steps


@pytest.mark.parametrize("n", [1, 2, 5, MOST])
def test_rows_in_lanes_end_where_single_rows_do(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = np.random.default_rng(n)
    A, c = 0.4 * g.standard_normal((1000, n, n)), g.standard_normal((1000, n))
    s, ends, _ = walk(torch.from_numpy(A), torch.from_numpy(c), 5, 1000)
    monkeypatch.setattr(walking, "MOST", 0)  # of the loop in Python, which walks every row by itself
    alone, ends_alone, steps_alone = np.empty_like(c), np.empty(1000, np.int64), np.empty(1000, np.int64)
    room = workspace(n), lanes(n)
    walking.walk_rows.py_func(A, c, NO_PIECES, 5, 1000, alone, ends_alone, steps_alone, *room)
    assert np.array_equal(ends, ends_alone)
    solved = ends_alone == AGREES
    assert solved.mean() > 0.5
    np.testing.assert_allclose(s.numpy()[solved], alone[solved], rtol=1e-9, atol=1e-9)


@given(st.integers(1, MOST), st.integers(1, 3 * LANES), st.integers(0, 10_000))
def test_a_row_does_not_depend_on_those_beside_it(n: int, rows: int, seed: int) -> None:
    g = np.random.default_rng(seed)
    A, c = 0.4 * g.standard_normal((rows, n, n)), g.standard_normal((rows, n))
    together = in_lanes(A, c)
    for row in range(rows):
        for found, alone in zip(together, in_lanes(A[row : row + 1], c[row : row + 1]), strict=True):
            if together[1][row] == AGREES:
                assert np.array_equal(found[row], alone[0])


def test_pieces_that_need_a_search_for_pivots_are_left_to_single_rows() -> None:
    # with both coordinates active: 0 on the diagonal; a tiny number there; both solved, and to full accuracy
    for corner in (0.0, 1e-18, 1e-12):
        M = np.array([[corner, 1.0], [1.0, 0.5]])
        c = M @ np.array([1.0, 2.0])
        _, ends, _ = in_lanes((M - np.eye(2))[None], c[None])
        assert ends[0] == LEFT
    M = torch.tensor([[1e-12, 1.0], [-1.0, 0.5]]).double()  # a P-matrix
    x = torch.tensor([[1.0, 2.0]]).double()
    s, ends, _ = walk(M - torch.eye(2), x @ M.T, 5, 1000)
    assert ends.item() == AGREES
    torch.testing.assert_close(s, x, rtol=1e-13, atol=0)


@given(st.integers(1, 8), st.floats(0.5, 30), st.integers(0, 10_000))
def test_exact_finds_one_of_all_solutions_and_none_where_there_is_none(n: int, norm: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=g).double()
    A = norm * A / torch.linalg.matrix_norm(A, 2)
    c = torch.randn(6, n, generator=g).double()  # some of them have no solution
    s, ends, _ = walk(A, c, Exact().patience, Exact().max_iterations)
    eye, zero = np.eye(n), np.zeros(n)
    for found, end, right in zip(s.numpy(), ends.tolist(), c.numpy(), strict=True):
        solutions = preimages(right, eye, zero, A.numpy(), zero)
        if end == AGREES:
            assert min(np.abs(found - other).max() for other in solutions) < 1e-6 * (1 + np.abs(found).max())
        assert end == AGREES or not is_p_matrix(A[None]).item()


@given(st.integers(1, 4), st.integers(0, 10_000))
def test_solutions_in_lanes_satisfy_the_equation_in_exact_arithmetic(n: int, seed: int) -> None:
    g = np.random.default_rng(seed)
    A, c = g.standard_normal((1, n, n)), g.standard_normal((LANES, n))
    s, ends, _ = in_lanes(A, c)
    for row in np.flatnonzero(ends == AGREES):
        z = [Fraction(float(max(value, 0.0))) for value in s[row]]
        for i in range(n):
            terms = [Fraction(float(s[row, i])), -Fraction(float(c[row, i]))]
            terms += [Fraction(float(A[0, i, j])) * z[j] for j in range(n)]
            assert abs(float(sum(terms))) <= 8 * n * 2.3e-16 * float(sum(abs(term) for term in terms))
