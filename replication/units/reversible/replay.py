"""What a module needs to be evaluated again as it was: tensors, attributes, random numbers, caches and precision."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from replication.parametrizations import exchanged_cache, fill_cache

INTERNAL = set(vars(nn.Module())) - {"training"}

Slot = tuple[dict[str, Any], str, Tensor]  # a module's parameters or buffers, the name of one, and a tensor for it


class Circumstances:
    """All that an evaluation of a module depends on beside its input, to be put in place once more.

    Buffers are kept as they were, parameters by reference.

    Args:
        module: about to be evaluated.
        device: of its input.
        randomness: states of the random generators, as `random_states` returns them; none if nothing is drawn.
    """

    def __init__(self, module: nn.Module, device: torch.device, randomness: Sequence[object]) -> None:
        self.device, self.randomness = device, randomness
        self.attributes = [(part, attributes(part)) for part in module.modules()]
        self.parameters = stand_ins(slots_of(part._parameters for part in module.modules()), alias)
        self.buffers = copied_buffers(module)
        self.autocast = autocast_settings(device.type)
        cache = fill_cache(module)
        self.cache = None if cache is None else {key: alias(value) for key, value in cache.items()}

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within it everything is as it was; afterwards as before."""
        with (
            exchanged(self.parameters + stand_ins(self.buffers, copy)),
            exchanged_attributes(self.attributes),
            exchanged_cache(self.cache),
            torch.autocast(**self.autocast),
            random_numbers(self.device, self.randomness),
        ):
            yield


def alias(tensor: Tensor) -> Tensor:
    """Return a leaf with the same numbers in the same place, whose version counts changes of both."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def copy(tensor: Tensor) -> Tensor:
    """Return a leaf with the same numbers in another place."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def stand_ins(slots: Sequence[Slot], made_of: Callable[[Tensor], Tensor]) -> list[Slot]:
    """Return what is made of each tensor, once, in the tensor's slots."""
    made = {id(tensor): tensor for _, _, tensor in slots}
    made = {key: made_of(tensor) for key, tensor in made.items()}
    return [(holder, name, made[id(tensor)]) for holder, name, tensor in slots]


def slots_of(holders: Iterable[dict[str, Any]]) -> list[Slot]:
    """Return the slots of modules' dictionaries of parameters or of buffers, with their tensors."""
    return [(holder, name, tensor) for holder in holders for name, tensor in holder.items() if tensor is not None]


def copied_buffers(module: nn.Module) -> list[Slot]:
    """Return copies of a module's buffers, in their slots."""
    return stand_ins(slots_of(part._buffers for part in module.modules()), copy)


@contextmanager
def exchanged(slots: Sequence[Slot]) -> Iterator[None]:
    """Put tensors into their slots for a while."""
    before = {id(holder): (holder, dict(holder)) for holder, _, _ in slots}
    for holder, name, tensor in slots:
        holder[name] = tensor
    try:
        yield
    finally:
        for holder, tensors in before.values():
            holder.clear()
            holder.update(tensors)


def attributes(part: nn.Module) -> dict[str, Any]:
    """Return what a module holds of its own beside tensors, parts and hooks: its mode, options, counters."""
    return {name: value for name, value in vars(part).items() if name not in INTERNAL}


@contextmanager
def exchanged_attributes(wanted: Sequence[tuple[nn.Module, dict[str, Any]]]) -> Iterator[None]:
    """Give modules other attributes for a while."""
    before = [(part, attributes(part)) for part, _ in wanted]
    set_attributes(wanted)
    try:
        yield
    finally:
        set_attributes(before)


def set_attributes(wanted: Sequence[tuple[nn.Module, dict[str, Any]]]) -> None:
    """Give modules these attributes and no others."""
    for part, values in wanted:
        held = vars(part)
        for name in [name for name in held if name not in INTERNAL and name not in values]:
            del held[name]
        held.update(values)


def autocast_settings(device_type: str) -> dict[str, Any]:
    """Return the arguments of `torch.autocast` that are in force; its cache would keep a second copy of all weights."""
    return {
        "device_type": device_type,
        "enabled": torch.is_autocast_enabled(device_type),
        "dtype": torch.get_autocast_dtype(device_type),
        "cache_enabled": False,
    }


def random_states(device: torch.device, known: Sequence[object] = ()) -> tuple[object, ...]:
    """Return the states of the generators that a module on this device may draw from: Python's, numpy's and torch's.

    Args:
        device: of the module.
        known: earlier states, which are returned in place of equal ones, to be kept once.
    """
    numpy_state = pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002
    with torch._C._DisableFuncTorch():  # whose transforms wrap every tensor, these too
        states = [random.getstate(), numpy_state, to_bytes(torch.get_rng_state())]
        if device.type != "cpu":
            states.append(to_bytes(torch.get_device_module(device).get_rng_state(device)))
    if known:
        states = [old if old == new else new for old, new in zip(known, states, strict=True)]
    return tuple(states)


def restore_random_states(device: torch.device, states: Sequence[Any]) -> None:
    """Set the generators to states that `random_states` returned."""
    python, numpy_state, cpu, *others = states
    random.setstate(python)
    np.random.set_state(pickle.loads(numpy_state))  # noqa: NPY002
    torch.set_rng_state(from_bytes(cpu))
    for state in others:
        torch.get_device_module(device).set_rng_state(from_bytes(state), device)


def to_bytes(state: Tensor) -> bytes:
    return state.numpy().tobytes()


def from_bytes(state: bytes) -> Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)


@contextmanager
def random_numbers(device: torch.device, states: Sequence[object]) -> Iterator[None]:
    """Draw random numbers from these states for a while; none given, from the generators as they are."""
    if not states:
        yield
        return
    before = random_states(device)
    restore_random_states(device, states)
    try:
        yield
    finally:
        restore_random_states(device, before)
