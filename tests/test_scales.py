"""Numbers of every size: nothing converged and wrong, no bound that is too small or NaN, no certificate that fails."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from builders import Block, unit_of_matrix, without_biases
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ExactUnit, affine, convolution_matrix, exact_minors, rational, squared_distance
from torch import Tensor

from replication import (
    Anderson,
    Banach,
    CausalConvUnit,
    Chebyshev,
    InjectiveReLU,
    Inverse,
    LayerwiseNetwork,
    LipschitzConvUnit,
    Modulus,
    MonotoneCausalConvUnit,
    MonotoneConvUnit,
    NewtonCG,
    ResidualUnit,
    Solution,
    StandardConvUnit,
    Status,
    Verdict,
    directed_spanning_test,
    invert,
    stability,
)
from replication.certification.bounds import ROUNDING, Terms
from replication.maps import DenseMap, RectifierEquation
from replication.operators import Dense
from replication.solvers import Solver
from replication.solvers.solution import CODE, resolve_tolerance
from replication.units.rectifier_unit import RectifierUnit

EXPONENTS = {torch.float64: (-300.0, 300.0), torch.float32: (-40.0, 37.0)}
FEW = {"max_iterations": 60}
DENSE: list[str | Solver] = ["exact", "pivoting", "newton", Banach(**FEW), Modulus(**FEW), Anderson(**FEW)]
GRAM: list[str | Solver] = ["auto", Chebyshev(**FEW), NewtonCG(**FEW), Modulus("auto", **FEW), Anderson(**FEW)]
CAUSAL: list[str | Solver] = ["substitution", "jacobi", "newton_substitution", Banach(**FEW)]
dtypes = st.sampled_from(list(EXPONENTS))
seeds = st.integers(0, 10**6)


class Draw:
    """Random tensors of a dtype, of random sizes over its whole range."""

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        self.dtype, self.rng, (self.low, self.high) = dtype, np.random.default_rng(seed), EXPONENTS[dtype]

    def exponent(self) -> float:
        return float(self.rng.uniform(self.low, self.high))

    def normal(self, *shape: int, exponent: float = 0.0, spread: float = 0.0) -> Tensor:
        """Normal numbers times 10^exponent, each of a size of its own within a factor of 10^±spread."""
        exponents = np.clip(exponent + self.rng.uniform(-spread, spread, shape), self.low, self.high)
        return torch.as_tensor(self.rng.normal(size=shape) * 10.0**exponents).to(self.dtype)

    def sometimes(self, tensor: Tensor) -> Tensor:
        return tensor * float(self.rng.random() < 0.5)

    def unit(self) -> tuple[ResidualUnit, Tensor]:
        """A unit whose matrices balance each other, mostly, and outputs."""
        h, d, spread = *self.rng.integers(1, 4, 2), float(self.rng.choice([0, 0, 20]))
        first, size = self.exponent(), self.exponent()
        second = -first + self.rng.uniform(-2, 1) if self.rng.random() < 0.7 else self.exponent()
        W1, W2 = self.normal(h, d, exponent=first, spread=spread), self.normal(d, h, exponent=second, spread=spread)
        if h == d and self.rng.random() < 0.5:
            W2 = (W1.mT.double() * 10.0 ** np.clip(second - first, -250, 250)).clamp(-1e37, 1e37).to(self.dtype)
        b1 = self.normal(h, exponent=first + size if self.rng.random() < 0.6 else self.exponent())
        b2, y = self.normal(d, exponent=size), self.normal(2, d, exponent=size)
        return ResidualUnit(W1, self.sometimes(b1), W2, self.sometimes(b2)), y


def exactly(unit: RectifierUnit) -> ExactUnit:
    rectifier_map = unit.rectifier_map(unit.input_shape)
    matrices = []
    for linear in (rectifier_map.W1, rectifier_map.W2):
        weight = linear.weight.detach().double().numpy()
        convolution = weight.ndim == 4
        matrices.append(convolution_matrix(weight, *unit.input_shape[1:], linear.padding) if convolution else weight)
    b1 = rectifier_map.b1.detach().double().expand(rectifier_map.W1.codomain).flatten().numpy()
    b2 = rectifier_map.b2.detach().double().expand(rectifier_map.W2.codomain).flatten().numpy()
    return ExactUnit(matrices[0], b1, matrices[1], b2)


def assert_honest(unit: RectifierUnit, y: Tensor, solution: Solution) -> None:
    """Converged rows have the residual they claim, but for ordinary rounding; finite bounds hold for every row."""
    exact, limits = exactly(unit), torch.finfo(y.dtype)
    rectifier_map = unit.rectifier_map(unit.input_shape)
    rounding = Fraction(ROUNDING * (rectifier_map.W1.terms + rectifier_map.W2.terms + 4) * limits.eps)
    tolerance = Fraction(resolve_tolerance(None, y.dtype)) * (1 + Fraction(1, 1000))
    for row, target in enumerate(rational(y.double().flatten(1).numpy())):
        value = solution.value[row].double().flatten()
        if not torch.isfinite(value).all():
            assert not solution.converged[row]
            continue
        x = rational(value.numpy())
        scale = squared_distance(target, [Fraction(0)] * len(target)) or 1
        if solution.converged[row]:
            allowed = 2 * tolerance**2 * scale + 2 * (rounding * exact.size(x, target)) ** 2
            assert squared_distance(exact(x), target) <= allowed
        if solution.error_bound is not None:
            bound = float(solution.error_bound[row])
            assert bound >= 0  # and no NaN
            if math.isfinite(bound):
                (preimage,) = exact.preimages(target)
                assert squared_distance(x, preimage) <= Fraction(bound) ** 2


@settings(max_examples=150)
@given(dtypes, seeds, st.sampled_from(DENSE))
def test_what_converges_is_right_and_bounds_hold_at_every_scale(
    dtype: torch.dtype, seed: int, solver: str | Solver
) -> None:
    unit, y = Draw(dtype, seed).unit()
    assert_honest(unit, y, unit.inverse(y, solver))


@settings(max_examples=100)
@given(dtypes, seeds, st.sampled_from(["standard", "lipschitz", "monotone", "causal", "monotone causal"]), st.data())
def test_what_converges_is_right_and_bounds_hold_at_every_scale_on_images(
    dtype: torch.dtype, seed: int, family: str, data: st.DataObject
) -> None:
    torch.manual_seed(seed)
    draw, size = Draw(dtype, seed), data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
    kernel = data.draw(st.sampled_from([1, 3]))
    make, solvers = {
        "standard": (StandardConvUnit, DENSE),
        "lipschitz": (LipschitzConvUnit, DENSE),
        "monotone": (MonotoneConvUnit, GRAM),
        "causal": (CausalConvUnit, CAUSAL),
        "monotone causal": (MonotoneCausalConvUnit, CAUSAL),
    }[family]
    unit = make(1, 1, kernel, image_size=size).to(dtype)
    first, scale = draw.exponent() / (2 if family == "monotone" else 1), draw.exponent()
    sizes = {"weight1": first, "weight2": -first - 1, "taps2": -first - 1, "bias1": first + scale, "bias2": scale}
    with torch.no_grad():
        for name, parameter in unit.named_parameters():
            size_of = next(exponent for part, exponent in sizes.items() if part in name)
            parameter.copy_(draw.normal(*parameter.shape, exponent=size_of))
    y = draw.normal(2, 1, *size, exponent=scale)
    assert_honest(unit, y, unit.inverse(y, data.draw(st.sampled_from(solvers))))
    for linear in (unit.rectifier_map(unit.input_shape).W1, unit.rectifier_map(unit.input_shape).W2):
        matrix = convolution_matrix(linear.weight.detach().double().numpy(), *size, linear.padding)
        largest = np.abs(matrix).max() or 1.0
        assert float(linear.norm_bound().detach()) >= np.linalg.norm(matrix / largest, 2) * (1 - 1e-14) * largest


@settings(max_examples=100)
@given(dtypes, seeds)
def test_certificates_hold_at_every_scale(dtype: torch.dtype, seed: int) -> None:
    unit, _ = Draw(dtype, seed).unit()
    certificate = unit.certificate()
    W1, W2 = (weight.detach().double().numpy() for weight in (unit.W1, unit.W2))
    if certificate.verdict is Verdict.INVERTIBLE:
        assert min(exact_minors(W1, W2).values()) > 0
    elif certificate.verdict is Verdict.NOT_INVERTIBLE:
        assert min(exact_minors(W1, W2).values()) < 0
        exact = exactly(unit)
        x1, x2 = (rational(x.double().numpy()) for x in certificate.witness)
        assert squared_distance(exact(x1), exact(x2)) <= Fraction(torch.finfo(dtype).eps) * squared_distance(x1, x2)


@settings(max_examples=40)
@given(dtypes, seeds)
def test_bounds_of_networks_hold_at_every_scale(dtype: torch.dtype, seed: int) -> None:
    draw = Draw(dtype, seed)
    first, second = (draw.unit()[0] for _ in range(2))
    if first.input_shape != second.input_shape:
        second = ResidualUnit(first.W1, first.b1, first.W2, first.b2)
    y = draw.normal(2, *first.input_shape, exponent=draw.exponent())
    network = LayerwiseNetwork(first, second)
    solution = network.inverse(y)
    assert not math.isnan(network.certificate().inverse_lipschitz)
    if solution.error_bound is None:
        return
    for row, bound in enumerate(solution.error_bound.tolist()):
        assert bound >= 0
        if math.isfinite(bound):
            (between,) = exactly(second).preimages(rational(y[row].double().numpy()))
            (x,) = exactly(first).preimages(between)
            error = squared_distance(x, rational(solution.value[row].double().numpy()))
            assert error <= (Fraction(bound) * (1 + Fraction(1, 10**5))) ** 2  # composed in floating point


@settings(max_examples=30)
@given(dtypes, seeds)
def test_modules_and_inverse_layers_are_no_less_honest(dtype: torch.dtype, seed: int) -> None:
    unit, y = Draw(dtype, seed).unit()
    solution = unit.inverse(y)
    if solution.converged.all():
        assert torch.equal(Inverse(unit)(y), solution.value)
    else:
        with pytest.raises(RuntimeError, match="rows were not inverted"):
            Inverse(unit)(y)


@pytest.mark.parametrize("solver", DENSE, ids=str)
def test_rows_whose_norm_overflows_are_not_converged(solver: str | Solver) -> None:
    unit = unit_of_matrix(1.5 * torch.eye(2))
    solution = unit.inverse(torch.tensor([[3e38, -3e38], [3.0, -3.0]]), solver)
    assert solution.status.tolist() == [Status.NOT_FINITE, Status.CONVERGED]
    assert solution.residual[0] == solution.error_bound[0] == math.inf


@pytest.mark.parametrize("solver", DENSE, ids=str)
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-25), (torch.float64, 1e-170)], ids=str)
def test_rows_that_underflow_within_the_unit_are_not_converged(
    solver: str | Solver, dtype: torch.dtype, scale: float
) -> None:
    unit = without_biases(torch.full((1, 1), scale, dtype=dtype), torch.full((1, 1), 0.5 / scale, dtype=dtype))
    solution = unit.inverse(torch.tensor([[scale], [1.0]], dtype=dtype), solver)
    assert not solution.converged[0]  # the right 2y/3 is not y, whose residual is 0 as evaluated
    assert float((solution.value[0] - scale / 1.5).abs()) <= float(solution.error_bound[0]) < math.inf
    assert solution.converged[1]


def test_sums_that_overflow_on_the_way_are_not_converged() -> None:
    # W₁x = 4e307, but its first partial sums overflow to −∞, whose ReLU is 0
    large = 1.5e308
    W1 = torch.tensor([[-large, -large, large, large, 4e307]], dtype=torch.float64)
    unit = without_biases(W1, torch.ones(5, 1, dtype=torch.float64))
    solution = unit.inverse(torch.ones(1, 5, dtype=torch.float64), "banach")
    assert not solution.converged[0]


def test_ordinary_rows_are_judged_by_their_residuals_alone() -> None:
    for dtype in (torch.float32, torch.float64):
        g = torch.Generator().manual_seed(0)
        W1, b1, W2, b2 = (torch.randn(*shape, generator=g, dtype=dtype) for shape in ((9, 9), (9,), (9, 9), (9,)))
        unit = ResidualUnit(W1 / 9, b1, W2 / 9, b2)
        for exponent in (-10, 0, 10):
            y = 10.0**exponent * torch.randn(20, 9, generator=g, dtype=dtype)
            solution = unit.inverse(y, tolerance=1e-30)
            assert torch.equal(solution.converged, solution.residual <= 1e-30)
            assert set(solution.codes.tolist()) <= {CODE[Status.CONVERGED], CODE[Status.STAGNATED]}


def test_own_modules_that_underflow_are_not_converged() -> None:
    block = Block(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)).float()
    with torch.no_grad():
        for parameter, scale in zip(block.parameters(), (1e-25, 1e25), strict=True):
            parameter.fill_(scale)
    solution = invert(block, torch.tensor([[1e-25], [1.0]]))
    assert solution.converged.tolist() == [False, True]


@given(seeds, dtypes)
@settings(max_examples=40)
def test_injective_layers_are_right_or_say_so_at_every_scale(seed: int, dtype: torch.dtype) -> None:
    draw = Draw(dtype, seed)
    weight, size = draw.exponent() / 4, min(draw.exponent() / 2, 145)  # biases of 1e150 norms are refused
    B, d = draw.normal(3, 2, exponent=weight, spread=1.0), draw.normal(3).abs() + 0.1
    b = draw.normal(3, exponent=weight + size) * bool(draw.rng.integers(2))
    layer = InjectiveReLU(torch.cat([B, -d[:, None] * B]), torch.cat([b, -d * b]))
    x = draw.normal(4, 2, exponent=size, spread=2.0)
    y = layer(x).detach()
    solution = layer.inverse(y)
    bound = solution.error_bound
    assert bound is None or not torch.isnan(bound).any()
    assert not (solution.converged & ~torch.isfinite(solution.residual)).any()
    W, biases = (rational(tensor.detach().double().numpy()) for tensor in layer.weights())
    inputs, values, targets = (rational(tensor.double().numpy()) for tensor in (x, solution.value, y))
    for row, (value, target) in enumerate(zip(values, targets, strict=True)):
        off = squared_distance([max(s, Fraction(0)) for s in affine(W, value, biases)], target)
        sizes = affine([[abs(w) for w in own] for own in W], map(abs, value), map(abs, biases))
        rounding = (16 * Fraction(torch.finfo(dtype).eps)) ** 2 * sum(size**2 for size in sizes)
        asked = Fraction(resolve_tolerance(None, dtype)) ** 2 * sum(t**2 for t in target)
        if solution.converged[row]:
            assert off <= 4 * (asked + rounding + Fraction(torch.finfo(dtype).tiny) ** 2)
        if bound is not None and torch.isfinite(bound[row]):
            assert squared_distance(inputs[row], value) <= Fraction(float(bound[row])) ** 2


@given(seeds, st.sampled_from([torch.float64, torch.float32]))
@settings(max_examples=30)
def test_verdicts_and_bounds_of_relu_layers_do_not_depend_on_the_scale(seed: int, dtype: torch.dtype) -> None:
    draw = Draw(dtype, seed)
    W = torch.as_tensor(draw.rng.integers(-3, 4, size=(6, 2))).to(dtype)
    power = 2.0 ** int(draw.rng.integers(-100, 100))
    b = torch.zeros(6, dtype=dtype)
    verdicts = [directed_spanning_test(W * scale, b).spans for scale in (1.0, power)]
    assert verdicts[0] == verdicts[1]
    plain, scaled = stability(W, b), stability(W * power, b)
    assert scaled.exact == plain.exact
    for one, other in ((plain.lower, scaled.lower), (plain.upper, scaled.upper)):
        assert math.isclose(one * power, other, rel_tol=1e-6, abs_tol=1e-6 * power)


@given(seeds, st.integers(-320, 308), st.integers(-320, 308), dtypes)
def test_rows_called_ordinary_lose_nothing_to_the_range(seed: int, of_W: int, of_x: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(seed)
    W1, b1, W2, b2, x, y = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((5, 3), (5,), (3, 5), (3,), (4, 3), (4, 3))
    )
    sizes = torch.tensor([of_W, -of_W / 2, of_x, of_x], dtype=torch.float64)
    W1, W2, x, y = ((10.0**size * tensor).to(dtype) for size, tensor in zip(sizes, (W1, W2, x, y), strict=True))
    f = DenseMap(Dense(W1), b1.to(dtype), Dense(W2), b2.to(dtype))
    terms = Terms.of(RectifierEquation(f, y), x)
    accuracy = torch.finfo(dtype).eps
    if terms.are_ordinary(accuracy):
        assert (terms.lost_to_range() <= accuracy * terms.scale).all()
    else:
        assert max(abs(of_W), abs(of_x)) > 8
