"""Modules as people write them that are feed-forward maps of affine parts and activations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

ROWS, TOKENS, SIGNALS, IMAGES, VOLUMES = (5, 6), (4, 3, 4), (4, 2, 8), (3, 4, 2, 4), (3, 2, 3, 4, 3)


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Written(nn.Module):
    """A module whose forward pass is a function of itself and its input."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def used(module: nn.Module) -> nn.Module:
    """The module with statistics and scales of normalisation as after a training, in evaluation mode."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)
    return module.eval()


def quietly(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older hooks are deprecated
        return make()


def conv(a: int = 4, b: int = 4, size: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(a, b, size, **({"padding": size // 2} | options))


def set_by_mask(s: Tensor) -> Tensor:
    s[s < 0] = 0
    return s


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), act()]
    return layers[:-1]


class PreActivation(nn.Module):
    """He et al., identity mappings: BN, ReLU in place, convolution, twice."""

    def __init__(self, inplace: bool = True, scale: float | None = None) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(5)
        self.conv1, self.conv2 = conv(4, 5, bias=False), conv(5, 4, bias=False)
        self.relu = nn.ReLU(inplace=inplace)
        self.gain = None if scale is None else nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return identity + out if self.gain is None else identity + self.gain * out


class BasicBlock(nn.Module):
    """torchvision's: convolution, BN, ReLU, convolution, BN, `out += identity`, ReLU."""

    def __init__(self, last: bool = True) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.conv2, self.bn2, self.last = conv(bias=False), nn.BatchNorm2d(4), last

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out) if self.last else out


class Bottleneck(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.reduce, self.middle, self.grow = conv(4, 2, 1), conv(2, 2, **options), conv(2, 4, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (2, 2, 4))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norms[0](self.reduce(x)))
        out = F.relu(self.norms[1](self.middle(out)))
        return x + self.norms[2](self.grow(out))


class BranchAndShortcut(nn.Module):
    """A shortcut by a convolution and its BN."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(), nn.BatchNorm2d(4))
        self.shortcut = nn.Sequential(conv(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


class FixUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.biases = nn.ParameterList(nn.Parameter(torch.randn(1)) for _ in range(4))
        self.scale = nn.Parameter(torch.randn(1))
        self.conv1, self.conv2 = conv(bias=False), conv(bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.conv1(x + self.biases[0]) + self.biases[1])
        return self.conv2(out + self.biases[2]) * self.scale + self.biases[3] + x


class Mixer(nn.Module):
    """MLP-Mixer without layer norms: over tokens, then over channels."""

    def __init__(self, act: Callable[[], nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.tokens, self.channels = nn.Sequential(*mlp(3, 5, 3, act=act)), nn.Sequential(*mlp(4, 7, 4, act=act))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return x + self.channels(x)


class LipSwish(nn.Module):
    """As in residual flows."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.sigmoid_(x * F.softplus(self.beta))).div_(1.1)


class SwishWithGradients(torch.autograd.Function):
    """As in EfficientNet, where it saves memory."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        return gradient * (sigmoid * (1 + x * (1 - sigmoid)))


class NewGELU(nn.Module):
    """As in GPT-2."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class ErfGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Mish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(F.softplus(x))


class HardSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * F.relu6(x + 3.0, inplace=True) / 6.0


class Function(nn.Module):
    """An activation by its formula."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def written(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """An MLP with an activation by its formula."""
    return lambda: Residual(*mlp(6, 8, 6, act=lambda: Function(function)))


class Loop(nn.Module):
    """Layers of a ModuleList, with a skip around every second one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            out = torch.tanh(layer(x))
            x = x + out if i % 2 else x - 0.1 * layer(out)
        return x


class Dense(nn.Module):
    """DenseNet's concatenations, brought back by a 1×1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(4 + 2 * i, 2) for i in range(3))
        self.back = conv(10, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(torch.cat(features, 1)), 0.1))
        return x + 0.2 * self.back(torch.cat(features, dim=1))


class Coupling(nn.Module):
    """Additive coupling of halves, and the halves exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*mlp(3, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b + self.net(a), a], dim=1)


class Scattered(nn.Module):
    """Halves written into an empty tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[:, ::2] = x[:, ::2]
        out[:, 1::2] = x[:, 1::2] + F.elu(self.net(x[:, ::2]))
        return out


class Wavelet(nn.Module):
    """Pixels to channels, a block there, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(conv(16, 8), nn.ReLU(), conv(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.block(F.pixel_unshuffle(x, 2)), 2)


class UNet(nn.Module):
    """Down by average pooling, up by interpolation, with a skip."""

    def __init__(self, mode: str = "nearest") -> None:
        super().__init__()
        self.first, self.low, self.last, self.mode = conv(), conv(), conv(8, 4), mode

    def forward(self, x: Tensor) -> Tensor:
        high = F.relu(self.first(x))
        low = F.relu(self.low(F.avg_pool2d(high, 2)))
        up = F.interpolate(low, size=x.shape[2:], mode=self.mode)
        return x + self.last(torch.cat([high, up], 1))


class Flat(nn.Module):
    """Tokens in one long batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*mlp(4, 9, 4, act=nn.SiLU))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        return x + self.net(x.reshape(batch * tokens, width)).view(batch, tokens, -1)


class Shuffle(nn.Module):
    """Channels shuffled by a view, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(4, 4, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        out = F.relu(self.conv(x)).view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)
        return x + 0.3 * out


class RawParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W1, self.b1 = nn.Parameter(torch.randn(6, 9)), nn.Parameter(torch.randn(9))
        self.W2 = nn.Parameter(torch.randn(9, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.addmm(self.b1, x, self.W1).clamp(min=0.0) @ self.W2 / 3


class Halving(nn.Module):
    """Tokens first, as recurrent layers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(1, 0, 2)
        return (y + torch.relu(self.net(y))).permute(1, 0, 2)


def hooked() -> nn.Module:
    module = Residual(*mlp(6, 8, 6))
    module.branch[0].register_forward_hook(lambda layer, inputs, output: output * 0.5)
    return module


def tied() -> nn.Module:
    module = Residual(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    module.branch[2].weight = module.branch[0].weight
    return module


def column_by_column() -> nn.Module:
    """Each number by the one before it, as autoregressive networks do."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        columns = [x[:, 0]]
        for i in range(1, 6):
            columns.append(x[:, i] + m.weight[i] * torch.tanh(columns[-1]))
        return torch.stack(columns, 1)

    return Written(forward, weight=torch.randn(6))


def squeeze_free(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True).expand_as(x)


def images(*branch: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Residual(*(make() for make in branch))


def lines(act: Callable[[], nn.Module], *sizes: int) -> Callable[[], nn.Module]:
    return lambda: Residual(*mlp(*(sizes or (6, 8, 6)), act=act))


def formula(forward: Callable[[nn.Module, Tensor], Tensor], **parts: Callable[[], nn.Module | Tensor]) -> Callable:
    return lambda: Written(forward, **{name: make() for name, make in parts.items()})


class ConvNext(nn.Module):
    """Depthwise, then linear layers of channels, with a learnt scale; without its layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.grow, self.shrink = conv(4, 4, 5, groups=4), nn.Linear(4, 9), nn.Linear(9, 4)
        self.gamma = nn.Parameter(0.3 * torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.shrink(F.gelu(self.grow(self.depthwise(x).permute(0, 2, 3, 1)))) * self.gamma
        return x + out.permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth, of which nothing is left in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rate = conv(), 0.2

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, "images are needed"
        out = torch.tanh(self.conv(x))
        if self.rate > 0.0 and self.training:
            out = out * (torch.rand(len(x), 1, 1, 1) > self.rate) / (1 - self.rate)
        return x + out


class Standardised(nn.Conv2d):
    """Weight standardisation."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Skips(nn.Module):
    """Skips of several depths."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.layers[0](x))
        b = F.relu(self.layers[1](a) + x)
        return torch.add(x, a + b + F.relu(self.layers[2](b) + a), alpha=0.2)


def before(module: nn.Module) -> nn.Module:
    module.branch[0].register_forward_pre_hook(lambda layer, inputs: (inputs[0] * 0.5,))
    return module


READ: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    # residual networks
    "pre-activation block": (PreActivation, IMAGES),
    "pre-activation block, not in place": (lambda: PreActivation(False), IMAGES),
    "ReZero": (lambda: PreActivation(scale=0.1), IMAGES),
    "SkipInit at zero": (lambda: PreActivation(scale=0.0), IMAGES),
    "basic block": (lambda: BasicBlock(False), IMAGES),
    "basic block with its last ReLU": (BasicBlock, IMAGES),
    "bottleneck": (Bottleneck, IMAGES),
    "dilated bottleneck": (lambda: Bottleneck(dilation=2, padding=2), IMAGES),
    "grouped bottleneck": (lambda: Bottleneck(groups=2), IMAGES),
    "convolution on the shortcut": (BranchAndShortcut, IMAGES),
    "FixUp": (FixUp, IMAGES),
    "a stage of blocks": (lambda: nn.Sequential(PreActivation(), PreActivation(), BasicBlock(False)), IMAGES),
    "blocks within blocks": (lambda: Residual(PreActivation(), Residual(conv(), nn.ELU(), conv())), IMAGES),
    "first ReLU in place on the input": (images(lambda: nn.ReLU(inplace=True), conv), IMAGES),
    "super-resolution block": (formula(lambda m, x: x + m.b(F.relu(m.a(x))) * 0.1, a=conv, b=conv), IMAGES),
    "DenseNet": (Dense, IMAGES),
    "U-Net": (UNet, IMAGES),
    "U-Net, bilinear": (lambda: UNet("bilinear"), IMAGES),
    "pixels to channels": (Wavelet, IMAGES),
    "channels shuffled": (Shuffle, IMAGES),
    "ConvNeXt": (ConvNext, IMAGES),
    "stochastic depth": (DropPath, IMAGES),
    "weight standardisation": (
        images(lambda: Standardised(4, 4, 3, padding=1), nn.ReLU, lambda: Standardised(4, 4, 3, padding=1)),
        IMAGES,
    ),
    "skips of several depths": (Skips, ROWS),
    # convolutions
    "transposed, of stride 1": (
        images(lambda: nn.ConvTranspose2d(4, 5, 3, padding=1), nn.ReLU, lambda: nn.ConvTranspose2d(5, 4, 3, padding=1)),
        IMAGES,
    ),
    "kernels without layers": (
        formula(
            lambda m, x: x + F.conv2d(F.relu(F.conv2d(x, m.w, padding="same")), m.w.transpose(0, 1), padding=1),
            w=lambda: torch.randn(5, 4, 3, 3) / 5,
        ),
        IMAGES,
    ),
    "patches": (
        formula(lambda m, x: x + F.fold(torch.tanh(F.unfold(x, 2, stride=2)), x.shape[-2:], 2, stride=2)),
        IMAGES,
    ),
    "padded with a constant and with its border": (
        formula(
            lambda m, x: x + m.a(F.pad(m.b(F.pad(x, (1, 1, 1, 1), mode="replicate")).relu(), (1, 1, 1, 1), value=0.5)),
            a=lambda: conv(padding=0),
            b=lambda: conv(padding=0),
        ),
        IMAGES,
    ),
    "circular by a layer": (lambda: Residual(nn.CircularPad2d(1), conv(padding=0, groups=4), nn.ReLU()), IMAGES),
    "grouped and dilated signals": (
        images(
            lambda: nn.Conv1d(2, 4, 3, padding=2, dilation=2, groups=2),
            nn.Tanh,
            lambda: nn.Conv1d(4, 2, 3, padding="same", padding_mode="reflect"),
        ),
        SIGNALS,
    ),
    "circular volumes": (
        images(lambda: nn.Conv3d(2, 2, 3, padding=1, padding_mode="circular"), nn.ReLU, lambda: nn.Conv3d(2, 2, 1)),
        VOLUMES,
    ),
    "instance norm of signals": (
        images(
            lambda: nn.Conv1d(2, 3, 3, padding=1),
            lambda: nn.InstanceNorm1d(3, track_running_stats=True),
            nn.ReLU,
            lambda: nn.Conv1d(3, 2, 1),
        ),
        SIGNALS,
    ),
    "synchronised normalisation": (images(conv, lambda: nn.SyncBatchNorm(4), nn.ReLU, conv), IMAGES),
    "alpha dropout": (lambda: Residual(nn.Linear(6, 8), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(8, 6)), ROWS),
    "depthwise separable": (images(lambda: conv(groups=4), nn.ReLU6, lambda: conv(4, 4, 1)), IMAGES),
    "inverted residual": (
        images(lambda: conv(4, 8, 1), nn.Hardswish, lambda: conv(8, 8, groups=8), nn.Hardswish, lambda: conv(8, 4, 1)),
        IMAGES,
    ),
    "circular": (images(lambda: conv(padding_mode="circular"), nn.ReLU, conv), IMAGES),
    "reflected": (images(lambda: conv(padding_mode="reflect"), nn.ReLU, conv), IMAGES),
    "replicated": (images(lambda: conv(padding_mode="replicate"), nn.ReLU, conv), IMAGES),
    "even kernels, same": (
        images(lambda: conv(4, 4, 2, padding="same"), nn.ReLU, lambda: conv(4, 4, 4, padding="same")),
        IMAGES,
    ),
    "even kernels, padded by hand": (
        images(
            lambda: nn.ZeroPad2d((1, 0, 1, 0)),
            lambda: conv(4, 3, 2, padding=0),
            nn.ReLU,
            lambda: nn.ReflectionPad2d((0, 1, 0, 1)),
            lambda: conv(3, 4, 2, padding=0),
        ),
        IMAGES,
    ),
    "strides and transposed": (
        images(lambda: conv(4, 6, 2, stride=2, padding=0), nn.ReLU, lambda: nn.ConvTranspose2d(6, 4, 2, stride=2)),
        IMAGES,
    ),
    "asymmetric kernels": (
        images(
            lambda: nn.Conv2d(4, 4, (1, 3), padding=(0, 1)), nn.CELU, lambda: nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
        ),
        IMAGES,
    ),
    "a causal signal": (
        formula(
            lambda m, x: x + m.b(F.pad(torch.relu(m.a(F.pad(x, (2, 0)))), (4, 0))),
            a=lambda: nn.Conv1d(2, 3, 3),
            b=lambda: nn.Conv1d(3, 2, 3, dilation=2),
        ),
        SIGNALS,
    ),
    "signals": (
        images(
            lambda: nn.Conv1d(2, 3, 3, padding=1),
            lambda: nn.BatchNorm1d(3),
            nn.ReLU,
            lambda: nn.Conv1d(3, 2, 3, padding=1),
        ),
        SIGNALS,
    ),
    "volumes": (
        images(lambda: nn.Conv3d(2, 3, 3, padding=1), lambda: nn.BatchNorm3d(3), nn.ReLU, lambda: nn.Conv3d(3, 2, 1)),
        VOLUMES,
    ),
    "instance norm of running statistics": (
        images(conv, lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.ReLU, conv),
        IMAGES,
    ),
    "dropout in evaluation": (
        images(conv, nn.ReLU, lambda: nn.Dropout2d(0.3), conv, lambda: nn.Dropout(0.5, True)),
        IMAGES,
    ),
    "average pooling over the image": (formula(lambda m, x: x + squeeze_free(torch.tanh(m.a(x))), a=conv), IMAGES),
    "an affine layer of channels": (
        formula(
            lambda m, x: x * m.scale.exp() + m.shift + F.silu(m.a(x)),
            a=conv,
            scale=lambda: torch.randn(4, 1, 1),
            shift=lambda: torch.randn(1, 4, 1, 1),
        ),
        IMAGES,
    ),
    # activations
    "ELU, three layers": (lines(nn.ELU, 6, 8, 8, 6), ROWS),
    "tanh": (lines(nn.Tanh), ROWS),
    "sigmoid": (lines(nn.Sigmoid), ROWS),
    "softplus": (lines(lambda: nn.Softplus(beta=2)), ROWS),
    "LipSwish": (lines(LipSwish, 6, 8, 8, 6), ROWS),
    "GELU": (lines(nn.GELU), ROWS),
    "GELU by tanh": (lines(lambda: nn.GELU("tanh")), ROWS),
    "GELU as in GPT-2": (lines(NewGELU), ROWS),
    "GELU by erf": (lines(ErfGELU), ROWS),
    "GELU by a sigmoid": (lines(QuickGELU), ROWS),
    "SiLU with gradients of its own": (written(lambda s: SwishWithGradients.apply(s)), ROWS),
    "Mish": (lines(nn.Mish), ROWS),
    "Mish by its formula": (lines(Mish), ROWS),
    "SiLU by its formula": (written(lambda s: s * torch.sigmoid(s)), ROWS),
    "SiLU by its formula, in place": (written(lambda s: s.mul_(s.sigmoid())), ROWS),
    "hardswish by its formula": (lines(HardSwish), ROWS),
    "SELU": (lines(nn.SELU), ROWS),
    "PReLU of one": (lines(nn.PReLU), ROWS),
    "PReLU of channels": (images(conv, lambda: nn.PReLU(4, init=0.3), conv), IMAGES),
    "PReLU of channels of tokens": (
        formula(lambda m, x: x + m.p(m.a(x).mT).mT, a=lambda: nn.Linear(4, 4), p=lambda: nn.PReLU(4)),
        TOKENS,
    ),
    "leaky ReLU in place": (lines(lambda: nn.LeakyReLU(0.2, inplace=True)), ROWS),
    "RReLU in evaluation": (lines(nn.RReLU), ROWS),
    "hardtanh": (lines(lambda: nn.Hardtanh(-2, 1, inplace=True)), ROWS),
    "softshrink": (lines(nn.Softshrink), ROWS),
    "softsign": (lines(nn.Softsign), ROWS),
    "softsign by its formula": (written(lambda s: s / (1 + s.abs())), ROWS),
    "tanhshrink": (lines(nn.Tanhshrink), ROWS),
    "logsigmoid": (lines(nn.LogSigmoid), ROWS),
    "hardsigmoid": (lines(nn.Hardsigmoid), ROWS),
    "sine": (written(torch.sin), ROWS),
    "absolute values": (written(torch.abs), ROWS),
    "sigmoid by its formula": (written(lambda s: 1 / (1 + torch.exp(-s))), ROWS),
    "ELU by its formula": (written(lambda s: torch.where(s > 0, s, 0.5 * (torch.exp(s) - 1))), ROWS),
    "ReLU by clamp": (written(lambda s: s.clamp_(min=0)), ROWS),
    "ReLU by maximum": (written(lambda s: torch.maximum(s, torch.zeros_like(s))), ROWS),
    "ReLU by max with a number": (written(lambda s: torch.max(torch.zeros(1), s)), ROWS),
    "ReLU by where": (written(lambda s: torch.where(s > 0, s, torch.zeros_like(s))), ROWS),
    "ReLU by a mask": (written(lambda s: s * (s > 0)), ROWS),
    "ReLU by a mask of floats": (written(lambda s: s * (s > 0).to(s.dtype)), ROWS),
    "ReLU by masked_fill": (written(lambda s: s.masked_fill(s < 0, 0.0)), ROWS),
    "ReLU by setting": (written(set_by_mask), ROWS),
    "ReLU by absolute values": (written(lambda s: (s + s.abs()) / 2), ROWS),
    "ReLU by threshold": (lines(lambda: nn.Threshold(0, 0, inplace=True)), ROWS),
    "leaky ReLU by max": (written(lambda s: torch.max(s, 0.2 * s)), ROWS),
    "concatenated ReLU": (
        formula(
            lambda m, x: x + m.b(F.relu(torch.cat([m.a(x), -m.a(x)], 1))),
            a=lambda: nn.Linear(6, 4),
            b=lambda: nn.Linear(8, 6),
        ),
        ROWS,
    ),
    # tokens
    "linear layers of tokens": (lines(nn.GELU, 4, 16, 4), TOKENS),
    "mixer": (Mixer, TOKENS),
    "mixer with ReLU": (lambda: nn.Sequential(Mixer(nn.ReLU), Mixer(nn.Tanh)), TOKENS),
    "tokens in one batch": (Flat, TOKENS),
    "tokens first": (Halving, TOKENS),
    "einsum": (
        formula(
            lambda m, x: x + torch.einsum("btc,ts->bsc", torch.tanh(torch.einsum("btc,cd->btd", x, m.w)), m.t),
            w=lambda: torch.randn(4, 4),
            t=lambda: torch.randn(3, 3),
        ),
        TOKENS,
    ),
    "fixed attention": (
        formula(
            lambda m, x: x + torch.softmax(m.scores, 1) @ F.gelu(m.v(x)),
            scores=lambda: torch.randn(3, 3),
            v=lambda: nn.Linear(4, 4),
        ),
        TOKENS,
    ),
    "tokens in one batch, rows innermost": (
        formula(
            lambda m, x: x + m.a(x.transpose(0, 1).reshape(-1, 4)).tanh().view(3, -1, 4).transpose(0, 1),
            a=lambda: nn.Linear(4, 4),
        ),
        TOKENS,
    ),
    "flattened tokens": (
        formula(
            lambda m, x: x + m.b(torch.relu(m.a(x.flatten(1)))).unflatten(1, x.shape[1:]),
            a=lambda: nn.Linear(12, 5),
            b=lambda: nn.Linear(5, 12),
        ),
        TOKENS,
    ),
    # other ways of writing
    "products of parameters": (
        formula(
            lambda m, x: x + F.silu(x @ (m.a @ m.b)) @ (m.a @ m.b).T,
            a=lambda: torch.randn(6, 2) / 2,
            b=lambda: torch.randn(2, 6) / 2,
        ),
        ROWS,
    ),
    "a weight for every row": (
        formula(
            lambda m, x: x + torch.bmm(m.w.expand(len(x), -1, -1), torch.tanh(x[..., None])).squeeze(-1),
            w=lambda: torch.randn(6, 6) / 3,
        ),
        ROWS,
    ),
    "a weight divided by its norm": (
        formula(
            lambda m, x: x + F.linear(F.relu(F.linear(x, m.w / m.w.norm())), m.w.T / m.w.norm()),
            w=lambda: torch.randn(8, 6),
        ),
        ROWS,
    ),
    "layers summed up": (
        formula(
            lambda m, x: x + sum(layer(x).relu() for layer in m.layers) / len(m.layers),
            layers=lambda: nn.ModuleList(nn.Linear(6, 6) for _ in range(3)),
        ),
        ROWS,
    ),
    "layers stacked": (
        formula(
            lambda m, x: x + torch.stack([layer(x).sigmoid() for layer in m.layers], -1).mean(-1),
            layers=lambda: nn.ModuleList(nn.Linear(6, 6) for _ in range(3)),
        ),
        ROWS,
    ),
    "parts by names": (
        formula(
            lambda m, x: torch.add(input=x, other=m.d["b"](torch.sigmoid(input=m.d["a"](input=x))), alpha=0.5),
            d=lambda: nn.ModuleDict({"a": nn.Linear(6, 8), "b": nn.Linear(8, 6)}),
        ),
        ROWS,
    ),
    "cumulative sums": (formula(lambda m, x: x + 0.1 * torch.cumsum(torch.tanh(x), 1)), ROWS),
    "masked weights": (
        formula(lambda m, x: x + F.linear(torch.tanh(x), torch.tril(m.w, -1)), w=lambda: torch.randn(6, 6)),
        ROWS,
    ),
    "pruned": (
        lambda: Residual(prune.l1_unstructured(nn.Linear(6, 8), "weight", 0.5), nn.ReLU(), nn.Linear(8, 6)),
        ROWS,
    ),
    "old spectral norm": (
        lambda: quietly(lambda: Residual(nn.utils.spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 6))),
        ROWS,
    ),
    "a hook before": (lambda: before(Residual(*mlp(6, 8, 6))), ROWS),
    "column by column": (column_by_column, ROWS),
    "numbers of the weights": (
        formula(
            lambda m, x: x + torch.relu(m.a(x)) / max(1.0, float(torch.linalg.matrix_norm(m.a.weight.detach(), 2))),
            a=lambda: nn.Linear(6, 6),
        ),
        ROWS,
    ),
    "chosen by constants": (
        formula(
            lambda m, x: torch.where(torch.arange(6) % 2 == 0, x, torch.relu(m.a(x)))[:, [1, 0, 2, 3, 5, 4]] + x,
            a=lambda: nn.Linear(6, 6),
        ),
        ROWS,
    ),
    "interpolated": (formula(lambda m, x: torch.lerp(x, torch.tanh(m.a(x)), 0.3), a=lambda: nn.Linear(6, 6)), ROWS),
    "raw parameters": (RawParameters, ROWS),
    "a loop over layers": (Loop, ROWS),
    "additive coupling": (Coupling, ROWS),
    "written into an empty tensor": (Scattered, ROWS),
    "reversed and rolled": (
        formula(lambda m, x: x.flip(1) + torch.roll(torch.relu(m.a(x)), 2, dims=1), a=lambda: nn.Linear(6, 6)),
        ROWS,
    ),
    "a difference": (
        formula(
            lambda m, x: (
                x - m.a.weight.T @ torch.relu(m.a(x))[..., None] @ torch.ones(1, 1)
                if x.ndim == 3
                else x - F.linear(torch.relu(m.a(x)), m.a.weight.T)
            ),
            a=lambda: nn.Linear(6, 6),
        ),
        ROWS,
    ),
    "in place": (
        formula(
            lambda m, x: x.add_(m.b(m.a(x).relu_()), alpha=0.5), a=lambda: nn.Linear(6, 9), b=lambda: nn.Linear(9, 6)
        ),
        ROWS,
    ),
    "two branches": (
        formula(
            lambda m, x: x + m.a(x) + m.b(x),
            a=lambda: nn.Sequential(*mlp(6, 4, 6)),
            b=lambda: nn.Sequential(*mlp(6, 5, 6, act=nn.Tanh)),
        ),
        ROWS,
    ),
    "no activation": (lambda: Residual(nn.Linear(6, 6)), ROWS),
    "no shortcut": (lambda: nn.Sequential(*mlp(6, 8, 6, act=nn.LeakyReLU)), ROWS),
    "gradients cut": (
        formula(
            lambda m, x: x + m.b(torch.relu(m.a(x.detach()))), a=lambda: nn.Linear(6, 6), b=lambda: nn.Linear(6, 6)
        ),
        ROWS,
    ),
    "spectral norm": (
        lambda: Residual(
            parametrizations.spectral_norm(nn.Linear(6, 8)), nn.ELU(), parametrizations.spectral_norm(nn.Linear(8, 6))
        ),
        ROWS,
    ),
    "weight norm": (lambda: Residual(parametrizations.weight_norm(nn.Linear(6, 8)), nn.ELU(), nn.Linear(8, 6)), ROWS),
    "orthogonal": (lambda: Residual(parametrizations.orthogonal(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 6)), ROWS),
    "old weight norm": (
        lambda: quietly(lambda: Residual(nn.utils.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 6))),
        ROWS,
    ),
    "a hook": (hooked, ROWS),
    "tied weights": (tied, ROWS),
    "a checkpoint": (
        formula(lambda m, x: x + checkpoint(m.a, x, use_reentrant=False), a=lambda: nn.Sequential(*mlp(6, 8, 6))),
        ROWS,
    ),
    "compiled": (lambda: torch.compile(Residual(*mlp(6, 8, 6))), ROWS),
    "data parallel": (lambda: nn.DataParallel(Residual(*mlp(6, 8, 6))), ROWS),
}
