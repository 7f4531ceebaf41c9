"""Holding what was read of a module against the module, at fresh points of many sizes and beyond the bends."""

from __future__ import annotations

import torch
from torch import Tensor

from replication.maps.feed_forward import FeedForwardMap
from replication.reading.affine_functions import CANNOT_CERTIFY
from replication.reading.guest import Guest, UnreadableError
from replication.rows import column, row_norm

SCALES = (1e-2, 0.1, 1.0, 1.0, 3.0, 10.0, 100.0)
UNITS = 32  # that are moved over their bends at most
ROUNDING = 1000  # units in the last place of the largest numbers of a row that are taken for rounding

NOT_AFFINE = (
    "what is left of it without its activations is not affine as evaluated (it may use a library that cannot be "
    f"followed, TorchScript say, or decide by its input); {CANNOT_CERTIFY}"
)
NOT_THE_FORM = (
    "it does not compute what was read off it: its values differ by more than rounding (it may compute something else "
    "at each call, or in half precision)"
)
ROWS_MIXED = "each row of what it returns depends on other rows of the batch; it must act row by row"
CUT = "gradients do not pass through it (it may use inference mode, or a function with gradients of its own)"


def hold_against(read: FeedForwardMap, guest: Guest, x: Tensor, found: Tensor) -> None:
    """Compare a map with the module that it was read off.

    Args:
        read: the map.
        guest: the module.
        x, found: inputs (batch, *shape), and what it makes of them.

    Raises:
        UnreadableError: if they differ by more than rounding.
    """
    scales = torch.tensor(SCALES, dtype=read.dtype)
    fresh = random_rows(x, scales)
    points = torch.cat([fresh, beyond_bends(read, fresh)])
    check_rows_apart(read, points)
    check_form(read, points)
    check_adjoint(read, points)
    for inputs, outputs in ((x, found), (fresh.to(x), guest(fresh.to(x)))):
        s, y = whole(read, inputs.to(read.dtype))
        eps = max(read.eps, torch.finfo(x.dtype).eps)
        if not agree((outputs.to(read.dtype),), (y,), (inputs.to(read.dtype), s), eps):
            raise UnreadableError(NOT_THE_FORM)


def random_rows(x: Tensor, scales: Tensor, seed: int = 0) -> Tensor:
    """Return one random row like those of x for each scale, which leave the generators as they are."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(len(scales), *x.shape[1:], generator=generator, dtype=scales.dtype)
    return (v * column(scales, v)).to(x.device)


def beyond_bends(read: FeedForwardMap, x: Tensor) -> Tensor:
    """Return points at which some preactivations have the sign that they have at none of x (batch, *shape)."""
    s, _ = whole(read, x)
    one_sided = torch.nonzero((s > 0).all(0) | (s < 0).all(0)).flatten()
    if not len(one_sided):
        return x[:0]
    chosen = one_sided[torch.linspace(0, len(one_sided) - 1, min(UNITS, len(one_sided))).long()]
    nearest = s[:, chosen].abs().argmin(0)
    start, values = x[nearest], s[nearest, chosen]
    unit = torch.zeros(len(chosen), read.n, dtype=read.dtype, device=x.device)
    unit[torch.arange(len(chosen)), chosen] = 1
    try:
        slope: Tensor = torch.func.vjp(lambda points: whole(read, points)[0], start)[1](unit)[0]
    except RuntimeError:  # where a module overwrites what its gradients need
        return x[:0]
    length = row_norm(slope)
    step = torch.where(length > 0, -1.5 * values / length**2, 0)
    moved = start + column(step, slope) * slope
    return moved[torch.isfinite(moved).flatten(1).all(1) & (row_norm(moved) < 1e6)]


def whole(read: FeedForwardMap, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the preactivations (batch, n) and the output (batch, *shape) of the module at x."""
    s, y = read.graph.whole(x)
    return read.with_rows(s, x), y.to(read.dtype)


def check_rows_apart(read: FeedForwardMap, points: Tensor) -> None:
    """Refuse a map whose rows depend on which others they are evaluated with."""
    s, y = whole(read, points)
    alone = whole(read, points[:2].flip(0))
    if not agree((s[:2].flip(0), y[:2].flip(0)), alone, (points[:2].flip(0), s[:2].flip(0)), read.eps):
        raise UnreadableError(ROWS_MIXED)


def check_form(read: FeedForwardMap, points: Tensor) -> None:
    """Hold the equation, made of products, against the graph at free values and against the module."""
    b, e = read.affine(read.no_x(points), read.no_phi(points))

    def computed(phi: Tensor) -> tuple[Tensor, Tensor]:
        s, y = read.product(points, phi)
        return s + b, y + e

    free = random_rows(b, torch.ones(len(points), dtype=read.dtype))
    if not agree(computed(free), read.affine(points, free), (points, free, b, e), read.eps):
        raise UnreadableError(NOT_AFFINE)
    s, y = whole(read, points)
    phi = read.phi(s)  # B is strictly lower triangular, so that only the module's own s fits its s
    if not agree(computed(phi), (s, y), (points, phi, b, e), read.eps):
        raise UnreadableError(NOT_THE_FORM)


def check_adjoint(read: FeedForwardMap, points: Tensor) -> None:
    """Hold products with the transposed matrices against those with the matrices."""
    v = random_rows(points, torch.ones(len(points), dtype=read.dtype), seed=1)
    phi, s = (random_rows(read.no_phi(v), torch.ones(len(v), dtype=read.dtype), seed) for seed in (2, 3))
    forward = read.product(v, phi)
    try:
        backward = read.adjoint(s, v)
    except RuntimeError as error:
        raise UnreadableError(CUT) from error
    pairs = ((forward[0], s), (forward[1], v), (-backward[0], v), (-backward[1], phi))
    products = torch.stack([(a * b).flatten(1).sum(1) for a, b in pairs])
    size = torch.stack([row_norm(a) * row_norm(b) for a, b in pairs]).sum(0)
    if not (products.sum(0).abs() <= ROUNDING * read.eps * size).all():
        raise UnreadableError(CUT)


def agree(found: tuple[Tensor, ...], expected: tuple[Tensor, ...], sizes: tuple[Tensor, ...], eps: float) -> bool:
    """Return whether numbers agree to the rounding of the largest in their row, where all are finite."""
    size = 1 + torch.stack([largest(v) for v in (*expected, *sizes)]).amax(0)
    for a, b in zip(found, expected, strict=True):
        apart = (a - b).flatten(1).abs()
        finite = torch.isfinite(b).flatten(1).all(1)
        if not (apart[finite] <= ROUNDING * eps * size[finite, None]).all():
            return False
    return True


def largest(v: Tensor) -> Tensor:
    """Return the largest absolute value of every row."""
    flat = v.flatten(1).abs()
    return flat.amax(1) if flat.shape[1] else flat.new_zeros(len(flat))
