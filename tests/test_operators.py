"""Linear maps: against their dense matrices, adjoints, and norm bounds that are never too small."""

import numpy as np
import pytest
import torch
from oracles import convolution_matrix

from replication.operators import Convolution, Dense, convolution_norm_bound, norm_estimate

SHAPES = [(1, 1, 1, 4, 4), (2, 3, 3, 5, 4), (3, 2, 5, 4, 6), (4, 4, 3, 2, 2), (2, 2, 5, 3, 3)]


@pytest.mark.parametrize(("out", "into", "k", "height", "width"), SHAPES)
def test_convolution_agrees_with_its_matrix(out: int, into: int, k: int, height: int, width: int) -> None:
    weight = torch.randn(out, into, k, k, dtype=torch.float64)
    matrix = torch.as_tensor(convolution_matrix(weight.numpy(), height, width))
    v = torch.randn(3, into, height, width, dtype=torch.float64)
    torch.testing.assert_close(Convolution(weight, (height, width))(v).flatten(1), v.flatten(1) @ matrix.T)


@pytest.mark.parametrize(("out", "into", "k", "height", "width"), SHAPES)
def test_adjoint_satisfies_its_identity(out: int, into: int, k: int, height: int, width: int) -> None:
    linear = Convolution(torch.randn(out, into, k, k, dtype=torch.float64), (height, width))
    v = torch.randn(1, *linear.domain, dtype=torch.float64)
    w = torch.randn(1, *linear.codomain, dtype=torch.float64)
    torch.testing.assert_close((linear(v) * w).sum(), (v * linear.adjoint()(w)).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("out", "into", "k", "height", "width"), SHAPES)
def test_norm_bound_is_never_below_the_exact_norm_and_close(
    out: int, into: int, k: int, height: int, width: int, dtype: torch.dtype
) -> None:
    for scale in (1e-8, 1.0, 1e8):
        weight = scale * torch.randn(out, into, k, k, dtype=dtype)
        exact = np.linalg.norm(convolution_matrix(weight.double().numpy(), height, width), 2)
        bound = float(Convolution(weight, (height, width)).norm_bound())
        assert exact <= bound <= 2 * exact  # the torus has frequencies that the small image lacks
        estimate = norm_estimate(Convolution(weight.double(), (height, width)))
        assert estimate == pytest.approx(exact, rel=1e-6)


def test_norm_bound_is_tight_on_large_images() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    exact = norm_estimate(Convolution(weight, (48, 48)))
    assert exact <= float(convolution_norm_bound(weight, (48, 48))) <= 1.05 * exact


def test_norm_bound_of_a_zero_kernel_is_nearly_zero() -> None:
    assert 0 <= float(convolution_norm_bound(torch.zeros(2, 3, 3, 3), (5, 5))) < 1e-3


def test_norm_bound_has_the_right_gradient() -> None:
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: convolution_norm_bound(w, (4, 5)), (weight,))


def test_dense_norm_bound_is_never_below_the_exact_norm() -> None:
    matrix = torch.randn(50, 6, 9)
    exact = np.linalg.norm(matrix.double().numpy(), 2, axis=(1, 2))
    assert (Dense(matrix).norm_bound().numpy() >= exact).all()


def test_norm_estimate_of_a_product_is_that_of_its_matrix() -> None:
    first, second = Dense(torch.randn(4, 6, dtype=torch.float64)), Dense(torch.randn(6, 5, dtype=torch.float64))
    exact = float(torch.linalg.matrix_norm(first.matrix @ second.matrix, 2))
    assert norm_estimate(first, second) == pytest.approx(exact, rel=1e-9)
