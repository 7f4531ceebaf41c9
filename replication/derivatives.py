"""Derivatives along directions, by torch's forward mode."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def along(function: Callable[..., Any], at: tuple[Tensor, ...], directions: tuple[Tensor, ...]) -> Any:
    """Return the derivative of a function at a point along a direction, both one tensor for each argument."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own code raises one when it first does this
        return torch.func.jvp(function, at, directions)[1]
