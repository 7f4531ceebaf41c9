"""Activations as they are met in a module: called with torch's own arguments, for each number, or written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.activations import ALIASES, KNOWN, Activation, activation_of
from replication.reading.guest import UnreadableError

Number = float | Tensor
JUMPS = "it jumps, so no difference quotient bounds it"
UNBOUNDED = "its slopes are not bounded by any numbers known here"
OF_TWO = {"max": "maximum", "fmax": "maximum", "min": "minimum", "fmin": "minimum"}  # with a constant


def known_activation(name: str, arguments: tuple[object, ...], options: dict[str, object]) -> Activation:
    """Return the activation that a function of torch is with these arguments after its first.

    Raises:
        UnreadableError: if it jumps, or has no known bounds.
    """
    name = OF_TWO.get(name, name)
    if name in JUMPING:
        raise UnreadableError(JUMPS)
    if name not in KNOWN and name not in ALIASES:
        raise UnreadableError(UNBOUNDED)
    try:
        if any(map(differs, (*arguments, *options.values()))) or name == "prelu":
            return BY_NUMBER[name](*arguments, **options)
        activation = activation_of(name, *arguments, **options)
    except (TypeError, KeyError) as error:
        raise UnreadableError("it is called in a way that is not known here") from error
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    if not activation.departure:
        return activation
    own = getattr(F, name)  # which the module computes
    return replace(activation, function=lambda s: own(s, *arguments, **options))


def differs(argument: object) -> bool:
    """Return whether an argument is a tensor of different numbers."""
    return isinstance(argument, Tensor) and argument.numel() > 1 and bool((argument != argument.flatten()[0]).any())


def bent(right: Number, left: Number, name: str = "leaky_relu") -> Activation:
    """Return s ↦ right·s where s > 0 and left·s where not."""
    right, left = torch.as_tensor(right), torch.as_tensor(left)
    if bool((right == 1).all()) and not left.any():
        return activation_of("relu")
    low, high = torch.minimum(right, left), torch.maximum(right, left)
    return Activation(name, lambda s: torch.where(s > 0, right * s, left * s), low, high, (0.0,), (left, right))


def prelu(weight: Number) -> Activation:
    """Return the bent line of slopes 1 and weight."""
    return bent(torch.ones_like(torch.as_tensor(weight)), weight, "prelu")


def clamp(min: Number | None = None, max: Number | None = None) -> Activation:
    """Return s ↦ clamp(s, min, max), with ends for each number."""
    low, high = (None if end is None else torch.as_tensor(end) for end in (min, max))
    return Activation("clamp", lambda s: s.clamp(low, high), 0.0, 1.0)


def clamp_max(max: Number) -> Activation:
    """Return s ↦ min(s, max)."""
    return clamp(max=max)


def exponential(right: Number, left: Number) -> Activation:
    """Return s ↦ right·s where s > 0 and left·(exp(s) − 1) where not."""
    right, left = torch.as_tensor(right), torch.as_tensor(left)
    low, high = torch.minimum(right, left), torch.maximum(right, left)
    function = lambda s: torch.where(s > 0, right * s, left * torch.expm1(s.clamp(max=0)))  # noqa: E731
    return Activation("elu", function, low.clamp(max=0), high.clamp(min=0))


BY_NUMBER: dict[str, Callable[..., Activation]] = {
    "prelu": prelu, "clamp": clamp, "clamp_min": clamp, "maximum": clamp, "clamp_max": clamp_max, "minimum": clamp_max,
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
UNARY = frozenset({*KNOWN, *ALIASES, *OF_TWO, *JUMPING, *UNBOUNDED_FUNCTIONS})

# that are not smooth, where an argument is zero or as large as another
BENT = frozenset({
    *COMPARISONS, "abs", "absolute", "celu", "clamp", "clamp_max", "clamp_min", "elu", "fmax", "fmin", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "max", "maximum", "min", "minimum", "prelu", "relu", "relu6",
    "rrelu", "selu", "softshrink", "softsign", "threshold",
})  # fmt: skip

# What an activation that somebody wrote out may be: c·φ(k·s)/k with one of these.
WRITTEN_OUT: dict[str, Activation] = {
    **{name: activation_of(name) for name in (
        "mish", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softsign", "logsigmoid", "relu6", "tanhshrink", "selu",
    )},
    "softplus": known_activation("softplus", (), {}),
    "gelu (tanh)": activation_of("gelu", approximate="tanh"),
}  # fmt: skip
SIGMOID_LIKE = {"silu": activation_of("silu"), "gelu": activation_of("gelu")}  # s·F(s) with F(s) + F(−s) = 1


def scaled(name: str, factor: Number, inner: Number) -> Activation:
    """Return s ↦ factor·φ(inner·s)/inner, which has factor times the slopes of φ."""
    activation = {**SIGMOID_LIKE, **WRITTEN_OUT}[name]
    factor, inner = torch.as_tensor(factor), torch.as_tensor(inner)
    ends = factor * activation.lower, factor * activation.upper
    return Activation(
        name,
        lambda s: factor * activation(inner * s) / inner,
        torch.minimum(*ends),
        torch.maximum(*ends),
        departure=float((factor / inner).abs().max()) * activation.departure,
    )
