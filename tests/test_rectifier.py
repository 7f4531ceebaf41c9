"""The rectifier equation: f(x) = y and s + A·relu(s) = c say the same."""

import pytest
import torch
from builders import normal_parameters
from hypothesis import given
from hypothesis import strategies as st

from replication.maps import ConvolutionalMap, DenseMap, RectifierEquation
from replication.maps.convolutional import convolutional_map
from replication.operators import CORNERS, Convolution, Dense, adjoint_kernel
from replication.resolvents import CausalResolvent, ImageResolvent


def random_map(h: int, d: int, seed: int) -> DenseMap:
    W1, b1, W2, b2 = normal_parameters(h, d, seed)
    return DenseMap(Dense(W1), b1, Dense(W2), b2)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))
def test_preactivation_of_x_solves_the_equation_and_gives_x_back(h: int, d: int, seed: int) -> None:
    f = random_map(h, d, seed)
    x = torch.randn(3, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    equation = RectifierEquation(f, f(x))
    s = f.preactivation(x)
    A = f.W1.weight @ f.W2.weight
    torch.testing.assert_close(s + torch.relu(s) @ A.T, equation.c)
    torch.testing.assert_close(equation.recover(torch.relu(s)), x)


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 5), st.integers(0, 10_000))
def test_dense_resolvent_inverts_the_shifted_matrix(h: int, d: int, shift: float, seed: int) -> None:
    f = random_map(h, d, seed)
    equation = RectifierEquation(f, torch.zeros(2, d, dtype=torch.float64))
    shifted = f.W1.weight @ f.W2.weight + shift * torch.eye(h, dtype=torch.float64)
    v = torch.randn(2, h, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    tolerance = 1e-12 * float(torch.linalg.cond(shifted))  # what an explicit inverse keeps
    torch.testing.assert_close(equation.map.resolvent(shift, like=v)(v) @ shifted.T, v, rtol=tolerance, atol=tolerance)


def test_woodbury_resolvent_of_convolutions_agrees_with_the_dense_one() -> None:
    weight = torch.randn(5, 2, 3, 3, dtype=torch.float64)
    size = (4, 3)
    W1, W2 = Convolution(weight, size), Convolution(adjoint_kernel(weight), size)
    zero = torch.zeros((), dtype=torch.float64)
    f = ConvolutionalMap(W1, zero, W2, zero, gram=True)
    v = torch.randn(3, 5, *size, dtype=torch.float64)
    resolvent = f.resolvent(2.5, like=torch.zeros(1, 2, *size, dtype=torch.float64))
    solved = resolvent(v)
    torch.testing.assert_close(W1(W2(solved)) + 2.5 * solved, v)


@pytest.mark.parametrize("corner", CORNERS)
def test_resolvents_of_large_causal_maps_substitute_and_agree_with_the_matrix(
    corner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    W1, W2 = (Convolution(0.3 * torch.randn(*shape, 3, 3).double(), (4, 6), corner) for shape in ((5, 3), (3, 5)))
    f = convolutional_map(W1, torch.zeros(5, 1, 1).double(), W2, torch.zeros(3, 1, 1).double())
    v = torch.randn(7, 5, 4, 6, dtype=torch.float64)
    matrix = f.matrix() + 2.5 * torch.eye(120, dtype=torch.float64)
    assert isinstance(f.resolvent(2.5, like=v).inner, ImageResolvent)
    monkeypatch.setattr("replication.maps.convolutional.FACTORIZED", 0)
    large = f.resolvent(2.5, like=v)
    assert isinstance(large.inner, CausalResolvent)
    expected = torch.linalg.solve(matrix, v.flatten(1).mT).mT
    tolerance = 1e-14 * float(torch.linalg.cond(matrix))
    for images in (v, v.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(large(images).flatten(1), expected, rtol=tolerance, atol=tolerance)


def test_a_singular_shifted_matrix_becomes_nan() -> None:
    f = DenseMap(*(Dense(torch.eye(2)), torch.zeros(2), Dense(-2 * torch.eye(2)), torch.zeros(2)))
    assert f.resolvent(2.0, like=torch.ones(1, 2))(torch.ones(1, 2)).isnan().all()
