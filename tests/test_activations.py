"""The intervals of slopes: no difference quotient leaves them, both ends are reached, and the constants are proved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from replication.activations import (
    GELU,
    GELU_TANH,
    KNOWN,
    LIPSWISH,
    MISH,
    MODULES,
    SELU_STEEPEST,
    SILU,
    Activation,
    activation_of,
)

CASES: dict[str, Activation] = {
    "relu": activation_of(torch.relu),
    "leaky": activation_of(F.leaky_relu, negative_slope=0.3),
    "leaky steep": activation_of(F.leaky_relu, negative_slope=2.5, inplace=True),
    "leaky negative": activation_of(nn.LeakyReLU(-0.7)),
    "rrelu": activation_of(nn.RReLU().eval()),
    "prelu": activation_of(nn.PReLU(init=0.4)),
    "relu6": activation_of(nn.ReLU6()),
    "hardtanh": activation_of(nn.Hardtanh(-0.5, 2.0)),
    "clamp": activation_of(torch.clamp, min=-3.0),
    "clamp above": activation_of(torch.Tensor.clamp_max_, max=1.0),
    "maximum": activation_of(torch.maximum, other=torch.zeros(3)),
    "threshold": activation_of(F.threshold, threshold=1.0, value=1.0),
    "hardswish": activation_of(nn.Hardswish()),
    "hardsigmoid": activation_of(nn.Hardsigmoid()),
    "elu": activation_of(nn.ELU()),
    "elu steep": activation_of(nn.ELU(1.6)),
    "elu negative": activation_of(F.elu, alpha=-0.5),
    "elu zero": activation_of(F.elu, alpha=0.0),
    "celu": activation_of(nn.CELU(0.3)),
    "selu": activation_of(nn.SELU()),
    "gelu": activation_of(nn.GELU()),
    "gelu tanh": activation_of(F.gelu, approximate="tanh"),
    "silu": activation_of(nn.SiLU()),
    "mish": activation_of(nn.Mish()),
    "softplus": activation_of(nn.Softplus()),
    "softplus steep": activation_of(F.softplus, beta=5.0),
    "softplus reversed": activation_of(F.softplus, beta=-2.0),
    "tanh": activation_of(torch.tanh),
    "sigmoid": activation_of(torch.special.expit),
    "lipswish": activation_of("lipswish", beta=0.6),
    "abs": activation_of(torch.abs),
    "softsign": activation_of(nn.Softsign()),
    "tanhshrink": activation_of(F.tanhshrink),
    "softshrink": activation_of(nn.Softshrink(0.4)),
    "logsigmoid": activation_of(F.logsigmoid),
}
SLOW = {"softsign"}  # whose slope falls as 1/s² only


def quotients(activation: Activation, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Difference quotients, and bounds of their rounding errors."""
    values = activation(s), activation(t)
    size = sum(v.abs() for v in (*values, s, t))
    return (values[0] - values[1]) / (s - t), 16 * torch.finfo(torch.float64).eps * size / (s - t).abs()


@pytest.mark.parametrize("name", CASES)
def test_difference_quotients_stay_inside_and_reach_both_ends(name: str) -> None:
    activation = CASES[name]
    near = torch.linspace(-0.01, 0.01, 20_001, dtype=torch.float64)
    s = torch.cat([torch.linspace(-40, 40, 200_001, dtype=torch.float64), near, near - 3, near + 3])
    found = []
    for gap in (1e-6, 1e-2, 1.0, 17.3):
        quotient, doubt = quotients(activation, s, s + gap)
        assert (quotient >= activation.lower - doubt).all()
        assert (quotient <= activation.upper + doubt).all()
        found += [quotient.min(), quotient.max()]
    slack = 1e-3 if name in SLOW else 1e-6
    assert min(found) <= activation.lower + slack
    assert max(found) >= activation.upper - slack


@given(st.sampled_from(sorted(CASES)), st.floats(-60, 60), st.floats(-60, 60))
def test_no_pair_of_points_leaves_the_interval(name: str, s: float, t: float) -> None:
    activation, pair = CASES[name], torch.tensor([[s], [t]], dtype=torch.float64)
    if s != t:
        quotient, doubt = quotients(activation, *pair)
        assert activation.lower - doubt <= quotient <= activation.upper + doubt


@pytest.mark.parametrize("name", CASES)
def test_slopes_are_the_derivatives(name: str) -> None:
    activation = CASES[name]
    s = torch.randn(1000, dtype=torch.float64) * 3
    quotient, doubt = quotients(activation, s + 1e-6, s - 1e-6)
    kinks = torch.tensor([*(activation.kinks or ()), 0.0, 3.0, -3.0])
    away = ((s[:, None] - kinks).abs() > 1e-5).all(1)
    assert ((activation.slope(s) - quotient).abs() <= doubt + 1e-8)[away].all()


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].kinks is not None])
def test_pieces_are_those_of_piecewise_linear_functions(name: str) -> None:
    activation = CASES[name]
    assert activation.kinks is not None
    assert activation.slopes is not None
    assert len(activation.slopes) == len(activation.kinks) + 1
    ends = [-30.0, *activation.kinks, 30.0]
    for low, high, slope in zip(ends[:-1], ends[1:], activation.slopes, strict=True):
        inside = torch.tensor([low, high], dtype=torch.float64)
        low_value, high_value = activation(inside).tolist()
        assert high_value - low_value == pytest.approx(slope * (high - low), abs=1e-9)
        assert activation.lower <= slope <= activation.upper


@pytest.mark.parametrize("name", sorted(set(CASES) - {"softplus", "softplus steep", "softplus reversed", "lipswish"}))
def test_the_function_is_that_of_torch(name: str) -> None:
    originals: dict[str, Callable[[Tensor], Tensor]] = {
        "leaky": lambda s: F.leaky_relu(s, 0.3), "leaky steep": lambda s: F.leaky_relu(s, 2.5),
        "leaky negative": lambda s: F.leaky_relu(s, -0.7), "rrelu": nn.RReLU().eval(),
        "prelu": lambda s: F.leaky_relu(s, 0.4000000059604645), "hardtanh": nn.Hardtanh(-0.5, 2.0),
        "clamp": lambda s: s.clamp(min=-3), "clamp above": lambda s: s.clamp(max=1), "maximum": torch.relu,
        "threshold": nn.Threshold(1.0, 1.0), "elu": nn.ELU(), "elu steep": nn.ELU(1.6), "elu negative": nn.ELU(-0.5),
        "elu zero": torch.relu, "celu": nn.CELU(0.3), "gelu tanh": nn.GELU("tanh"), "softshrink": nn.Softshrink(0.4),
    }  # fmt: skip
    original = originals.get(name) or getattr(F, name, None) or getattr(torch, name)
    s = torch.randn(1000, dtype=torch.float64) * 5
    torch.testing.assert_close(CASES[name](s), original(s), rtol=1e-15, atol=0)


@pytest.mark.parametrize(("beta", "threshold"), [(1.0, 20.0), (3.0, 5.0), (-2.0, 20.0), (1.0, -2.0)])
def test_softplus_departs_from_torch_by_no_more_than_it_says(beta: float, threshold: float) -> None:
    activation = activation_of(nn.Softplus(beta, threshold))
    s = threshold / beta + torch.linspace(-5, 5, 100_001, dtype=torch.float64)
    apart = (activation(s) - F.softplus(s, beta, threshold)).abs().max()
    assert apart <= activation.departure + 1e-14
    assert apart >= 0.99 * activation.departure - 1e-14


def test_torch_softplus_falls_at_its_threshold() -> None:
    s = torch.tensor([20.0, 20.0 + 1e-12], dtype=torch.float64)
    low, high = F.softplus(s)
    assert low > high
    assert activation_of(F.softplus).departure == pytest.approx(2.0611536e-9, rel=1e-6)


def test_prelu_has_one_interval_for_each_channel() -> None:
    module = nn.PReLU(3).double()
    module.weight.data = torch.tensor([0.25, -1.0, 3.0], dtype=torch.float64)
    activation = activation_of(module)
    lower, upper = activation.bounds((3, 2, 2))
    assert lower[:, 1, 0].tolist() == [0.25, -1.0, 1.0]
    assert upper[:, 0, 1].tolist() == [1.0, 1.0, 3.0]
    s = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(activation(s), module(s))
    assert torch.equal(activation.slope(s), torch.where(s > 0, 1, module.weight[:, None, None]))


def test_parameters_count_as_rounded_to_float32_too() -> None:
    activation = activation_of(nn.LeakyReLU(0.01))
    applied = F.leaky_relu(torch.tensor([-1.0]), 0.01).double()
    assert activation.lower <= -applied.item() < 0.01


@pytest.mark.parametrize(
    ("source", "arguments", "sentence"),
    [
        (nn.Hardshrink(), {}, "hardshrink jumps"),
        (F.threshold, {"threshold": 0.0, "value": 2.0}, "threshold jumps"),
        (nn.RReLU(), {}, r"call module.eval\(\) first"),
        (nn.Softmax(), {}, "Softmax is no activation"),
        (torch.exp, {}, "exp is no element-wise activation"),
        (F.celu, {"alpha": -1.0}, "have no bound"),
        (F.leaky_relu, {"negative_slope": math.inf}, "must be finite"),
        (torch.clamp, {"min": torch.arange(3)}, "one number for all"),
    ],
)
def test_what_has_no_bounded_slopes_is_refused(source: object, arguments: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        activation_of(source, **arguments)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="gelu is called in a way that is not known"):
        activation_of(F.gelu, temperature=2)


def test_a_module_derived_from_one_of_torch_is_not_taken_for_it() -> None:
    class Other(nn.ReLU):
        def forward(self, input: Tensor) -> Tensor:
            return input.square()

    with pytest.raises(ValueError, match="Other is no activation"):
        activation_of(Other())


def test_every_known_module_has_a_record() -> None:
    for kind, (name, _) in MODULES.items():
        assert name in KNOWN
        if kind not in (nn.Hardshrink, nn.Threshold):
            assert activation_of(kind().eval()).lower <= 0.25


# Proofs of the constants


def test_gelu_constants_enclose_the_ends_in_rational_arithmetic() -> None:
    """1/2 + erf(1)/2 + 1/(e√π), where erf(1) = 2/√π·Σ (−1)ᵏ/(k!(2k + 1)) alternates, as e⁻¹ = Σ (−1)ᵏ/k! does."""

    def between(terms: list[Fraction]) -> tuple[Fraction, Fraction]:
        sums = sum(terms), sum(terms[:-1])
        return min(sums), max(sums)

    factorials = [Fraction(1, math.factorial(k)) for k in range(25)]
    of_erf = between([(-1) ** k * f / (2 * k + 1) for k, f in enumerate(factorials)])
    of_exp = between([(-1) ** k * f for k, f in enumerate(factorials)])
    root = Fraction(math.isqrt(314159265358979323846 * 10**20), 10**20), Fraction("1.7724538509055160274")
    assert root[1] ** 2 > Fraction("3.14159265358979323847")  # both round π outwards
    low, high = (
        Fraction(1, 2) + (erf + exp) / side for erf, exp, side in zip(of_erf, of_exp, (root[1], root[0]), strict=True)
    )
    assert high <= Fraction(GELU[1]) <= low + Fraction(1, 10**9)
    assert 1 - high >= Fraction(GELU[0]) >= 1 - low - Fraction(1, 10**9)


@dataclass(frozen=True)
class Interval:
    """Arrays of intervals of real numbers, rounded outwards by more than numpy's functions may be off."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray) -> Interval:
        slack = 1e-15
        return cls(low - slack * (1 + np.abs(low)), high + slack * (1 + np.abs(high)))

    def __add__(self, other: Interval | float) -> Interval:
        o = other if isinstance(other, Interval) else Interval(np.asarray(other), np.asarray(other))
        return Interval.around(self.low + o.low, self.high + o.high)

    def __mul__(self, other: Interval | float) -> Interval:
        o = other if isinstance(other, Interval) else Interval(np.asarray(other), np.asarray(other))
        products = [self.low * o.low, self.low * o.high, self.high * o.low, self.high * o.high]
        return Interval.around(np.minimum.reduce(products), np.maximum.reduce(products))

    __radd__, __rmul__ = __add__, __mul__

    def rising(self, function: Callable[[np.ndarray], np.ndarray]) -> Interval:
        return Interval.around(function(self.low), function(self.high))

    def sigmoid(self) -> Interval:
        return self.rising(lambda v: 1 / (1 + np.exp(-v)))

    def tanh(self) -> Interval:
        return self.rising(np.tanh)

    def softplus(self) -> Interval:
        return self.rising(lambda v: np.logaddexp(0, v))


@dataclass(frozen=True)
class Jet:
    """Enclosures of a function on intervals, and of its derivative."""

    value: Interval
    change: Interval

    def __add__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.change)
        return Jet(self.value + other.value, self.change + other.change)

    def __mul__(self, other: Jet | float) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, self.change * other)
        return Jet(self.value * other.value, self.value * other.change + self.change * other.value)

    __radd__, __rmul__ = __add__, __mul__

    def sigmoid(self) -> Jet:
        value = self.value.sigmoid()
        return Jet(value, value * (1 + -1.0 * value) * self.change)

    def tanh(self) -> Jet:
        value = self.value.tanh()
        return Jet(value, (1 + value) * (1 + -1.0 * value) * self.change)

    def softplus(self) -> Jet:
        return Jet(self.value.softplus(), self.value.sigmoid() * self.change)


Enclosure = TypeVar("Enclosure", Interval, Jet)


def silu_slope(s: Enclosure) -> Enclosure:
    return s.sigmoid() * (1 + s * (-1.0 * s).sigmoid())


def lipswish_slope(s: Enclosure) -> Enclosure:
    return (1 / 1.1) * silu_slope(s)


def gelu_tanh_slope(s: Enclosure) -> Enclosure:
    c = math.sqrt(2 / math.pi)
    t = (c * (s + 0.044715 * (s * s * s))).tanh()
    return 0.5 * (1 + t) + 0.5 * (s * ((1 + t) * (1 + -1.0 * t))) * (c * (1 + 0.134145 * (s * s)))


def mish_slope(s: Enclosure) -> Enclosure:
    t = s.softplus().tanh()
    return t + s * ((1 + t) * (1 + -1.0 * t)) * s.sigmoid()


def never_above(slope: Callable[[Jet], Jet], bound: float, low: float, high: float) -> bool:
    """Whether the slope is at most `bound` on [low, high]: the value amid each cell, and what its curvature may add."""
    cells = np.linspace(low, high, 1001)
    lows, highs = cells[:-1], cells[1:]
    for _ in range(30):
        middle = (lows + highs) / 2
        amid = slope(Jet(Interval(middle, middle), Interval(middle * 0, middle * 0))).value
        curvature = slope(Jet(Interval(lows, highs), Interval(middle * 0 + 1, middle * 0 + 1))).change
        steepest = np.maximum(np.abs(curvature.low), np.abs(curvature.high))
        if (amid.low > bound).any():
            return False
        left = amid.high + steepest * (highs - lows) > bound
        lows, middle, highs = lows[left], middle[left], highs[left]
        if not len(lows):
            return True
        lows, highs = np.concatenate([lows, middle]), np.concatenate([middle, highs])
    return False


# Beyond ±30 each slope is within 100e⁻³⁰ < 1e-11 of 0 or 1 (of LipSwish 1/1.1): its part s·σ(s)(1 − σ(s)), or what
# stands there in the others, is at most 2|s|e^−|s|
SMOOTH = {
    "silu": (silu_slope, SILU),
    "lipswish": (lipswish_slope, LIPSWISH),
    "gelu tanh": (gelu_tanh_slope, GELU_TANH),
    "mish": (mish_slope, MISH),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_constants_enclose_all_slopes_by_interval_arithmetic(name: str) -> None:
    slope, (lower, upper) = SMOOTH[name]
    assert never_above(slope, upper, -30, 30)
    assert never_above(lambda s: -1.0 * slope(s), -lower, -30, 30)
    assert not never_above(slope, upper - 1e-9, -30, 30)  # the oracle can say no, and the ends are no wider than this
    assert not never_above(lambda s: -1.0 * slope(s), -lower - 1e-9, -30, 30)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slopes_of_the_proof_are_the_derivatives(name: str) -> None:
    s = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    enclosed = SMOOTH[name][0](Interval(s.numpy(), s.numpy()))
    slope = (activation_of("lipswish") if name == "lipswish" else CASES[name]).slope(s).numpy()
    assert (np.abs(enclosed.low - slope) < 1e-12).all()
    assert (np.abs(enclosed.high - slope) < 1e-12).all()


def test_the_constant_of_selu_is_the_product_of_its_parameters_rounded_up() -> None:
    product = Fraction("1.0507009873554804934193349852946") * Fraction("1.6732632423543772848170429916717")
    assert product <= Fraction(SELU_STEEPEST) <= product + Fraction(1, 10**9)
