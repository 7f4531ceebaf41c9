"""Activations with bounds of their difference quotients, by the name and with the arguments of torch's own functions.

α ≤ (φ(s) − φ(t))/(s − t) ≤ β   for all s ≠ t
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.reading.guest import UnreadableError

Number = float | Tensor
JUMPS = "it jumps, so no difference quotient bounds it"
UNBOUNDED = "its slopes are not bounded by any numbers known here"

# Enclosures of the extreme slopes of smooth activations, rounded outwards.
GELU = (-0.1289041453, 1.1289041453)  # at ±√2
GELU_TANH = (-0.1289930688, 1.1289930688)
SILU = (-0.0998393202, 1.0998393202)
MISH = (-0.1125261225, 1.0884981614)
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
SELU_LARGEST = 1.7580994  # scale·alpha = 1.75809934…
ERF_LARGEST = 1.1283791671  # 2/√π


@dataclass(frozen=True)
class Known:
    """An activation: `function` takes preactivations (rows, *shape), α and β are numbers or broadcast to (*shape)."""

    name: str
    function: Callable[[Tensor], Tensor]
    alpha: Number
    beta: Number


def known_activation(name: str, arguments: tuple[object, ...], options: dict[str, object]) -> Known:
    """Return the activation that a function of torch is with these arguments after its first.

    Raises:
        UnreadableError: if it jumps, or has no known bounds.
    """
    if name in JUMPING:
        raise UnreadableError(JUMPS)
    if name in FIXED:
        function, alpha, beta = FIXED[name]
        return Known(name, function, alpha, beta)
    if name not in WITH_SETTINGS:
        raise UnreadableError(UNBOUNDED)
    options = {key: value for key, value in options.items() if key != "inplace"}
    try:
        return WITH_SETTINGS[name](*arguments, **options)
    except TypeError as error:
        raise UnreadableError("it is called in a way that is not known here") from error


def bent(right: Number, left: Number, name: str = "leaky_relu") -> Known:
    """Return s ↦ right·s where s > 0 and left·s where not."""
    right, left = torch.as_tensor(right), torch.as_tensor(left)
    if bool((right == 1).all()) and not left.any():
        return Known("relu", *FIXED["relu"])
    return Known(
        name, lambda s: torch.where(s > 0, right * s, left * s), torch.minimum(right, left), torch.maximum(right, left)
    )


def leaky_relu(negative_slope: float = 0.01, inplace: bool = False) -> Known:
    return Known(
        "leaky_relu", lambda s: F.leaky_relu(s, negative_slope), min(negative_slope, 1.0), max(negative_slope, 1.0)
    )


def prelu(weight: Number) -> Known:
    return bent(torch.ones_like(torch.as_tensor(weight)), weight, "prelu")


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Known:
    return leaky_relu((lower + upper) / 2)


def elu(alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0, inplace: bool = False) -> Known:
    if (scale, input_scale) != (1.0, 1.0):
        raise UnreadableError(UNBOUNDED)
    return Known("elu", lambda s: F.elu(s, alpha), min(0.0, 1.0, alpha), max(0.0, 1.0, alpha))


def exponential(right: Number, left: Number) -> Known:
    """Return s ↦ right·s where s > 0 and left·(exp(s) − 1) where not."""
    right, left = torch.as_tensor(right), torch.as_tensor(left)
    low, high = torch.minimum(right, left), torch.maximum(right, left)
    function = lambda s: torch.where(s > 0, right * s, left * torch.expm1(s.clamp(max=0)))  # noqa: E731
    return Known("elu", function, low.clamp(max=0), high.clamp(min=0))


def celu(alpha: float = 1.0, inplace: bool = False) -> Known:
    return Known("celu", lambda s: F.celu(s, alpha), 0.0, 1.0)


def gelu(approximate: str = "none") -> Known:
    bounds = GELU if approximate == "none" else GELU_TANH
    return Known("gelu", lambda s: F.gelu(s, approximate=approximate), *bounds)


def softplus(beta: float = 1, threshold: float = 20) -> Known:
    return Known("softplus", lambda s: F.softplus(s, beta, threshold), 0.0, 1.0)


def softshrink(lambd: float = 0.5) -> Known:
    return Known("softshrink", lambda s: F.softshrink(s, lambd), 0.0, 1.0)


def hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Known:
    return Known("hardtanh", lambda s: F.hardtanh(s, min_val, max_val), 0.0, 1.0)


def clamp(min: Number | None = None, max: Number | None = None) -> Known:
    if max is None and not torch.as_tensor(min).any():
        return Known("relu", *FIXED["relu"])
    return Known("clamp", lambda s: s.clamp(min, max), 0.0, 1.0)  # type: ignore[arg-type]


def clamp_max(max: Number) -> Known:
    return clamp(max=max)


def threshold(threshold: float, value: float, inplace: bool = False) -> Known:
    if threshold != value:
        raise UnreadableError(JUMPS)
    return clamp(min=value)


def hardshrink(lambd: float = 0.5) -> Known:
    if lambd != 0:
        raise UnreadableError(JUMPS)
    return Known("hardshrink", lambda s: s, 1.0, 1.0)


FIXED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "abs": (torch.abs, -1.0, 1.0),
    "absolute": (torch.abs, -1.0, 1.0),
    "atan": (torch.atan, 0.0, 1.0),
    "arctan": (torch.atan, 0.0, 1.0),
    "asinh": (torch.asinh, 0.0, 1.0),
    "arcsinh": (torch.asinh, 0.0, 1.0),
    "cos": (torch.cos, -1.0, 1.0),
    "erf": (torch.erf, 0.0, ERF_LARGEST),
    "hardsigmoid": (F.hardsigmoid, 0.0, 0.1666666667),
    "hardswish": (F.hardswish, -0.5, 1.5),
    "log_sigmoid": (F.logsigmoid, 0.0, 1.0),
    "logsigmoid": (F.logsigmoid, 0.0, 1.0),
    "mish": (F.mish, *MISH),
    "relu": (F.relu, 0.0, 1.0),
    "relu6": (F.relu6, 0.0, 1.0),
    "selu": (F.selu, 0.0, SELU_LARGEST),
    "sigmoid": (torch.sigmoid, 0.0, 0.25),
    "silu": (F.silu, *SILU),
    "sin": (torch.sin, -1.0, 1.0),
    "softsign": (F.softsign, 0.0, 1.0),
    "special_erf": (torch.erf, 0.0, ERF_LARGEST),
    "special_expit": (torch.sigmoid, 0.0, 0.25),
    "tanh": (torch.tanh, 0.0, 1.0),
    "tanhshrink": (F.tanhshrink, 0.0, 1.0),
}
WITH_SETTINGS: dict[str, Callable[..., Known]] = {
    "celu": celu, "clamp": clamp, "clamp_max": clamp_max, "clamp_min": clamp, "elu": elu, "fmax": clamp,
    "fmin": clamp_max, "gelu": gelu, "hardshrink": hardshrink, "hardtanh": hardtanh, "leaky_relu": leaky_relu,
    "max": clamp, "maximum": clamp, "min": clamp_max, "minimum": clamp_max, "prelu": prelu, "rrelu": rrelu,
    "softplus": softplus, "softshrink": softshrink, "threshold": threshold,
}  # fmt: skip
JUMPING = frozenset({
    "__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__", "bool", "byte", "ceil", "copysign", "eq", "fix",
    "floor", "floor_divide", "fmod", "frac", "ge", "greater", "greater_equal", "gt", "heaviside", "int", "isfinite",
    "isinf", "isnan", "le", "less", "less_equal", "logical_and", "logical_not", "logical_or", "long", "lt", "ne",
    "not_equal", "remainder", "round", "sgn", "sign", "signbit", "trunc", "nan_to_num", "__and__", "__or__",
    "__invert__", "bitwise_and", "bitwise_or", "bitwise_not",
})  # fmt: skip
COMPARISONS = frozenset({
    "__and__", "__eq__", "__ge__", "__gt__", "__invert__", "__le__", "__lt__", "__ne__", "__or__", "bitwise_and",
    "bitwise_not", "bitwise_or", "bool", "eq", "ge", "greater", "greater_equal", "gt", "le", "less", "less_equal",
    "logical_and", "logical_not", "logical_or", "lt", "ne", "not_equal",
})  # fmt: skip
# element-wise functions without bounded slopes, which may still be parts of one that has them
UNBOUNDED_FUNCTIONS = frozenset({
    "__pow__", "__rpow__", "__rtruediv__", "__rdiv__", "acos", "acosh", "addcdiv", "asin", "atan2", "atanh", "cosh",
    "erfc", "erfinv", "exp", "exp2", "expm1", "lgamma", "log", "log10", "log1p", "log2", "logaddexp", "logit", "pow",
    "reciprocal", "rsqrt", "sinc", "sinh", "sqrt", "square", "tan", "where", "hypot", "float_power", "xlogy",
    "special_ndtr", "ndtr",
})  # fmt: skip
UNARY = frozenset({*FIXED, *WITH_SETTINGS, *JUMPING, *UNBOUNDED_FUNCTIONS})

# that are not smooth, where an argument is zero or as large as another
BENT = frozenset({
    *COMPARISONS, "abs", "absolute", "celu", "clamp", "clamp_max", "clamp_min", "elu", "fmax", "fmin", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "max", "maximum", "min", "minimum", "prelu", "relu", "relu6",
    "rrelu", "selu", "softshrink", "softsign", "threshold",
})  # fmt: skip

# What an activation that somebody wrote out may be: c·φ(k·s) with one of these.
WRITTEN_OUT: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    **{name: FIXED[name] for name in (
        "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softsign", "log_sigmoid", "relu6", "tanhshrink", "selu",
    )},
    "softplus": (F.softplus, 0.0, 1.0),
    "gelu (tanh)": (partial(F.gelu, approximate="tanh"), *GELU_TANH),
}  # fmt: skip


def scaled(name: str, factor: Number, inner: Number) -> Known:
    """Return s ↦ factor·φ(inner·s)/inner, which has factor times the slopes of φ."""
    function, low, high = {"silu": FIXED["silu"], "gelu": (F.gelu, *GELU), **WRITTEN_OUT}[name]
    factor, inner = torch.as_tensor(factor), torch.as_tensor(inner)
    ends = factor * low, factor * high
    return Known(name, lambda s: factor * function(inner * s) / inner, torch.minimum(*ends), torch.maximum(*ends))
