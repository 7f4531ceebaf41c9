"""Numbers of every row of a batch: norms, inner products, scales."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CACHED = 2**20  # numbers of a batch worked on at once: 4 MiB in float32, about what a processor keeps near by


def rows_at_once(*batches: Tensor, numbers: int = CACHED) -> int:
    """Return how many rows of batches have so many numbers; on other devices than the processor, all of them."""
    if any(batch.device.type != "cpu" for batch in batches):
        return max(1, len(batches[0]))
    return max(1, numbers // max(1, *(batch[:1].numel() for batch in batches)))


TINIEST = 5e-324  # the smallest positive number


def row_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of every row of v (batch, *shape), also where squares would over- or underflow."""
    norm: Tensor = torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)))
    if not v.numel():
        return norm
    safe = 1e4 * torch.finfo(v.dtype).tiny ** 0.5
    if within(norm, safe):
        return norm
    extreme = (norm < safe) | torch.isinf(norm)
    if extreme.any():
        flat = v[extreme].flatten(1)
        largest = flat.abs().amax(1)
        scale = torch.where((largest > 0) & torch.isfinite(largest), largest, torch.ones_like(largest))
        norm[extreme] = scale * torch.linalg.vector_norm(flat / scale[:, None], dim=1)
    return norm


def within(norm: Tensor, least: float) -> bool:
    """Return whether all norms are at least `least` and finite."""
    lowest, highest = torch.aminmax(norm.detach())
    return least <= float(lowest) and float(highest) < math.inf


def residual_scale(y: Tensor) -> Tensor:
    """Return what residuals are relative to: ‖y‖ of every row, or 1 where y = 0.

    NaN where ‖y‖ overflows, so that no residual counts as small there.
    """
    return scale_of_norm(row_norm(y))


def scale_of_norm(norm: Tensor) -> Tensor:
    """Return what residuals are relative to for outputs of these norms (batch,)."""
    if norm.numel() and within(norm, TINIEST):  # as nearly always
        return norm
    return torch.where(torch.isfinite(norm), torch.where(norm > 0, norm, 1), torch.nan)


def power_of_two(size: Tensor) -> Tensor:
    """Return the powers of two with 1 ≤ size/power < 2, and 1 where the size is 0: dividing by them does not round."""
    return torch.where(size > 0, size / (2 * torch.frexp(size).mantissa), 1)


def smallest_number(like: Tensor) -> Tensor:
    """Return the smallest positive number of the dtype of `like`, a scalar: a normal one where others become zero."""
    tiny = like.new_tensor(torch.finfo(like.dtype).tiny)
    subnormal = tiny * torch.finfo(like.dtype).eps
    return torch.where(subnormal > 0, subnormal, tiny)


def dot(v: Tensor, w: Tensor) -> Tensor:
    """Return the inner product of every row (batch,)."""
    products: Tensor = torch.linalg.vecdot(v.flatten(1), w.flatten(1))
    return products


def column(numbers: Tensor, like: Tensor) -> Tensor:
    """Shape one number a row (batch,) so that it multiplies rows like `like`."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))
