"""Modules as people write them that are no feed-forward maps of affine parts and activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from readable_modules import (
    IMAGES,
    ROWS,
    TOKENS,
    Residual,
    Written,
    conv,
    formula,
    images,
    lines,
    mlp,
    quietly,
    written,
)
from torch import Tensor, nn


class StraightThrough(torch.autograd.Function):
    """Rounds, and has the gradient of the identity."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: object, output: object) -> None:
        pass

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient


class Attention(nn.Module):
    """One head over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return x + torch.softmax(q @ k.transpose(1, 2), -1) @ v


class ScaledDotProduct(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.scaled_dot_product_attention(*self.qkv(x).chunk(3, dim=-1))


class SqueezeExcite(nn.Module):
    """Channels gated by what is in the image."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(4, 2, 1), nn.ReLU(), conv(2, 4, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.gate(x)


class Gated(nn.Module):
    """Gated linear units as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class AffineCoupling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        scale, shift = self.net(a).chunk(2, dim=1)
        return torch.cat([a, b * torch.exp(scale) + shift], 1)


class Deciding(nn.Module):
    def __init__(self, by: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(x) if self.by(x) else 2 * x


class Counting(nn.Module):
    """Its output depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class OutOfTorch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(abs(x.detach().numpy()))


class Scripted(nn.Module):
    """A branch compiled by TorchScript, which torch's functions do not see."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def scripted() -> nn.Module:
    return quietly(lambda: Scripted(torch.jit.trace(nn.Sequential(*mlp(6, 8, 6)), torch.zeros(2, 6))))


class HalfPrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.a(x)).to(torch.bfloat16)
        return x + self.b(out.to(x.dtype))


def training() -> nn.Module:
    return Written(lambda m, x: x + F.batch_norm(m.a(x), None, None, training=True), a=nn.Linear(6, 6))


def autocast(m: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        out = m.a(x)
    return x + torch.relu(out.to(x.dtype))


def quadratic(m: nn.Module, x: Tensor) -> Tensor:
    return x + 0.1 * m.a(x) ** 2


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "layer norm": (
        lambda: Residual(nn.LayerNorm(6), *mlp(6, 8, 6)),
        ROWS,
        r"layer_norm in branch\.0 \(LayerNorm\), line \d+ of Residual\.forward.*without a certificate",
    ),
    "group norm": (images(conv, lambda: nn.GroupNorm(2, 4), nn.ReLU, conv), IMAGES, r"group_norm in branch\.1"),
    "instance norm": (
        images(conv, lambda: nn.InstanceNorm2d(4), nn.ReLU, conv),
        IMAGES,
        "statistics of that row's own",
    ),
    "RMS norm": (lambda: Residual(nn.RMSNorm(6), *mlp(6, 8, 6)), ROWS, r"rms_norm in branch\.0"),
    "local response norm": (
        images(conv, lambda: nn.LocalResponseNorm(2), conv),
        IMAGES,
        "local_response_norm in branch",
    ),
    "statistics of the batch": (training, ROWS, "batch_norm.*statistics of the batch"),
    "centred over the batch": (
        formula(lambda m, x: x + m.a(x - x.mean(0)), a=lambda: nn.Linear(6, 6)),
        ROWS,
        "other rows",
    ),
    "rolled over the batch": (
        formula(lambda m, x: x + m.a(torch.roll(torch.relu(x), 1, 0)), a=lambda: nn.Linear(6, 6)),
        ROWS,
        "other rows",
    ),
    "dropout in training": (
        formula(lambda m, x: x + F.dropout(m.a(x), 0.5), a=lambda: nn.Linear(6, 6)),
        ROWS,
        r"dropout in Written.*eval",
    ),
    "noise": (formula(lambda m, x: x + torch.randn_like(x)), ROWS, "random numbers"),
    "max pooling": (images(conv, lambda: nn.MaxPool2d(3, 1, 1), conv), IMAGES, r"max_pool2d.*picks numbers"),
    "attention": (Attention, TOKENS, "stands in the way"),
    "scaled dot product": (ScaledDotProduct, TOKENS, "scaled_dot_product_attention.*depend on the input"),
    "multi-head attention": (
        formula(lambda m, x: x + m.a(x, x, x)[0], a=lambda: nn.MultiheadAttention(4, 2, batch_first=True)),
        TOKENS,
        "attention",
    ),
    "squeeze and excite": (
        SqueezeExcite,
        IMAGES,
        r"mul in SqueezeExcite, line \d+ of SqueezeExcite\.forward.*multiplies",
    ),
    "gated linear units": (Gated, ROWS, "mul in Gated.*multiplies"),
    "GLU": (lambda: Residual(nn.Linear(6, 12), nn.GLU()), ROWS, "glu in branch.1"),
    "affine coupling": (AffineCoupling, ROWS, "mul in AffineCoupling|exp in AffineCoupling"),
    "a quadratic layer": (
        formula(quadratic, a=lambda: nn.Linear(6, 6)),
        ROWS,
        "pow in Written, line .* of quadratic.*not bounded",
    ),
    "bilinear layer": (formula(lambda m, x: x + m.a(x, x), a=lambda: nn.Bilinear(6, 6, 6)), ROWS, "bilinear in a"),
    "squared ReLU": (written(lambda s: torch.relu(s) ** 2), ROWS, "pow.*not bounded"),
    "exponential": (written(torch.exp), ROWS, "exp.*not bounded"),
    "softmax": (lines(lambda: nn.Softmax(1)), ROWS, "softmax in branch.1"),
    "maxout": (
        formula(lambda m, x: x + m.a(x).unflatten(1, (6, 2)).amax(-1), a=lambda: nn.Linear(6, 12)),
        ROWS,
        "amax.*picks",
    ),
    "sorting": (formula(lambda m, x: x + m.a(x).sort(1).values, a=lambda: nn.Linear(6, 6)), ROWS, "sort.*picks"),
    "max of two layers": (
        formula(lambda m, x: torch.max(m.a(x), m.b(x)), a=lambda: nn.Linear(6, 6), b=lambda: nn.Linear(6, 6)),
        ROWS,
        "max in Written",
    ),
    "signs": (written(torch.sign), ROWS, "sign.*jumps"),
    "rounding": (written(torch.round), ROWS, "round.*jumps"),
    "rounding, straight through": (written(StraightThrough.apply), ROWS, "round.*jumps"),
    "hard shrinkage": (lines(nn.Hardshrink), ROWS, "hardshrink.*jumps"),
    "a threshold that jumps": (lines(lambda: nn.Threshold(0.1, 0.0)), ROWS, "threshold.*jumps"),
    "a step": (written(lambda s: (s > 0).to(s.dtype)), ROWS, "jumps"),
    "a choice between rows": (
        formula(lambda m, x: torch.where(x[:, :1] > 0, x, 2 * x)),
        ROWS,
        "where in Written.*chooses",
    ),
    "a decision": (lambda: Deciding(lambda x: x.sum() > 0), ROWS, "__bool__ in Deciding.*decide"),
    "a decision by a number": (lambda: Deciding(lambda x: x.max().item() > 1), ROWS, "item in Deciding"),
    "a decision by all": (lambda: Deciding(lambda x: torch.allclose(x, x.relu())), ROWS, "allclose in Deciding"),
    "out of torch": (OutOfTorch, ROWS, "numpy in OutOfTorch.*out of torch"),
    "TorchScript as a whole": (
        lambda: quietly(lambda: torch.jit.script(nn.Sequential(*mlp(6, 8, 6)))),
        ROWS,
        "the module is TorchScript",
    ),
    "a layer of torch": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        TOKENS,
        r"in self_attn \(MultiheadAttention\) stands in the way",
    ),
    "gated halves": (
        formula(lambda m, x: x + F.glu(m.a(x)), a=lambda: nn.Linear(6, 12)),
        ROWS,
        r"glu in Written, line \d+.*multiplies values",
    ),
    "squares of a ReLU": (written(lambda s: F.relu(s) ** 2), ROWS, "pow in.*not bounded"),
    "TorchScript": (scripted, ROWS, "not affine as evaluated"),
    "a counter": (Counting, ROWS, "changes its own state"),
    "half precision on the way": (HalfPrecision, ROWS, "bfloat16"),
    "complex numbers": (formula(lambda m, x: x + torch.fft.fft(x).abs()), ROWS, "complex"),
    "another shape": (lambda: nn.Linear(6, 5), ROWS, "keep the shape"),
    "strides": (lambda: conv(4, 4, stride=2), IMAGES, "keep the shape"),
    "a pair": (formula(lambda m, x: (x, x)), ROWS, "returns a tuple"),
    "a constant": (formula(lambda m, x: torch.ones(5, 6, dtype=x.dtype)), ROWS, "does not come from its input"),
    "one number of rows": (formula(lambda m, x: x + m.a(x).view(5, 6), a=lambda: nn.Linear(6, 6)), ROWS, "fails on"),
    "a recurrent layer": (
        formula(lambda m, x: x + m.a(x)[0], a=lambda: nn.LSTM(4, 4, batch_first=True)),
        TOKENS,
        "lstm in a",
    ),
    "divided by its norm": (formula(lambda m, x: x / (1 + x.norm(dim=1, keepdim=True))), ROWS, "norm in Written"),
    "normalised": (
        formula(lambda m, x: x + F.normalize(m.a(x)), a=lambda: nn.Linear(6, 6)),
        ROWS,
        "normalize in Written",
    ),
}
