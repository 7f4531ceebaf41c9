"""Whole models: chains of stages, each read as a layer, undone from the last to the first."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from replication.checks import check_numbers, check_rows
from replication.networks.layerwise import LayerwiseNetwork
from replication.reading.chains import Parts, chain_of
from replication.reading.guest import Guest, UnreadableError, unwrapped
from replication.reading.held import SCALES, agree, random_rows
from replication.reading.stages import layer_of
from replication.units import Layer


@torch.no_grad()
def as_network(model: nn.Module, x: Tensor, until: str | None = None) -> LayerwiseNetwork:
    """Read a model that applies one module after the other as a network, which is undone stage by stage.

    Such a model is an `nn.Sequential`, also of others, or a module whose forward pass is a chain of its children.
    Stages are residual blocks and all else that `as_unit` reads, layers of this package, linear layers and
    convolutions that lose no dimension, batch normalisation in evaluation mode, leaky rectifiers, and what moves or
    pads numbers. The network has copies of them: the model stays as it is, and later changes of it are not seen.

    Args:
        model: in evaluation mode.
        x: inputs (batch, *shape), which fix the shape and are used for checks; folds of stages are looked for at them.
        until: the name of a stage at which to stop; it and all after it are left out.

    Returns:
        The network, whose layers have the names of the stages, and whose `inverse` and `certificate` are the model's.

    Raises:
        TypeError: if the model is no module, or the inputs are no tensor of float32 or float64.
        ValueError: if a stage cannot be read or loses dimensions, or there is none of the name `until`.

    >>> model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.1)).double()
    >>> x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    >>> network = as_network(model, x)
    >>> network.certificate().verdict.value
    'invertible'
    >>> bool((network.inverse(model(x).detach()).value - x).abs().max() < 1e-6)
    True
    """
    Guest(model)  # which refuses what is no module
    check_numbers(x=x)
    check_rows(x, like=x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"a model is read on inputs (batch, *shape), not {tuple(x.shape)}")
    x = x if len(x) else x.new_zeros(1, *x.shape[1:])
    kept = copied(unwrapped(model))
    reading = Reading(until)
    reading.module("", kept, x)
    if until is not None and not reading.stopped:
        raise ValueError(f"the model has no stage {until!r}; its stages are {', '.join(reading.names)}")
    network = LayerwiseNetwork(*reading.layers, names=reading.names)
    if not reading.stopped:
        hold_against(network, Guest(kept), x)
    return network


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model.

    Raises:
        UnreadableError: if it has something that cannot be copied.
    """
    try:
        return copy.deepcopy(model, computed(model))
    except Exception as error:  # whatever its parts raise
        said = " ".join(str(error).split())[:100]
        raise UnreadableError(f"the model cannot be copied ({said}); give it parts that copy.deepcopy takes") from error


def computed(model: nn.Module) -> dict[int, Tensor]:
    """Return copies, by their ids, of tensors that a model holds as results of its weights, as older hooks do."""
    held = [value for part in model.modules() for value in part.__dict__.values()]
    return {id(value): value.detach().clone() for value in held if isinstance(value, Tensor) and not value.is_leaf}


@dataclass
class Reading:
    """What has been read of a model, and where to stop.

    Attributes:
        until: the name of the stage at which to stop, or None.
        names, layers: of the stages so far.
        stopped: whether that one was reached.
    """

    until: str | None
    names: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    stopped: bool = False

    def module(self, name: str, module: nn.Module, x: Tensor) -> None:
        """Read a module on inputs x as its parts one after the other, or as one stage.

        Raises:
            UnreadableError: if it is read as neither.
        """
        parts = chain_of(module)
        before = len(self.names)
        if parts:
            try:
                self.parts(name, parts, x)
            except UnreadableError as error:
                del self.names[before:], self.layers[before:]
                self.whole(name, module, x, error)
        else:
            self.whole(name, module, x, None)

    def parts(self, name: str, parts: Parts, x: Tensor) -> None:
        """Read parts one after the other, up to the stage at which to stop."""
        for part_name, part in parts:
            full = f"{name}.{part_name}" if name else part_name
            if full == self.until:
                self.stopped = True
            if self.stopped:
                return
            self.module(full, part, x)
            x = x if self.stopped else Guest(part)(x)

    def whole(self, name: str, module: nn.Module, x: Tensor, error: UnreadableError | None) -> None:
        """Read a module as one stage; where its parts were not read, for a reason, that is why it is not."""
        y = evaluated(name, module, x)
        try:
            if not isinstance(y, Tensor) or y.dtype != x.dtype or len(y) != len(x):
                raise UnreadableError("it does not return a tensor like its inputs, row by row")
            layer = layer_of(module, x, y)
        except UnreadableError as own:
            raise error or UnreadableError(told(name, module, own)) from own
        self.names.append(name or type(module).__name__)
        self.layers.append(layer)


def evaluated(name: str, module: nn.Module, x: Tensor) -> object:
    """Return what a stage makes of x; where it fails, say which one it is."""
    try:
        return Guest(module)(x)
    except ValueError as error:
        stage = f"stage {name!r}" if name else "the model"
        raise ValueError(f"{stage} ({type(module).__name__}) stands in the way: {error}") from error


def told(name: str, module: nn.Module, error: UnreadableError) -> str:
    """Say which stage stands in the way, and what can be done."""
    kind, reason = type(module).__name__, str(error)
    if not name:
        return (
            f"the model ({kind}) is not read as a chain of stages, nor as one: {reason}; pass "
            "nn.Sequential of its stages"
        )
    return (
        f"stage {name!r} ({kind}) cannot be undone: {reason}; pass until={name!r} to as_network "
        "for what comes before it"
    )


def hold_against(network: LayerwiseNetwork, guest: Guest, x: Tensor) -> None:
    """Compare a network with the model that it was read off, at inputs x and at random ones.

    Raises:
        UnreadableError: if they differ by more than rounding.
    """
    points = torch.cat([x, random_rows(x, torch.tensor(SCALES, dtype=x.dtype))])
    found, expected = network.features(points), guest(points)
    size = largest_on_the_way(network, points)
    eps = torch.finfo(x.dtype).eps * len(network.hidden_layers)
    if found.shape != expected.shape or not agree((found,), (expected,), (points, size), eps):
        raise UnreadableError(
            "the stages of the model, one after the other, differ from the model by more than rounding (it may compute "
            "something else at each call); pass nn.Sequential of its stages"
        )


def largest_on_the_way(network: LayerwiseNetwork, x: Tensor) -> Tensor:
    """Return the largest absolute value of every row between layers (batch, 1)."""
    size = x.flatten(1).abs().amax(1, keepdim=True)
    for layer in network.hidden_layers:
        x = layer(x)
        size = torch.maximum(size, x.flatten(1).abs().amax(1, keepdim=True))
    return size
