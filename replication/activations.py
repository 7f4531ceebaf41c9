"""Element-wise activations: between which numbers all their difference quotients (φ(s₁) − φ(s₂))/(s₁ − s₂) lie.

An interval [α, β] holds for φ as a function of real numbers, whatever is rounded when torch evaluates it. By the mean
value theorem it is the range of the slopes, of all pieces where φ is not smooth. Ends that have no closed form are
constants rounded outwards in the tenth decimal. How each was found stands where it is used; the tests enclose the ends
in rational arithmetic (GELU) and interval arithmetic (its tanh form, SiLU, Mish).

Source: design of the package (element-wise maps in the equation s + Aφ(s) = c).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Number = float | Tensor

# Ends of slopes, rounded outwards. With Φ and ϕ of the normal distribution, GELU has the slope Φ(s) + sϕ(s) and the
# curvature ϕ(s)(2 − s²), which changes its sign at ±√2 alone: 1/2 + erf(1)/2 + 1/(e√π) and 1 less that.
GELU = (-0.1289041452, 1.1289041452)
GELU_TANH = (-0.1289930687, 1.1289930687)  # at ±1.4185; slopes at s and −s add up to 1
SILU = (-0.0998393202, 1.0998393202)  # σ(s)(1 + s(1 − σ(s))), at s·tanh(s/2) = 2; slopes at s and −s add up to 1
LIPSWISH = (-0.0907630183, 0.9998539274)  # those of SiLU, divided by 1.1
MISH = (-0.1125261224, 1.0884981613)  # at −2.2564 and 1.4906
ERF_STEEPEST = 1.1283791671  # 2/√π
SELU_STEEPEST = 1.7580993409  # 1.0507009873554805·1.6732632423543772, the slope where negative numbers begin


@dataclass(frozen=True, eq=False)
class Activation:
    """An element-wise function of real numbers and the interval of its difference quotients.

    Attributes:
        name: as torch has it.
        function: from tensors to tensors, element by element.
        lower: α, a number, or one for each channel (channels,) or for each number of a row (*shape).
        upper: β, likewise.
        kinks: where a piecewise linear function bends, in ascending order; None for others.
        slopes: of its pieces, one more than kinks; each like lower.
        departure: bound of |torch's function − this one|, where torch's own is not continuous.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    lower: Number
    upper: Number
    kinks: tuple[float, ...] | None = None
    slopes: tuple[Number, ...] | None = None
    departure: float = 0.0

    def __call__(self, s: Tensor) -> Tensor:
        """Return φ(s) for s of any shape, (batch, channels, …) where slopes differ by channel."""
        return self.function(s)

    def slope(self, s: Tensor) -> Tensor:
        """Return φ′(s), shaped like s; at a kink it is what torch takes for the derivative."""
        with torch.enable_grad():
            s = s.detach().requires_grad_()
            return torch.autograd.grad(self.function(s).sum(), s)[0]

    def bounds(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return α and β for every number of a row, both (*shape) in float64, from a shape (channels, …)."""
        ends = (torch.as_tensor(end, dtype=torch.float64) for end in (self.lower, self.upper))
        lower, upper = (
            (end.reshape(-1, *[1] * (len(shape) - 1)) if end.ndim == 1 else end).expand(shape) for end in ends
        )
        return lower, upper


def activation_of(source: object, *arguments: Any, **options: Any) -> Activation:
    """Return the record of an activation.

    Args:
        source: a module of torch.nn, a function or method of torch (in place or not), or the name of one.
        arguments, options: of a function, those after its input.

    Raises:
        ValueError: if it is no continuous element-wise function with bounded slopes that is known here.
        TypeError: if a function does not have these arguments.

    >>> activation_of(nn.LeakyReLU(0.25)).slopes
    (0.25, 1.0)
    >>> activation_of(F.gelu, approximate="tanh").upper
    1.1289930687
    """
    if isinstance(source, nn.Module):
        name, options = module_form(source)
    else:
        name = source if isinstance(source, str) else str(getattr(source, "__name__", source))
        name = name.split(".")[0].strip("_")  # of operators' overloads, methods in place and special methods
    name = ALIASES.get(name, name)
    if name not in KNOWN:
        raise ValueError(f"{name} is no element-wise activation that is known here; the known are {', '.join(KNOWN)}")
    options.pop("inplace", None)
    builder = KNOWN[name]
    try:
        inspect.signature(builder).bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(f"{name} is called in a way that is not known here: {error}") from error
    return builder(*arguments, **options)


def module_form(module: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the name of the function that a module of torch.nn applies, and its arguments.

    Raises:
        ValueError: if the module is of another class, even of one derived from them, which may compute something else.
    """
    if type(module) not in MODULES:
        raise ValueError(
            f"{type(module).__name__} is no activation of torch.nn that is known here; the known are "
            f"{', '.join(kind.__name__ for kind in MODULES)}"
        )
    name, parameters = MODULES[type(module)]
    return name, {parameter: getattr(module, parameter) for parameter in parameters}


def as_applied(slope: float) -> tuple[float, float]:
    """Return the ends of the slopes that a parameter may stand for: float32 layers round it, float64 layers do not."""
    single = float(torch.tensor(slope, dtype=torch.float32))
    return min(slope, single), max(slope, single)


def hull(*slopes: float) -> tuple[float, float]:
    """Return the smallest and the largest of some slopes, where parameters are taken as they may be applied."""
    ends = [end for slope in slopes for end in as_applied(slope)]
    return min(ends), max(ends)


def leaky_relu(negative_slope: float = 0.01) -> Activation:
    """as for s < 0, s from 0 on: slopes a and 1; a may be negative or above 1."""
    a = finite("negative_slope", negative_slope)
    return Activation("leaky_relu", lambda s: F.leaky_relu(s, a), *hull(a, 1.0), (0.0,), (a, 1.0))


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Activation:
    """leaky_relu with the mean slope, once it is not in training mode.

    Raises:
        ValueError: if it is.
    """
    if training:
        raise ValueError("rrelu draws random slopes in training mode; call module.eval() first")
    return leaky_relu((lower + upper) / 2)


def prelu(weight: Tensor) -> Activation:
    """aₖs for s < 0, s from 0 on: slopes aₖ and 1 in channel k, or one a for all."""
    weight = weight.detach()
    if not torch.isfinite(weight).all():
        raise ValueError("the slopes of prelu must be finite")
    a = weight.double() if weight.numel() > 1 else float(weight)
    lower, upper = (a.clamp(max=1), a.clamp(min=1)) if isinstance(a, Tensor) else (min(a, 1.0), max(a, 1.0))
    return Activation("prelu", lambda s: F.prelu(s, weight.to(s)), lower, upper, (0.0,), (a, 1.0))


def clamp(min: Number | None = None, max: Number | None = None) -> Activation:
    """The nearest number between two: slopes 0, 1, 0."""
    if min is None and max is None:
        raise ValueError("clamp needs min or max")
    low = -math.inf if min is None else finite("min", min)
    high = math.inf if max is None else finite("max", max)
    if low >= high:
        return Activation("clamp", lambda s: torch.full_like(s, high), 0.0, 0.0, (), (0.0,))
    kinks = tuple(end for end in (low, high) if math.isfinite(end))
    slopes = (0.0,) * (min is not None) + (1.0,) + (0.0,) * (max is not None)
    return Activation("clamp", lambda s: s.clamp(low, high), 0.0, 1.0, kinks, slopes)


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Activation:
    """clamp(s, min_val, max_val)."""
    return replace(clamp(min_val, max_val), name="hardtanh")


def relu6() -> Activation:
    """clamp(s, 0, 6)."""
    return replace(clamp(0.0, 6.0), name="relu6")


def clamp_min(min: Number) -> Activation:
    """max(s, min), also written torch.maximum(s, min)."""
    return clamp(min=min)


def clamp_max(max: Number) -> Activation:
    """min(s, max), also written torch.minimum(s, max)."""
    return clamp(max=max)


def maximum(other: Number) -> Activation:
    """max(s, other) for one number."""
    return clamp(min=other)


def minimum(other: Number) -> Activation:
    """min(s, other) for one number."""
    return clamp(max=other)


def threshold(threshold: float, value: float) -> Activation:
    """s above the threshold, `value` from there down: max(s, value) where both are the same.

    Raises:
        ValueError: if they are not, since the function jumps then.
    """
    if threshold != value:
        raise ValueError(
            f"threshold jumps from {value} to {threshold} at {threshold}, so its slopes have no bounds; make both one"
        )
    return clamp(min=threshold)


def hardshrink(lambd: float = 0.5) -> Activation:
    """s where |s| > λ, else 0, which jumps unless λ = 0.

    Raises:
        ValueError: if it does.
    """
    if lambd == 0:
        return replace(softshrink(0.0), name="hardshrink")
    raise ValueError(
        f"hardshrink jumps at -{lambd} and {lambd}, so its slopes have no bounds; softshrink is continuous"
    )


def softshrink(lambd: float = 0.5) -> Activation:
    """s − clamp(s, −λ, λ): slopes 1, 0, 1."""
    edge = finite("lambd", lambd)
    if edge < 0:
        raise ValueError(f"lambd of softshrink must not be negative, not {lambd}")
    return Activation("softshrink", lambda s: F.softshrink(s, edge), 0.0, 1.0, (-edge, edge), (1.0, 0.0, 1.0))


def elu(alpha: float = 1.0) -> Activation:
    """α(eˢ − 1) for s < 0, s from 0 on: slopes αeˢ between 0 and α, and 1; α may be negative or above 1."""
    a = finite("alpha", alpha)
    if a == 0:
        return leaky_relu(0.0)
    return Activation("elu", lambda s: F.elu(s, a), *hull(0.0, 1.0, a))


def celu(alpha: float = 1.0) -> Activation:
    """α(e^(s/α) − 1) for s < 0, s from 0 on: slopes e^(s/α) between 0 and 1, and 1.

    Not by torch's function, whose derivative takes 1/α in single precision (as of 2.14).

    Raises:
        ValueError: if α ≤ 0, where the slopes have no bound.
    """
    a = finite("alpha", alpha)
    if a <= 0:
        raise ValueError(f"the slopes of celu have no bound where alpha = {alpha} is not positive")
    return Activation("celu", lambda s: torch.where(s > 0, s, a * torch.expm1(s.clamp(max=0) / a)), 0.0, 1.0)


def gelu(approximate: str = "none") -> Activation:
    """sΦ(s), or s/2·(1 + tanh(√(2/π)(s + 0.044715s³)))."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
    ends = GELU if approximate == "none" else GELU_TANH
    return Activation("gelu", lambda s: F.gelu(s, approximate=approximate), *ends)


def lipswish(beta: float = 1.0) -> Activation:
    """sσ(βs)/1.1 for any β: with u = βs its slope is that of uσ(u) at u, divided by 1.1.

    Source: Chen, Behrmann, Duvenaud and Jacobsen, Residual Flows, NeurIPS 2019, section 3.3.
    """
    b = finite("beta", beta)
    return Activation("lipswish", lambda s: s * torch.sigmoid(b * s) / 1.1, *LIPSWISH)


def softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    """log(1 + e^(βs))/β: slope σ(βs), between 0 and 1.

    Where βs > threshold torch returns s, which is less by log(1 + e^(−βs))/β: its function falls by 2·10⁻⁹ there for
    β = 1 and the threshold of 20, so difference quotients of torch's own function across that place have no lower
    bound. The record is of log(1 + e^(βs))/β itself, from which torch's departs by log(1 + e^(−threshold))/|β| at most.
    """
    b, edge = finite("beta", beta), finite("threshold", threshold)
    if b == 0:
        raise ValueError("beta of softplus must not be 0")
    at_edge = float(torch.logaddexp(torch.tensor(-edge, dtype=torch.float64), torch.zeros((), dtype=torch.float64)))

    def smooth(s: Tensor) -> Tensor:
        return torch.logaddexp(b * s, torch.zeros_like(s)) / b

    return Activation("softplus", smooth, 0.0, 1.0, departure=at_edge * (1 + 1e-14) / abs(b))


def always(activation: Activation) -> Callable[[], Activation]:
    """Return the builder of an activation that takes no arguments."""
    return lambda: activation


def finite(name: str, number: Number) -> float:
    """Return a parameter as a number.

    Raises:
        ValueError: if it is not one finite number.
    """
    if isinstance(number, Tensor):
        if not number.numel() or (number != number.flatten()[0]).any():
            raise ValueError(f"{name} must be one number for all, not a tensor of different ones")
        number = float(number.flatten()[0])
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {number!r}")
    return float(number)


FIXED = (
    Activation("relu", torch.relu, 0.0, 1.0, (0.0,), (0.0, 1.0)),
    Activation("abs", torch.abs, -1.0, 1.0, (0.0,), (-1.0, 1.0)),
    # clamp(s/6 + 1/2, 0, 1); β is the next number above 1/6
    Activation("hardsigmoid", F.hardsigmoid, 0.0, math.nextafter(1 / 6, 1), (-3.0, 3.0), (0.0, 1 / 6, 0.0)),
    Activation("hardswish", F.hardswish, -0.5, 1.5),  # slope 0 below −3, (2s + 3)/6 up to 3, and 1 above
    Activation("selu", F.selu, 0.0, SELU_STEEPEST),  # λ·elu(α): slopes λαeˢ between 0 and λα, and λ = 1.05 < λα
    Activation("silu", F.silu, *SILU),  # sσ(s), also called Swish
    Activation("mish", F.mish, *MISH),  # s·tanh(log(1 + eˢ))
    Activation("logsigmoid", F.logsigmoid, 0.0, 1.0),  # −log(1 + e⁻ˢ): slope σ(−s)
    Activation("sigmoid", torch.sigmoid, 0.0, 0.25),  # slope σ(s)(1 − σ(s)), largest at 0
    Activation("tanh", torch.tanh, 0.0, 1.0),  # slope 1 − tanh(s)²
    Activation("tanhshrink", F.tanhshrink, 0.0, 1.0),  # s − tanh(s): slope tanh(s)²
    Activation("softsign", F.softsign, 0.0, 1.0),  # s/(1 + |s|): slope 1/(1 + |s|)²
    Activation("sin", torch.sin, -1.0, 1.0),  # slope cos(s)
    Activation("cos", torch.cos, -1.0, 1.0),  # slope −sin(s)
    Activation("atan", torch.atan, 0.0, 1.0),  # slope 1/(1 + s²)
    Activation("asinh", torch.asinh, 0.0, 1.0),  # slope 1/√(1 + s²)
    Activation("erf", torch.erf, 0.0, ERF_STEEPEST),  # slope 2/√π·exp(−s²), largest at 0
)
KNOWN: dict[str, Callable[..., Activation]] = {
    **{activation.name: always(activation) for activation in FIXED},
    "leaky_relu": leaky_relu, "rrelu": rrelu, "prelu": prelu, "clamp": clamp, "clamp_min": clamp_min,
    "clamp_max": clamp_max, "maximum": maximum, "minimum": minimum, "hardtanh": hardtanh, "relu6": relu6,
    "threshold": threshold, "hardshrink": hardshrink, "softshrink": softshrink, "elu": elu, "celu": celu, "gelu": gelu,
    "lipswish": lipswish, "softplus": softplus,
}  # fmt: skip
ALIASES = {
    "log_sigmoid": "logsigmoid", "absolute": "abs", "clip": "clamp", "special_expit": "sigmoid", "swish": "silu",
    "arctan": "atan", "arcsinh": "asinh", "special_erf": "erf",
}  # fmt: skip
MODULES: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()), nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.RReLU: ("rrelu", ("lower", "upper", "training")), nn.PReLU: ("prelu", ("weight",)),
    nn.Hardtanh: ("hardtanh", ("min_val", "max_val")), nn.ReLU6: ("relu6", ()),
    nn.Threshold: ("threshold", ("threshold", "value")), nn.Hardshrink: ("hardshrink", ("lambd",)),
    nn.Softshrink: ("softshrink", ("lambd",)), nn.Hardsigmoid: ("hardsigmoid", ()), nn.Hardswish: ("hardswish", ()),
    nn.ELU: ("elu", ("alpha",)), nn.CELU: ("celu", ("alpha",)), nn.SELU: ("selu", ()),
    nn.GELU: ("gelu", ("approximate",)), nn.SiLU: ("silu", ()), nn.Mish: ("mish", ()),
    nn.Softplus: ("softplus", ("beta", "threshold")), nn.LogSigmoid: ("logsigmoid", ()), nn.Sigmoid: ("sigmoid", ()),
    nn.Tanh: ("tanh", ()), nn.Tanhshrink: ("tanhshrink", ()), nn.Softsign: ("softsign", ()),
}  # fmt: skip
