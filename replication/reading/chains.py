"""Chains: modules that apply other modules one after the other, and the shapes between these."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor, fx, nn

from replication.networks.layerwise import LayerwiseNetwork
from replication.reading.guest import UnreadableError, undisturbed
from replication.units import Layer

Parts = list[tuple[str, nn.Module]]
Shape = tuple[int, ...]


class Called(nn.Module):
    """A function that a module's forward pass calls between two of its children.

    Args:
        node: the call in the graph, whose only input is the value before it.
    """

    def __init__(self, node: fx.Node) -> None:
        super().__init__()
        name = str(node.target)
        self.function: Any = getattr(Tensor, name) if node.op == "call_method" else node.target
        self.arguments = fx.node.map_arg((node.args, node.kwargs), lambda _: PLACE)

    def forward(self, x: Tensor) -> Any:
        filled: Any = fx.node.map_aggregate(self.arguments, lambda a: x if isinstance(a, str) and a == PLACE else a)
        return self.function(*filled[0], **filled[1])


PLACE: Any = "the value before it"


class Children(fx.Tracer):
    """Follows a forward pass down to calls of the module's own children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def chain_of(module: nn.Module) -> Parts:
    """Return the modules that a module applies one after the other, with their names; none if it is no chain."""
    if module._forward_hooks or module._forward_pre_hooks:
        return []
    if type(module) is LayerwiseNetwork:
        module = module.hidden_layers
    elif getattr_static(type(module), "forward", None) is not nn.Sequential.forward:
        return traced(module)
    return [(name, part) for name, part in module._modules.items() if part is not None]


def traced(module: nn.Module) -> Parts:
    """Return the chain that a module's forward pass is, as its symbolic trace shows; none if it is none."""
    if isinstance(module, Layer) or type(module).__module__.startswith("torch.") or not module._modules:
        return []
    try:
        with undisturbed(module):
            nodes = list(Children().trace(module).nodes)
    except Exception:  # whatever the module's own code raises where it is given no numbers
        return []
    first, *middle, last = nodes
    before = [first, *middle]
    if not middle or any(node.all_input_nodes != [last] for node, last in zip([*middle, last], before, strict=True)):
        return []
    if not all(node.op != "call_module" or (len(node.args) == 1 and not node.kwargs) for node in middle):
        return []
    return [part_of(module, node) for node in middle]


def part_of(module: nn.Module, node: fx.Node) -> tuple[str, nn.Module]:
    """Return what a node of a chain's graph applies, with its name."""
    if node.op == "call_module":
        return str(node.target), module.get_submodule(str(node.target))
    if node.target in (torch.flatten, "flatten") and node.args[1:] == (1,):
        return node.name, nn.Flatten()
    return node.name, Called(node)


def shape_before(module: nn.Module, shape: Shape) -> Shape:
    """Return the shape of one input of a module whose outputs have this shape, as far as its kind tells.

    Raises:
        UnreadableError: if it does not.
    """
    parts = chain_of(module)
    if parts:
        for _, part in reversed(parts):
            shape = shape_before(part, shape)
        return shape
    for kinds, before in SHAPES:
        if isinstance(module, kinds):
            return before(module, shape)
    return shape


def before_convolution(module: Any, shape: Shape) -> Shape:
    if isinstance(module.padding, str):
        return (module.in_channels, *shape[1:])
    reach = [step * (taps - 1) - 2 * pad for step, taps, pad in zip(
        module.dilation, module.kernel_size, module.padding, strict=True)]  # fmt: skip
    return (module.in_channels, *(size + more for size, more in zip(shape[1:], reach, strict=True)))


def before_shuffle(module: Any, shape: Shape) -> Shape:
    channels, height, width = shape
    if isinstance(module, nn.PixelUnshuffle):
        r = module.downscale_factor
        return channels // r**2, height * r, width * r
    r = module.upscale_factor
    return channels * r**2, height // r, width // r


def before_padding(module: Any, shape: Shape) -> Shape:
    sides, sizes = list(module.padding), list(shape)
    for dim in range(len(sides) // 2):
        sizes[-1 - dim] -= sides[2 * dim] + sides[2 * dim + 1]
    return tuple(sizes)


def before_layer(module: Any, shape: Shape) -> Shape:
    try:
        own: Shape = module.input_shape
    except ValueError:  # of layers that take inputs of every size
        return tuple(module.inverse(torch.zeros(1, *shape)).value.shape[1:]) if not list(module.parameters()) else shape
    return own


def before_flattening(module: Any, shape: Shape) -> Shape:
    raise UnreadableError(
        "the shape of its inputs cannot be told from that of its outputs, since it flattens them; use "
        "as_network(model, x).inverse(y) with inputs x"
    )


SHAPES: tuple[tuple[tuple[Any, ...], Callable[[Any, Shape], Shape]], ...] = (
    ((Layer,), before_layer),
    ((nn.Linear,), lambda module, shape: (*shape[:-1], module.in_features)),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), before_convolution),
    ((nn.PixelUnshuffle, nn.PixelShuffle), before_shuffle),
    ((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), before_padding),
    ((nn.Flatten,), before_flattening),
    ((nn.Unflatten,), lambda module, shape: (torch.Size(shape).numel(),)),
)
CHANGING = tuple(kind for kinds, _ in SHAPES[1:] for kind in kinds)  # modules that may change the shape
