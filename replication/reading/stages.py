"""Stages of a model as layers: what its kind, or what is read of it, says how to undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from replication.certification.feed_forward import ROUNDING
from replication.maps.feed_forward import LARGEST_ORDER
from replication.reading.general import read
from replication.reading.guest import UnreadableError, undisturbed
from replication.reading.modules import as_unit
from replication.units import ConvRectifierUnit, FeedForwardUnit, Layer
from replication.units.affine_layers import LeakyRectifier, LinearMap, Rearrangement

LARGEST_MATRIX = 2**24  # numbers of a matrix that is formed
CHUNK = 2**22  # numbers at once in a batch of unit vectors


def layer_of(module: nn.Module, x: Tensor, y: Tensor) -> Layer:
    """Return a stage of a model as a layer that can be undone.

    Args:
        module: the stage, which the layer may hold; of units of this package, the layer itself.
        x, y: inputs (batch, *shape), and what it makes of them (batch, *target).

    Raises:
        UnreadableError: if it has none.
    """
    if isinstance(module, Layer):
        return sized(module, x)
    shape, target = tuple(x.shape[1:]), tuple(y.shape[1:])
    lost = torch.Size(shape).numel() - torch.Size(target).numel()
    if lost > 0:
        raise UnreadableError(f"it takes inputs {shape} to outputs {target}, so {lost} dimensions are lost")
    form = FORMS.get(type(module))
    hooked = module._forward_hooks or module._forward_pre_hooks
    layer = None if form is None or hooked else form(module, x, y)
    if layer is not None:
        return layer
    if shape != target:
        return affine_layer(module, x, y)
    unit = as_unit(Unspoilt(module) if spoils(module, x) else module, x)
    if isinstance(unit, FeedForwardUnit) and not unit.feed_forward().n and fits(x, y):
        return affine_layer(module, x, y)
    return unit


def sized(layer: Layer, x: Tensor) -> Layer:
    """Give a unit that takes images of every size that of x, for its certificate."""
    if isinstance(layer, ConvRectifierUnit) and layer.image_size is None:
        layer.image_size = (x.shape[2], x.shape[3])
    return layer


class Padded(nn.Module):
    """A module that does not keep the shape, as one of flat rows that does, since further numbers count for nothing."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.shape = module, torch.Size(shape)

    def forward(self, z: Tensor) -> Any:
        return self.module(z[:, : self.shape.numel()].unflatten(1, self.shape)).flatten(1)


class Unspoilt(nn.Module):
    """A module that works in place, on a copy of its input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module(x.clone())


def spoils(module: nn.Module, x: Tensor) -> bool:
    """Return whether a module overwrites its input."""
    given = x.clone()
    with undisturbed(module):
        module(given)
    return not torch.equal(given, x)


def fits(x: Tensor, y: Tensor) -> bool:
    """Return whether the matrix of an affine map from rows x to rows y may be formed."""
    d, m = x[0].numel(), y[0].numel()
    return d <= LARGEST_ORDER and d * m <= LARGEST_MATRIX


def affine_layer(module: nn.Module, x: Tensor, y: Tensor) -> LinearMap:
    """Read an affine module that loses no dimension as a matrix.

    Raises:
        UnreadableError: if it is not affine, or its matrix too large.
    """
    d, m = x[0].numel(), y[0].numel()
    if not fits(x, y):
        raise UnreadableError(
            f"it changes the shape by a matrix of {m} by {d}, and matrices are formed up to {LARGEST_ORDER} columns "
            f"and {LARGEST_MATRIX} numbers"
        )
    f = read(Padded(module, tuple(x.shape[1:])), torch.nn.functional.pad(x.flatten(1), (0, m - d)))
    if f.n:
        names = ", ".join(map(repr, f.activations))
        raise UnreadableError(
            f"it changes the shape and is not affine ({names}); put its linear layers in stages of their own"
        )
    unit_vectors = torch.eye(d, m, dtype=f.dtype, device=f.device)
    columns = [f.P(part) for part in unit_vectors.split(max(1, CHUNK // m))]
    _, bias = f.affine(f.no_x(x[:1]), f.no_phi(x[:1]))
    layer = LinearMap(torch.cat(columns).mT.to(x), bias[0].to(x), tuple(x.shape[1:]), tuple(y.shape[1:]))
    layer.doubt = ROUNDING + torch.finfo(x.dtype).eps
    return layer


Form = Callable[[Any, Tensor, Tensor], Layer | None]


def linear(module: nn.Linear, x: Tensor, y: Tensor) -> Layer:
    return LinearMap(module.weight, module.bias, tuple(x.shape[1:]), dim=x.ndim - 2)


def convolution(module: Any, x: Tensor, y: Tensor) -> Layer | None:
    """Return a convolution of single points as its matrix; others are read."""
    single = module.weight[0, 0].numel() == 1 and set(module.stride) == {1}
    if not single or x.shape[2:] != y.shape[2:]:
        return None
    matrix = torch.block_diag(*module.weight.flatten(1).chunk(module.groups))
    return LinearMap(matrix, module.bias, tuple(x.shape[1:]))


def normalisation(module: Any, x: Tensor, y: Tensor) -> Layer | None:
    """Return batch normalisation in evaluation mode as its diagonal matrix."""
    if module.training or module.running_var is None or module.running_mean is None:
        return None
    scale = (module.running_var + module.eps).rsqrt()
    scale = scale if module.weight is None else scale * module.weight
    shift = -module.running_mean * scale if module.bias is None else module.bias - module.running_mean * scale
    layer = LinearMap(torch.diag(scale), shift, tuple(x.shape[1:]))
    layer.title = "normalisation"
    return layer


def leaky(module: Any, x: Tensor, y: Tensor) -> Layer | None:
    """Return a leaky rectifier with slopes above 0; others fold, which reading them shows."""
    slope = x.new_tensor(module.negative_slope) if isinstance(module, nn.LeakyReLU) else module.weight
    if not (slope > 0).all():
        return None
    return LeakyRectifier(slope.reshape(-1, *[1] * (x.ndim - 2)) if slope.numel() > 1 else slope.reshape(()))


def dropout(module: Any, x: Tensor, y: Tensor) -> Layer | None:
    return None if module.training and module.p > 0 else rearranged(nn.Identity())(module, x, y)


def rearranged(back: nn.Module | Callable[[Any, Tensor], nn.Module]) -> Form:
    """Return how to undo a module that moves numbers: by another, or by one made from it and its inputs."""

    def form(module: nn.Module, x: Tensor, y: Tensor) -> Layer:
        undone_by = back if isinstance(back, nn.Module) else back(module, x)
        return Rearrangement(module, undone_by, tuple(x.shape[1:]), tuple(y.shape[1:]))

    return form


def padding(module: Any, x: Tensor, y: Tensor) -> Layer | None:
    """Return a padding by constants, undone by cutting it off; one that cuts off itself is read."""
    sides, kinds = module.padding, (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
    if min(sides) < 0:
        return None
    back = kinds[len(sides) // 2 - 1](tuple(-side for side in sides), 0.0)
    return Rearrangement(module, back, tuple(x.shape[1:]), tuple(y.shape[1:]))


FORMS: dict[type[nn.Module], Form] = {
    nn.Linear: linear,
    nn.PixelUnshuffle: rearranged(lambda module, x: nn.PixelShuffle(module.downscale_factor)),
    nn.PixelShuffle: rearranged(lambda module, x: nn.PixelUnshuffle(module.upscale_factor)),
    nn.ChannelShuffle: rearranged(lambda module, x: nn.ChannelShuffle(x.shape[1] // module.groups)),
    nn.Flatten: rearranged(lambda module, x: Restored(tuple(x.shape[1:]))),
    nn.Unflatten: rearranged(lambda module, x: Restored(tuple(x.shape[1:]))),
    nn.Identity: rearranged(nn.Identity()),
    nn.LeakyReLU: leaky,
    nn.PReLU: leaky,
}
FORMS |= dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution)
FORMS |= dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), normalisation)
FORMS |= dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), dropout)
PADDINGS = (
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
)  # fmt: skip
FORMS |= dict.fromkeys(PADDINGS, padding)


class Restored(nn.Module):
    """Gives rows a shape back."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, y: Tensor) -> Tensor:
        return y.reshape(len(y), *self.shape)
