"""Units of one's own: from a module y = x + second(relu(first(x))) to its certificate and inverse."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.checks import check_images, check_rows
from replication.operators import SYMMETRIC_PADDINGS
from replication.solvers import Solution, Solver
from replication.units.convolutional import StandardConvUnit
from replication.units.rectifier_unit import RectifierUnit
from replication.units.residual import ResidualUnit

FORM = "y = x + second(relu(first(x))) with two linear layers (nn.Linear), or two convolutions (nn.Conv2d) of stride 1"


@torch.no_grad()
def as_unit(module: nn.Module, x: Tensor) -> RectifierUnit:
    """Read a residual unit with one ReLU off a module, and check it on inputs.

    Args:
        module: computes y = x + second(relu(first(x))), where first and second are its only two layers with weights,
            in this order: nn.Linear, or nn.Conv2d with stride 1, one odd square kernel size and zero or circular
            padding that keeps the image size. It is read once: later changes of its weights do not reach the unit.
        x: inputs (rows, d) or (rows, channels, height, width), which fix the image size and are used for the check.

    Returns:
        The unit, whose `certificate` and `inverse` are the module's.

    Raises:
        TypeError: if the module is no module, or the inputs are no tensor of its dtype.
        ValueError: if the module is not of this form, or does not agree with the unit on x, or x has another shape or
            values that are not finite.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"the module must be a torch.nn.Module, not {type(module).__name__}")
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if len(layers) != 2 or isinstance(layers[0], nn.Linear) != isinstance(layers[1], nn.Linear):
        found = ", ".join(type(layer).__name__ for layer in layers) or "none"
        raise ValueError(f"the module must compute {FORM}; its layers with weights are: {found}")
    first, second = layers
    check_rows(x, like=first.weight)
    unit: RectifierUnit
    if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
        unit = dense_unit(first, second)
    else:
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        check_images(x, first.in_channels)
        unit = convolutional_unit(first, second, x)
    expected, found = unit(x), module(x)
    if found.shape != x.shape or not agree(found, expected):
        raise ValueError(f"the module does not compute {FORM}: on these inputs it differs by more than rounding")
    return unit


def invert(
    module: nn.Module, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
) -> Solution:
    """Recover x from y = module(x), for a module of the form that `as_unit` reads.

    Args:
        module: as for `as_unit`.
        y: outputs, of the shape and dtype of the module's inputs.
        solver, tolerance, options: as for `RectifierUnit.inverse`.

    Returns:
        A solution with a status for every row.

    Raises:
        ValueError, TypeError: if the module is not of the form, or y, the solver, the tolerance or an option is wrong.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 3)
    ...
    ...     def forward(self, x):
    ...         return x + self.second(torch.relu(self.first(x)))
    >>> block = Block()
    >>> x = torch.randn(4, 3)
    >>> solution = invert(block, block(x).detach())
    >>> bool(solution.converged.all()), solution.solver
    (True, 'exact')
    """
    return as_unit(module, y).inverse(y, solver, tolerance, **options)


def agree(a: Tensor, b: Tensor) -> bool:
    """Return whether two outputs differ by rounding at most."""
    size = 1 + torch.linalg.vector_norm(a, ord=torch.inf) if a.numel() else 1
    return bool(((a - b).abs() <= 1000 * torch.finfo(a.dtype).eps * size).all())


def bias_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Return the layer's bias, zero where it has none."""
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias


def dense_unit(first: nn.Linear, second: nn.Linear) -> ResidualUnit:
    """Return the unit of two linear layers."""
    return ResidualUnit(first.weight, bias_of(first), second.weight, bias_of(second))


def convolutional_unit(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> StandardConvUnit:
    """Return the unit of two convolutions."""
    size, mode = first.kernel_size[0], first.padding_mode
    for layer in (first, second):
        padding = layer.padding if isinstance(layer.padding, str) else set(layer.padding)
        keeps_size = padding in ("same", {size // 2}) and mode == layer.padding_mode and mode in SYMMETRIC_PADDINGS
        plain = set(layer.stride) == set(layer.dilation) == {layer.groups} == {1}
        if set(layer.kernel_size) != {size} or size % 2 == 0 or not keeps_size or not plain:
            raise ValueError(
                f"a convolution must have stride, dilation and groups 1, the odd kernel size of the other, and zero or "
                f"circular padding of half of it, as the other, not {layer}"
            )
    unit = StandardConvUnit(
        first.in_channels, first.out_channels, size, image_size=(x.shape[-2], x.shape[-1]), padding=mode
    )
    unit = unit.to(first.weight)
    unit.load_state_dict(
        {"weight1": first.weight, "bias1": bias_of(first), "weight2": second.weight, "bias2": bias_of(second)}
    )
    return unit
