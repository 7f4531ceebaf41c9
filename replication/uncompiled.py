"""What torch.compile leaves as it is written: solvers, and graphs that compute again what others would save."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
T = TypeVar("T")


def uncompiled(function: Callable[P, T]) -> Callable[P, T]:
    """Keep a function out of what torch.compile compiles, with all that it calls.

    As `torch.compiler.disable`, which as a decorator would load the compiler wherever this package is imported.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_dynamo_compiling():
            return cast("T", torch.compiler.disable(function)(*args, **kwargs))
        return function(*args, **kwargs)

    return wrapped
