"""Refusals in one sentence of what cannot be worked with, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


def neither(question: str) -> Callable[[object], bool]:
    """Return a `__bool__` that raises a TypeError with the question to ask, for what would be true whatever it says."""

    def refuse(self: object) -> bool:
        raise TypeError(f"a {type(self).__name__} is neither true nor false; ask {question}")

    return refuse


def check_precision(tensor: Tensor) -> None:
    """Refuse half precision and all else but float32 and float64.

    Raises:
        TypeError: if it is of another dtype.
    """
    if tensor.dtype not in FLOATS:
        raise TypeError(f"this takes float32 or float64, not {tensor.dtype}; convert the module and its data")


def check_tensor(x: object, like: Tensor) -> None:
    """Refuse what is no batch of rows of the dtype of `like`; under autocast other dtypes are torch's business.

    Raises:
        TypeError: if it is no tensor of this dtype.
        ValueError: if it is a single number.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"the input must be a torch.Tensor, not {type(x).__name__}")
    if x.dtype != like.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"the input is {x.dtype} and the unit {like.dtype}; convert one, e.g. unit.to(y.dtype)")
    if not x.ndim:
        raise ValueError("the input must be a batch of rows, not a single number")


def all_finite(v: Tensor) -> bool:
    """Return whether all numbers are finite: by their sum, many times quicker than one by one, unless it overflows."""
    return math.isfinite(v.detach().sum()) or bool(torch.isfinite(v).all())


def check_rows(y: object, like: Tensor) -> None:
    """Refuse what is not a finite tensor of the dtype of `like`.

    Raises:
        TypeError: if it is no tensor of this dtype.
        ValueError: if a value is not finite.
    """
    check_tensor(y, like)
    assert isinstance(y, Tensor)
    if not all_finite(y):
        raise ValueError("the input has values that are not finite (NaN or infinity); remove those rows first")


def check_numbers(**tensors: object) -> None:
    """Refuse, by its name, what is not a finite tensor of float32 or float64, and tensors of different dtypes.

    Raises:
        TypeError: if the kinds or dtypes are wrong.
        ValueError: if a value is not finite.
    """
    dtypes = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in FLOATS:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a torch.Tensor of float32 or float64, not {kind}")
        if not all_finite(tensor):
            raise ValueError(f"{name} has values that are not finite (NaN or infinity)")
        dtypes.add(tensor.dtype)
    if len(dtypes) > 1:
        *names, last = tensors
        raise TypeError(f"{', '.join(names)} and {last} must have one dtype, not {', '.join(sorted(map(str, dtypes)))}")


def checked_layer(W: object, b: object) -> tuple[Tensor, Tensor]:
    """Return what makes up a ReLU layer, W (m, n) and b (m,), of zeros where b is None; refuse all else.

    Raises:
        TypeError, ValueError: as `check_numbers`; ValueError too if the shapes do not fit.
    """
    if b is None and isinstance(W, Tensor):
        b = W.new_zeros(W.shape[:1])
    check_numbers(W=W, b=b)
    assert isinstance(W, Tensor)
    assert isinstance(b, Tensor)
    if W.ndim != 2 or min(W.shape) == 0 or b.shape != W.shape[:1]:
        raise ValueError(f"W must have the shape (m, n) and b (m,), not {tuple(W.shape)} and {tuple(b.shape)}")
    return W, b


def check_images(x: object, channels: int) -> None:
    """Refuse what is not a tensor of images (batch, channels, height, width).

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another shape.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"the input must be a torch.Tensor, not {type(x).__name__}")
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"the layer takes images (batch, {channels}, height, width), not of shape {tuple(x.shape)}")


def check_counts(least: int, **counts: object) -> None:
    """Refuse, by their names, numbers that are not whole or smaller than `least`.

    Raises:
        TypeError: if one is not an integer.
        ValueError: if one is too small.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{name} must be an integer, not {count!r}")
        if count < least:
            raise ValueError(f"{name} must be at least {least}, not {count!r}")


def check_number(name: str, number: object) -> None:
    """Refuse, by its name, what is no real number.

    Raises:
        TypeError: if it is none.
    """
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise TypeError(f"{name} must be a number, not {number!r}")


def check_numbers_finite(**numbers: object) -> None:
    """Refuse, by their names, what are no finite real numbers.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is not finite.
    """
    for name, number in numbers.items():
        check_number(name, number)
        if not math.isfinite(number):  # type: ignore[arg-type]
            raise ValueError(f"{name} must be finite, not {number!r}")


def check_image_size(size: object) -> None:
    """Refuse what is not a height and a width.

    Raises:
        TypeError, ValueError: if it is not.
    """
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"image_size must be (height, width), not {size!r}")
    check_counts(1, height=size[0], width=size[1])
