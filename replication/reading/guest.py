"""Somebody else's module: evaluated on copies of its weights and statistics, and left exactly as it was."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from replication.parametrizations import exchanged_cache

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Guest:
    """A module whose forward pass can be evaluated without a trace on it, its data, or the random numbers to come.

    Args:
        module: any module; that of a compiled one is taken.

    Raises:
        TypeError: if it is no module.
        UnreadableError: if it is TorchScript.
    """

    def __init__(self, module: nn.Module) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"the module must be a torch.nn.Module, not {type(module).__name__}")
        self.module = unwrapped(module)
        if isinstance(self.module, torch.jit.ScriptModule):
            raise UnreadableError(
                "the module is TorchScript, which cannot be followed; pass the module that it was made from"
            )

    def __call__(self, x: Tensor) -> Any:
        """Return what the module makes of a copy of x.

        Raises:
            ValueError: if its forward pass fails, draws random numbers, or changes its own state.
        """
        with torch.inference_mode(False), torch.no_grad(), undisturbed(self.module):
            before = dict(self.tensors())
            state = {name: copied(tensor) for name, tensor in before.items()}
            numbers = random_numbers()
            try:
                y = functional_call(self.module, state, (copied(x),))
            except UnreadableError:
                raise
            except Exception as error:  # whatever the module's own code raises
                said = " ".join(str(error).split())[:200]
                raise ValueError(f"the module fails on these inputs: {type(error).__name__}: {said}") from error
            if random_numbers() != numbers:
                raise ValueError("the module draws random numbers, so it is no map; call module.eval() first")
            changed = [name for name, tensor in state.items() if not same(tensor, before[name])]
            if changed:
                raise ValueError(
                    f"the module changes its own state ({changed[0]}) when it is evaluated, so it is no map; call "
                    "module.eval() first"
                )
        return y

    def differentiable(self, x: Tensor) -> Tensor:
        """Return what the module makes of a copy of x, so that forward differentiation goes through it.

        Raises:
            ValueError: if it does not.
        """
        with undisturbed(self.module), attention_by_products():
            state = {name: copied(tensor) for name, tensor in self.tensors()}
            try:
                y: Tensor = functional_call(self.module, state, (x.clone(),))
            except RuntimeError as error:
                raise ValueError(
                    "the module computes something that torch cannot differentiate forward, which newton_gmres needs; "
                    "use anderson or banach, which only evaluate it"
                ) from error
        return y

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield its parameters and buffers by their names."""
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                raise ValueError(f"the module's {name} has no values yet; run the module on an input once")
            yield name, tensor


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module in what torch.compile and data parallelism make of it."""
    while True:
        inner = module.module if isinstance(module, PARALLEL) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


class UnreadableError(ValueError):
    """What a module does that cannot be read as a unit, in one sentence."""


def copied(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor in memory of their own, in the same layout."""
    return tensor.detach().clone()


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, NaN included."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def random_numbers() -> tuple[bytes, object, str]:
    """Return the states of torch's, Python's and NumPy's generators."""
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Let a module be called without a trace, eagerly, and without its warnings, which are for those who call it."""
    with as_it_was(module), eagerly(module), exchanged_cache(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Give a module back its attributes, modes and plain tensors, and the generators their states, at the end."""
    parts = list(module.modules())
    attributes = [dict(part.__dict__) for part in parts]
    held = [value for kept in attributes for value in kept.values()]
    containers = [(value, copy.copy(value)) for value in held if isinstance(value, dict | list | set)]
    tensors = [(value, copied(value)) for value in held if isinstance(value, Tensor)]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for part, kept in zip(parts, attributes, strict=True):
            part.__dict__.clear()
            part.__dict__.update(kept)
        for container, items in containers:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(items)
        for tensor, numbers in tensors:
            if not same(tensor, numbers):
                tensor.detach().copy_(numbers)


@contextmanager
def attention_by_products() -> Iterator[None]:
    """Let attention be computed by products of matrices, since torch has no forward derivatives of its other ways."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def eagerly(module: nn.Module) -> Any:
    """Return a context in which compiled parts of a module run as they were written."""
    compiled = any(hasattr(part, "_orig_mod") or part._compiled_call_impl is not None for part in module.modules())
    stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6; it takes a second to load
    return stance("force_eager") if compiled and stance is not None else nullcontext()
