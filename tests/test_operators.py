"""Linear maps and their resolvents: against dense matrices, and norm bounds that are never too small."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import convolution_matrix

from replication import resolvents
from replication.conjugate_gradients import conjugate_gradients
from replication.operators import (
    CORNERS,
    SYMMETRIC_PADDINGS,
    Convolution,
    Dense,
    Gram,
    Operator,
    Product,
    convolution_norm_bound,
    norm_estimate,
)
from replication.operators.norms import gram_norm_bound, largest_symbol, spectrum, symbol_at
from replication.resolvents import FactorizedResolvent, FourierResolvent, ImageResolvent, IterativeResolvent, resolvent

SIZES = [(4, 4), (5, 4), (3, 7), (2, 2)]
DTYPES = [torch.float32, torch.float64]
kinds = pytest.mark.parametrize("padding", SYMMETRIC_PADDINGS)
kernels = pytest.mark.parametrize("k", [1, 3, 5])
all_kernels = pytest.mark.parametrize(
    ("padding", "k"),
    [(padding, k) for padding in SYMMETRIC_PADDINGS for k in (1, 3, 5)]
    + [(corner, k) for corner in CORNERS for k in (1, 2, 3, 4)],
)
sizes = pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def convolution(k: int, size: tuple[int, int], padding: str, dtype: torch.dtype, channels: int = 2) -> Convolution:
    """A convolution from `channels` to three channels."""
    g = torch.Generator().manual_seed(k + size[0])
    return Convolution(torch.randn(3, channels, k, k, dtype=torch.float64, generator=g).to(dtype), size, padding)


def operators(
    k: int, size: tuple[int, int], padding: str, dtype: torch.dtype
) -> dict[str, tuple[Operator, np.ndarray]]:
    """Every kind of map, with its matrix in float64 by the oracle."""
    W, V = convolution(k, size, padding, dtype), convolution(k, size, padding, dtype, channels=3)
    few = convolution(k, size, padding, dtype, channels=9)  # whose outputs are fewer, which is computed another way
    matrices = [convolution_matrix(map.weight.double().numpy(), *size, padding) for map in (W, V, few)]
    dense = Dense(torch.randn(7, 4, dtype=dtype, generator=torch.Generator().manual_seed(k)))
    return {
        "convolution": (W, matrices[0]),
        "convolution to few channels": (few, matrices[2]),
        "gram": (Gram(W), matrices[0].T @ matrices[0]),
        "product": (Product(V, W), matrices[1] @ matrices[0]),
        "dense": (dense, dense.weight.double().numpy()),
        "gram of a matrix": (Gram(dense), dense.weight.double().numpy().T @ dense.weight.double().numpy()),
    }


@all_kernels
@sizes
@dtypes
def test_operators_agree_with_their_matrices(padding: str, k: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    for name, (linear, matrix) in operators(k, size, padding, dtype).items():
        v, w = torch.randn(3, *linear.domain, dtype=dtype), torch.randn(3, *linear.codomain, dtype=dtype)
        close = {"rtol": 0, "atol": 100 * torch.finfo(dtype).eps * np.linalg.norm(matrix), "msg": name}
        expected = torch.as_tensor(matrix)
        torch.testing.assert_close(linear.matrix(v).double(), expected, **close)
        torch.testing.assert_close(linear(v).flatten(1).double(), v.flatten(1).double() @ expected.T, **close)
        torch.testing.assert_close(linear.adjoint()(w).flatten(1).double(), w.flatten(1).double() @ expected, **close)
        torch.testing.assert_close(linear.adjoint().adjoint()(v), linear(v), **close)
        assert linear.symmetric == name.startswith("gram")


@all_kernels
@sizes
@dtypes
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_norm_bound_is_never_below_the_exact_norm_and_close(
    padding: str, k: int, size: tuple[int, int], dtype: torch.dtype, scale: float
) -> None:
    for name, (linear, matrix) in operators(k, size, padding, dtype).items():
        if isinstance(linear, Product) and scale != 1:
            continue
        factor = 1.0
        if not isinstance(linear, Product):
            linear.weight = linear.weight * scale
            factor = scale
        exact = factor * np.linalg.norm(matrix, 2) * (1 - 1e-6 * (dtype == torch.float32))
        bound = float(linear.norm_bound())
        # zero padding: the torus has frequencies that a small image lacks; products: their factors need not align
        loose = 1.2 if padding == "circular" else 2
        assert exact <= bound <= exact * (4 * loose**2 if name == "product" else loose**2), name
        if dtype == torch.float64:
            assert norm_estimate(linear) == pytest.approx(exact, rel=1e-6)


@kinds
@kernels
@sizes
@dtypes
@pytest.mark.parametrize("shift", [0.7, 3.0])
def test_resolvents_solve_with_the_shifted_matrix(
    padding: str, k: int, size: tuple[int, int], dtype: torch.dtype, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    W = convolution(k, size, padding, dtype)
    gram = torch.as_tensor(operators(k, size, padding, dtype)["gram"][1])
    matrix = gram + shift * torch.eye(len(gram), dtype=torch.float64)
    v = torch.randn(3, *W.domain, dtype=dtype)
    expected = torch.linalg.solve(matrix, v.flatten(1).double().T).T
    chosen = resolvent(Gram(W), shift, like=v)
    assert isinstance(chosen, FourierResolvent if padding == "circular" else ImageResolvent)
    monkeypatch.setattr(resolvents, "FACTORIZED", 0)
    large = resolvent(Gram(W), shift, like=v)  # as such an order is taken apart where it is large
    unsymmetric = ImageResolvent(FactorizedResolvent.of(Gram(W).matrix(v), shift))
    monkeypatch.setattr(resolvents, "ROW_SHARE", 0)
    iterative = resolvent(Gram(W), shift, like=v)
    assert isinstance(iterative, FourierResolvent if padding == "circular" else IterativeResolvent)
    condition = float(torch.linalg.cond(matrix))
    for method in (chosen, large, unsymmetric, iterative, IterativeResolvent(Gram(W), shift)):
        solved = method(v).flatten(1).double()
        torch.testing.assert_close(solved, expected, rtol=0, atol=100 * condition * torch.finfo(dtype).eps)


def test_a_factorization_of_a_singular_matrix_gives_no_numbers() -> None:
    v = torch.ones(2, 3, dtype=torch.float64)
    for K in (-torch.eye(3), -2 * torch.eye(3)):
        assert FactorizedResolvent.of_symmetric(K.double(), 1.0)(v).isnan().any(1).all()
    assert FactorizedResolvent.of(-torch.ones(3, 3).double(), 3.0)(v).isnan().any(1).all()


@pytest.mark.parametrize("padding", ["zeros", "circular", "top-left"])
def test_convolutions_of_a_few_images_at_a_time_are_those_of_all_at_once(
    padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    images, bias = torch.randn(7, 2, 5, 4, dtype=torch.float64, requires_grad=True), torch.ones(3, 1, 1).double()
    convolution = Convolution(torch.randn(3, 2, 3, 3, dtype=torch.float64), (5, 4), padding)
    whole = convolution.affine(images, bias)
    (gradient,) = torch.autograd.grad(whole.square().sum(), images)
    monkeypatch.setattr("replication.operators.convolution.PATCHES", 2 * convolution.terms * 20)
    parts = convolution.affine(images, bias)
    assert torch.equal(parts, whole)
    assert torch.allclose(torch.autograd.grad(parts.square().sum(), images)[0], gradient, rtol=1e-14)
    monkeypatch.setattr("replication.operators.convolution.PATCHES", 2 * convolution.terms * 4)  # two rows of an image
    strips = convolution.affine(images, bias)
    assert torch.allclose(strips, whole, rtol=1e-14, atol=1e-14)
    assert torch.allclose(torch.autograd.grad(strips.square().sum(), images)[0], gradient, rtol=1e-13)
    assert convolution.affine(images[:0], bias).shape == (0, 3, 5, 4)


def test_circular_resolvents_of_products_that_are_not_symmetric_are_exact() -> None:
    outer = Convolution(torch.randn(2, 3, 5, 5, dtype=torch.float64), (5, 6), "circular")
    K = Product(outer, convolution(3, (5, 6), "circular", torch.float64))
    v = torch.randn(4, 2, 5, 6, dtype=torch.float64)
    solver = resolvent(K, 2.0, like=v)
    assert isinstance(solver, FourierResolvent)
    torch.testing.assert_close(2 * solver(v) + K(solver(v)), v)


@given(st.integers(1, 8), st.floats(0, 6), st.integers(0, 10_000))
def test_conjugate_gradients_solve_every_row_to_its_own_tolerance(n: int, digits: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    B = torch.randn(n, n, dtype=torch.float64, generator=g)
    K, right = B @ B.T + torch.eye(n), torch.randn(5, n, dtype=torch.float64, generator=g)
    right[0] = 0
    tolerance = torch.tensor([1e-12, 1e-12, 10**-digits, 0.5, torch.inf], dtype=torch.float64)
    x, products = conjugate_gradients(lambda v: v @ K, right, tolerance)
    missing = (right - x @ K).norm(dim=1)
    assert (missing <= (tolerance + 1e-12) * right.norm(dim=1)).all()
    assert products[0] == products[-1] == 0
    assert products.max() <= 3 * n + 5


def test_conjugate_gradients_end_where_products_overflow() -> None:
    K = torch.diag(torch.tensor([1e305, 1e-305], dtype=torch.float64))
    x, products = conjugate_gradients(lambda v: 1e5 * (v @ K), torch.ones(1, 2, dtype=torch.float64), 1e-12)
    assert products.max() < 10
    assert torch.isfinite(x).all()


def test_norm_estimates_of_the_smallest_maps() -> None:
    one = Convolution(torch.full((1, 1, 3, 3), 2.0, dtype=torch.float64), (1, 1))
    assert norm_estimate(one) == pytest.approx(2)
    assert norm_estimate(Convolution(torch.zeros(2, 3, 3, 3, dtype=torch.float64), (4, 4))) == 0


def test_operators_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"padding must be one of .*, not \'reflect\'"):
        Convolution(torch.ones(1, 1, 3, 3), (4, 4), "reflect")
    with pytest.raises(ValueError, match="circular padding of 3 points needs images of at least that size"):
        Convolution(torch.ones(1, 1, 7, 7), (2, 9), "circular")
    with pytest.raises(ValueError, match="too large; use another solver, or smaller images"):
        Convolution(torch.ones(1, 1, 3, 3), (100, 100)).matrix(torch.ones(1))


@given(
    st.sampled_from(DTYPES), st.floats(-1, 1), st.sampled_from([(1, 1), (2, 3)]),
    st.sampled_from([("zeros", 3), ("circular", 1), ("top-left", 2), ("zeros", 1)]), st.integers(0, 100),
)  # fmt: skip
def test_norm_bounds_hold_and_are_close_at_every_scale(
    dtype: torch.dtype, where: float, size: tuple[int, int], padded: tuple[str, int], seed: int
) -> None:
    limits = torch.finfo(dtype)
    exponent = where * (math.log2(limits.max) - 8 if where > 0 else -math.log2(limits.tiny * limits.eps))
    g = torch.Generator().manual_seed(seed)
    base = torch.randn(3, 2, padded[1], padded[1], dtype=torch.float64, generator=g)
    weight = (base * 2.0**exponent).to(dtype)
    scale = float(weight.abs().max().double()) or 1.0
    for linear, matrix in (
        (Convolution(weight, size, padded[0]), convolution_matrix(weight.double().numpy() / scale, *size, padded[0])),
        (Dense(weight[:, :, 0, 0]), weight[:, :, 0, 0].double().numpy() / scale),
    ):
        exact = np.linalg.norm(matrix, 2) * (1 - 1e-14) * scale
        bound = linear.norm_bound()
        assert exact <= float(bound) <= 4 * exact + 4 * limits.tiny
        assert float(linear.absolute_bound()) >= exact * (1 - 8 * limits.eps) - limits.tiny
        assert float(Product(linear.adjoint(), linear).norm_bound()) > 0  # never NaN


def test_kernels_are_scaled_by_the_taps_that_meet_the_image() -> None:
    weight = torch.full((1, 1, 3, 3), 1e30)
    weight[0, 0, 1, 1] = 1e-3
    assert float(Convolution(weight, (1, 1)).norm_bound()) == pytest.approx(1e-3, rel=1e-3)


def test_norm_bounds_of_extreme_kernels_have_the_gradients_of_ordinary_ones() -> None:
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)

    def gradient(scale: float) -> torch.Tensor:
        scaled = (scale * weight).requires_grad_()
        return torch.autograd.grad(convolution_norm_bound(scaled, (4, 5)), scaled)[0]

    for scale in (2.0**-900, 2.0**900):
        torch.testing.assert_close(gradient(scale), gradient(1.0), rtol=1e-12, atol=1e-12)


def test_norm_bound_is_tight_on_large_images() -> None:
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    exact = norm_estimate(Convolution(weight, (48, 48)))
    assert exact <= float(convolution_norm_bound(weight, (48, 48))) <= 1.05 * exact


def test_norm_bound_of_a_zero_kernel_is_nearly_zero() -> None:
    assert 0 <= float(convolution_norm_bound(torch.zeros(2, 3, 3, 3), (5, 5))) < 1e-3


@given(st.integers(0, 2**31), st.sampled_from([(1, 1), (2, 5), (5, 2), (4, 4)]), st.integers(1, 5), st.booleans())
def test_symbols_that_are_left_out_have_no_larger_bound(
    seed: int, shape: tuple[int, int], taps: int, double: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(*shape, taps, taps, generator=g, dtype=torch.float64 if double else torch.float32)
    torus = (4, 7)
    symbols = spectrum(weight, torus).flatten(0, 1)
    bounds, chosen = gram_norm_bound(symbols, 5), largest_symbol(symbols, 5)
    rounding = 1000 * torch.finfo(weight.dtype).eps
    assert float(bounds[chosen]) >= float(bounds.max()) * (1 - rounding)
    torch.testing.assert_close(symbol_at(weight, torus, chosen), symbols[chosen], rtol=rounding, atol=rounding)


def test_norm_bounds_are_the_same_under_autocast() -> None:
    weight = torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = convolution_norm_bound(weight, (4, 5))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(convolution_norm_bound(weight, (4, 5)), expected)


def test_norm_bound_has_the_right_gradient() -> None:
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: convolution_norm_bound(w, (4, 5)), (weight,))


def test_dense_norm_bound_is_never_below_the_exact_norm() -> None:
    matrix = torch.randn(50, 6, 9)
    exact = np.linalg.norm(matrix.numpy(), 2, axis=(1, 2))
    assert (Dense(matrix).norm_bound().numpy() >= exact).all()


def test_norm_estimate_of_a_product_is_that_of_its_matrix() -> None:
    first, second = Dense(torch.randn(4, 6, dtype=torch.float64)), Dense(torch.randn(6, 5, dtype=torch.float64))
    exact = float(torch.linalg.matrix_norm(first.weight @ second.weight, 2))
    assert norm_estimate(Product(first, second)) == pytest.approx(exact, rel=1e-9)
