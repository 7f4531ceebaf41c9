"""Slopes in [α, β] as slopes in [0, 1]: the same determinants at all corners, and bounds that no error breaks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import rational, solved
from torch import Tensor, nn

from replication.activations import ERF_STEEPEST, Activation, activation_of
from replication.certification.diagonal_stability import diagonally_stable
from replication.certification.enclosures import Enclosure
from replication.certification.slopes import LiftedMap, error_bound, slope_matrix
from replication.conditions import POSITIVE, p_matrix_test
from replication.maps.feed_forward import ActivationLayer
from replication.reading import read


def random_map(n: int, d: int, size: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """B of two layers, C, E and P of a map."""
    g = torch.Generator().manual_seed(seed)
    B, C, E, P = (torch.randn(*s, dtype=torch.float64, generator=g) for s in ((n, n), (n, d), (d, n), (d, d)))
    B[: n // 2] = 0
    B[:, n // 2 :] = 0
    return size * B, size * C, size * E, torch.eye(d, dtype=torch.float64) + size * P / 2


def evaluate(x: Tensor, activation: Activation, B: Tensor, C: Tensor, E: Tensor, P: Tensor) -> Tensor:
    """The map of rows x, layer by layer."""
    phi = torch.zeros(len(x), len(B), dtype=torch.float64)
    for _ in range(2):
        phi = activation(x @ C.T + phi @ B.T)
    return x @ P.T + phi @ E.T


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10_000))
def test_the_matrix_of_unit_slopes_is_that_of_the_corners(n: int, d: int, seed: int) -> None:
    B, C, E, P = random_map(n, d, 0.5, seed)
    lower, upper = torch.linspace(-0.3, 0.2, n).double(), torch.linspace(0.9, 1.4, n).double()
    lifted = LiftedMap.of(B, C, E, P).with_unit_slopes(lower, upper)
    assert lifted is not None
    matrix = lifted.matrix()
    A = C @ torch.linalg.solve(P, E) - B
    direct = slope_matrix(A, lower, upper)
    if matrix is None or direct.sign == 0:
        return
    doubt = 1e-12 * (1 + direct.M.abs().max())
    assert ((matrix.value - direct.M).abs() <= doubt + matrix.error + direct.error).all()
    eye = torch.eye(n, dtype=torch.float64)
    assert direct.sign == torch.linalg.det(eye + A * lower).sign()
    for corner in itertools.product((False, True), repeat=n):
        chosen = torch.tensor(corner)
        expected = torch.linalg.det(eye + A * torch.where(chosen, upper, lower))
        minor = torch.linalg.det(direct.M[chosen][:, chosen]) * torch.linalg.det(eye + A * lower)
        assert minor == pytest.approx(float(expected), rel=1e-8, abs=1e-10)


@given(st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=30)
def test_the_error_of_the_slope_matrix_is_bounded_in_rational_arithmetic(n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, dtype=torch.float64, generator=g)
    lower, upper = -torch.rand(n, dtype=torch.float64, generator=g), torch.rand(n, dtype=torch.float64, generator=g)
    found = slope_matrix(A, lower, upper)
    if found.sign == 0:
        return
    exact, low, high = rational(A.numpy()), rational(lower.numpy()), rational(upper.numpy())
    K = [[Fraction(i == j) + exact[i][j] * low[j] for j in range(n)] for i in range(n)]
    for j in range(n):
        column = solved(K, [Fraction(i == j) + exact[i][j] * high[j] for i in range(n)])
        assert column is not None
        for i in range(n):
            assert abs(column[i] - Fraction(found.M[i, j].item())) <= Fraction(found.error[i, j].item())


def test_a_relu_branch_keeps_its_matrix() -> None:
    A = torch.randn(5, 5, dtype=torch.float64)
    found = slope_matrix(A, torch.zeros(5), torch.ones(5))
    assert torch.equal(found.M, torch.eye(5) + A)
    assert found.sign == 1
    assert (found.error <= 1e-15 * (1 + A.abs())).all()


def test_a_singular_reference_is_refused() -> None:
    A = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert slope_matrix(A, torch.full((2,), -0.5), torch.ones(2)).sign == 0


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "gelu", "tanh", "hardswish", "elu"])
def test_no_error_of_an_inverse_exceeds_its_bound(name: str) -> None:
    activation, ratios = activation_of(name), []
    for seed in range(40):
        B, C, E, P = random_map(8, 4, 0.25, seed)
        n = len(B)
        lower, upper = (
            torch.full((n,), float(end), dtype=torch.float64) for end in (activation.lower, activation.upper)
        )
        lifted = LiftedMap.of(B, C, E, P).with_unit_slopes(lower, upper)
        matrix = None if lifted is None else lifted.matrix()
        if lifted is None or matrix is None:
            continue
        bound = error_bound(lifted, diagonally_stable(matrix.value, matrix.error))
        if bound is None:
            continue
        x = 3 * torch.randn(200, 4, dtype=torch.float64)
        other = x + torch.logspace(-3, 1, 200, dtype=torch.float64)[:, None] * torch.randn(200, 4, dtype=torch.float64)
        r = evaluate(other, activation, B, C, E, P) - evaluate(x, activation, B, C, E, P)
        error = torch.linalg.vector_norm(other - x, dim=1)
        assert (error <= bound(r) * (1 + 1e-9)).all()
        assert (bound(r) <= bound.constant * torch.linalg.vector_norm(r, dim=1) * (1 + 1e-9)).all()
        ratios.append(bound(r) / error)
    assert len(ratios) >= 8
    assert torch.cat(ratios).median() < 30


def test_the_error_bound_of_one_number_is_attained() -> None:
    """f(x) = x + φ(x)·a with slopes in [0, 1]: the steepest inverse has 1/(1 + a) for a < 0, and the bound is near."""
    a = -0.5
    lifted = LiftedMap.of(torch.zeros(1, 1), torch.ones(1, 1), torch.full((1, 1), a))
    matrix = lifted.matrix()
    assert matrix is not None
    bound = error_bound(lifted, diagonally_stable(matrix.value, matrix.error))
    assert bound is not None
    assert bound.constant == pytest.approx(1 + abs(a) / (1 + a), rel=1e-2)  # 2 = 1/(1 + a)


def test_minors_decide_gelu_whose_slopes_leave_the_unit_interval() -> None:
    """A skew A is invertible for slopes in [0, 1] at any size, and for GELU's only up to ‖A‖ = 1/√(−αβ) = 2.62."""
    gelu = activation_of("gelu")
    for size, certain in ((2.6, True), (2.65, False)):
        A = torch.tensor([[0.0, size], [-size, 0.0]], dtype=torch.float64)
        lower, upper = (torch.full((2,), float(end)) for end in (gelu.lower, gelu.upper))
        found = slope_matrix(A, lower, upper)
        signs = p_matrix_test(found.M - torch.eye(2), found.error + 1e-15).signs
        assert (found.sign == 1 and signs == POSITIVE) == certain


@given(st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=40)
def test_linear_systems_are_enclosed(n: int, seed: int) -> None:
    g = np.random.default_rng(seed)
    K, N, wrong = g.standard_normal((n, n)), g.standard_normal((n, 2)), 1e-4 * g.random((n, n))
    enclosed = Enclosure.of(torch.from_numpy(K), torch.from_numpy(wrong)).inverse_times(
        Enclosure.of(torch.from_numpy(N))
    )
    if enclosed is None:
        assert np.linalg.cond(K) > 20
        return
    for _ in range(20):
        X = np.linalg.solve(K + wrong * g.choice([-1, 0, 1], (n, n)), N)
        assert (np.abs(X - enclosed.value.numpy()) <= enclosed.error.numpy() * (1 + 1e-9)).all()


@given(st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=40)
def test_products_and_sums_are_enclosed_in_rational_arithmetic(n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b, c = torch.randn(3, n, n, dtype=torch.float64, generator=g)
    found = Enclosure.of(a) @ Enclosure.of(b) - Enclosure.of(c).columns(a[0]).rows(b[0])
    x, y, z = (rational(v.numpy()) for v in (a, b, c))
    for i, j in itertools.product(range(n), repeat=2):
        exact = sum(x[i][k] * y[k][j] for k in range(n)) - z[i][j] * x[0][j] * y[0][i]
        assert abs(exact - Fraction(found.value[i, j].item())) <= Fraction(found.error[i, j].item())
    assert found.norm() >= torch.linalg.matrix_norm(found.value, 2)


# activations as the reader of modules meets them


def activations_of(function: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (4,)) -> ActivationLayer:
    """What is read of a function between two layers."""

    class Between(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + function(2 * x + 1)

    (layer,) = read(Between(), torch.randn(3, *shape, dtype=torch.float64)).activations
    return layer


SMOOTH = {"sin": torch.sin, "cos": torch.cos, "erf": torch.erf, "atan": torch.atan, "asinh": torch.asinh}


@pytest.mark.parametrize("name", SMOOTH)
@given(st.floats(-50, 50), st.floats(-5, 5))
@settings(max_examples=50)
def test_difference_quotients_lie_in_their_interval(name: str, s: float, step: float) -> None:
    if abs(step) < 1e-3:
        return
    activation = activation_of(name)
    first, second = activation(torch.tensor([s, s + step], dtype=torch.float64))
    assert activation.lower - 1e-11 <= float(second - first) / step <= activation.upper + 1e-11


@pytest.mark.parametrize(("name", "lower", "upper"), [("sin", 0, -np.pi), ("cos", np.pi / 2, -np.pi / 2)])
def test_the_ends_of_periodic_functions_are_slopes(name: str, lower: float, upper: float) -> None:
    at = torch.tensor([lower, upper], dtype=torch.float64)
    slopes = sorted(activation_of(name).slope(at).tolist())
    assert slopes == pytest.approx([-1, 1])


def test_the_constant_of_erf_is_rounded_up() -> None:
    """2/√π ≤ β and β² − 4/π is small, with π > 3.14159265358979323846."""
    square = Fraction(ERF_STEEPEST) ** 2
    assert square * Fraction("3.14159265358979323846") >= 4
    assert square * Fraction("3.14159265358979323847") <= 4 + Fraction(1, 10**9)


def test_records_of_activations_reach_the_map_that_is_read() -> None:
    for function, name in ((F.hardtanh, "hardtanh"), (F.softshrink, "softshrink"), (torch.Tensor.abs, "abs")):
        found, record = activations_of(function).activation, activation_of(name)
        assert (found.name, found.kinks, found.slopes) == (record.name, record.kinks, record.slopes)
        assert (found.lower, found.upper) == (record.lower, record.upper)
    softplus = activations_of(F.softplus)
    s = torch.linspace(-30, 30, 100, dtype=torch.float64)
    assert softplus.activation.departure == activation_of("softplus").departure > 0
    assert torch.equal(softplus.activation(s), F.softplus(s))  # torch's own, as the module computes
    assert (softplus.activation(s) - activation_of("softplus")(s)).abs().max() <= softplus.activation.departure
    assert activations_of(lambda s: 3 * F.softplus(s) + 1).activation.departure == softplus.activation.departure


def test_bounds_are_kept_for_each_number_where_they_differ() -> None:
    ends, slopes = torch.tensor([0.0, 1.0, 2.0, 3.0]).double(), torch.tensor([0.5, 2.0, -1.0, 1.0]).double()
    clamped = activations_of(lambda s: torch.minimum(s, ends))
    assert torch.equal(clamped.activation(torch.full((1, 4), 1.5).double()), torch.tensor([[0, 1, 1.5, 1.5]]).double())
    bent = activations_of(lambda s: F.prelu(s, slopes))
    assert torch.equal(bent.alpha, slopes.clamp(max=1))
    assert torch.equal(bent.beta, slopes.clamp(min=1))
    by_channel = activations_of(lambda s: F.prelu(s, slopes[:2]), (2, 3))
    assert torch.equal(by_channel.alpha, slopes[:2, None].clamp(max=1).expand(2, 3))


def test_activations_that_jump_or_are_random_are_no_activations() -> None:
    for function, words in (
        (F.hardshrink, "hardshrink jumps"),
        (lambda s: F.threshold(s, 1.0, 2.0), "threshold jumps"),
        (torch.exp, "slopes are not bounded"),
        (lambda s: F.celu(s, -1.0), "no bound"),
    ):
        with pytest.raises(ValueError, match=words):
            activations_of(function)
    assert activations_of(lambda s: F.hardshrink(s, 0.0)).alpha.tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="random"):
        activations_of(lambda s: F.rrelu(s, training=True))
