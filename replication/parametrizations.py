"""Caches of parametrized weights that never give a weight without its graph to a computation that wants gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication.uncompiled import uncompiled

P = ParamSpec("P")
T = TypeVar("T")
Cache = Mapping[tuple[int, str], Tensor | None]


@contextmanager
def exchanged_cache(values: Cache | None) -> Iterator[None]:
    """Give parametrized weights these values within, and compute the missing ones once; with None compute them anew.

    `torch.nn.utils.parametrize` has one cache for all, so that of the caller is put aside.
    """
    outer = parametrize._cache, parametrize._cache_enabled
    parametrize._cache, parametrize._cache_enabled = dict(values or {}), int(values is not None)
    try:
        yield
    finally:
        parametrize._cache, parametrize._cache_enabled = outer


@contextmanager
def cached() -> Iterator[None]:
    """Compute every parametrized weight once within; what the caller's cache has with its graph is used.

    What is computed here is not seen outside, where gradients may be wanted that are not wanted here.
    """
    known = {key: value for key, value in parametrize._cache.items() if usable(value)}
    with exchanged_cache(known):
        yield


def without_graph(method: Callable[P, T]) -> Callable[P, T]:
    """Compute without gradients, and every parametrized weight once: `torch.no_grad` for methods of units.

    Autocast is off within: its rounding would count as the unit's. So is torch.compile: solvers end by what they meet.
    """
    return uncompiled(no_graph()(method))


@contextmanager
def no_graph() -> Iterator[None]:
    """As `without_graph`, for what stands in this context."""
    devices = [*filter(torch.is_autocast_enabled, ("cpu", "cuda"))]
    with torch.no_grad(), cached():
        if not devices:
            yield
            return
        with ExitStack() as stack:
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            yield


def usable(value: object) -> bool:
    """Return whether a cached weight has the graph that is wanted now, so far as one can see."""
    return isinstance(value, Tensor) and (value.requires_grad or not torch.is_grad_enabled())


def fill_cache(module: nn.Module) -> dict[tuple[int, str], Tensor] | None:
    """Compute a module's parametrized weights, each with its graph; return them, or None if the caller caches nothing.

    So the cache is filled before something that works without gradients fills it.
    """
    if not parametrize._cache_enabled:
        return None
    filled = {}
    for part in filter(parametrize.is_parametrized, module.modules()):
        assert isinstance(part.parametrizations, nn.ModuleDict)
        for name in part.parametrizations:
            key = (id(part), name)
            if not usable(parametrize._cache.get(key)):
                parametrize._cache.pop(key, None)
            filled[key] = getattr(part, name)
    return filled
