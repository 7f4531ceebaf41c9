"""Rigorous upper bounds of the spectral norm of convolutions, by their symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from replication.checks import check_precision
from replication.operators.paddings import aligned_tap
from replication.rows import power_of_two

SQUARED_SAFELY = 2.0**-40, 2.0**40  # sizes of kernels whose Gram matrices neither over- nor underflow in float32
SLACK = 1e-4  # of logarithms of norms, for their rounding


def spectrum(weight: Tensor, torus: Sequence[int]) -> Tensor:
    """Return the symbols (height, width//2 + 1, out, in) of the circular convolution on a torus, up to phase factors.

    Taps past the torus are wrapped around it.
    """
    if any(taps > n for taps, n in zip(weight.shape[2:], torus, strict=True)):
        folds = [
            torch.eye(n, dtype=weight.dtype, device=weight.device).repeat(taps // n + 1, 1)[:taps]
            for taps, n in zip(weight.shape[2:], torus, strict=True)
        ]
        weight = folds[0].mT @ weight @ folds[1]
    transform: Tensor = torch.fft.rfft2(weight, s=tuple(torus))
    return transform.permute(2, 3, 0, 1)


def convolution_norm_bound(
    weight: Tensor, image_size: tuple[int, int], padding: str = "zeros", iterations: int = 5
) -> Tensor:
    """Bound the spectral norm of a convolution from above, differentiably.

    With circular padding it is the largest norm of the convolution's symbol over the frequencies of the image. With
    zeros the convolution is a compression of the circular one on a torus with as many points to spare as there are
    zeros on a side, where no wrapped tap reaches the image. Each symbol's norm is bounded by ‖G‖_F^(1/2^(t+1)), where G
    is the Gram matrix of the symbol squared t times: at most a factor rank^(1/2^(t+2)) above the exact value.

    Source: Delattre et al., ICML 2023, arXiv 2305.16173 (Gram iteration).

    Args:
        weight: kernel (out, in, k, k).
        image_size: (height, width).
        padding: as for `Convolution`.
        iterations: number t of squarings.

    Returns:
        A scalar, infinite where it overflows.

    Raises:
        TypeError: if the kernel is of another dtype than float32 or float64.
    """
    check_precision(weight)
    torus = list(image_size)
    if padding != "circular":
        taps = weight.shape[-1]
        for side, (n, before) in enumerate(zip(image_size, aligned_tap(padding, taps), strict=True)):
            first, last = max(0, before - n + 1), min(taps - 1, before + n - 1)  # taps past these meet zeros only
            weight = weight.narrow(2 + side, first, last - first + 1)
            torus[side] = n + max(before - first, last - before)
    scale = safe_scale(weight)
    with torch.no_grad():
        largest = largest_symbol(spectrum(weight / scale, torus).flatten(0, 1), iterations)
    symbol = symbol_at(weight / scale, torus, largest)  # the gradient goes through this one alone
    bound = gram_norm_bound(symbol[None], iterations)[0]
    limits = torch.finfo(weight.dtype)
    return scale * bound * (1 + 1000 * limits.eps) + limits.tiny  # covers the rounding and underflow on the way


def symbol_at(weight: Tensor, torus: Sequence[int], place: int) -> Tensor:
    """Return one symbol (out, in) of `spectrum`, by its place in the flattened frequencies."""
    down, right = (
        (torch.arange(taps, device=weight.device) * frequency % n).to(weight.dtype) / n
        for taps, n, frequency in zip(weight.shape[2:], torus, divmod(place, torus[1] // 2 + 1), strict=True)
    )
    angle = -2 * math.pi * (down[:, None] + right)
    return torch.complex((weight * angle.cos()).sum((2, 3)), (weight * angle.sin()).sum((2, 3)))


def safe_scale(weight: Tensor) -> Tensor:
    """Return a power of two, of the kernel's size if it cannot be squared safely and else 1, without a gradient."""
    largest = weight.detach().abs().amax()
    low, high = SQUARED_SAFELY
    return torch.where((largest < low) | (largest > high), power_of_two(largest), 1)


def gram_norm_bound(matrices: Tensor, iterations: int) -> Tensor:
    """Bound the spectral norms (n,) of complex matrices (n, out, in) from above by squaring their Gram matrices."""
    gram, log_scale = gram_matrices(matrices)
    for _ in range(iterations):
        gram, log_scale = squared(gram, log_scale)
    return gram_log_norm(gram, log_scale, iterations).exp()


def largest_symbol(matrices: Tensor, iterations: int) -> int:
    """Return which of complex matrices (n, out, in) has the largest `gram_norm_bound`, up to rounding.

    The bounds fall with every squaring, and ‖G‖_F²/tr G ≤ ‖G‖₂ ≤ ‖G‖_F, so that most matrices need not be squared to
    the end.
    """
    gram, log_scale = gram_matrices(matrices)
    places = torch.arange(len(matrices), device=matrices.device)
    for squarings in range(iterations):
        high = gram_log_norm(gram, log_scale, squarings)
        trace = gram.diagonal(dim1=1, dim2=2).real.sum(1).clamp_min(torch.finfo(high.dtype).tiny)
        low = 2 * high - (log_scale + trace.log()) / 2 ** (squarings + 1)
        out = high < torch.minimum(low, high).max() - SLACK
        if out.any():
            gram, places = gram[~out], places[~out]
        gram, log_scale = squared(gram, log_scale)
    return int(places[gram_log_norm(gram, log_scale, iterations).argmax()])


def gram_matrices(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smaller Gram matrices of complex matrices (n, out, in), and the logarithm of their factor, 0."""
    matrices = matrices.contiguous()  # as products are fastest
    wide = matrices.shape[1] < matrices.shape[2]
    gram = matrices @ matrices.mH if wide else matrices.mH @ matrices
    return gram, gram.real.new_zeros(())


def squared(gram: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Square matrices (n, k, k) that stand for exp(log_scale) times as large ones, and keep them of the size of 1."""
    tiny = torch.finfo(gram.real.dtype).tiny
    # scaled against overflow; the result does not depend on the scale, so no gradient goes through it
    parts = torch.view_as_real(gram)
    scale = parts.detach().abs().amax().clamp_min(tiny)
    gram = torch.view_as_complex(parts / scale)
    return gram @ gram, 2 * (log_scale + scale.log())


def gram_log_norm(gram: Tensor, log_scale: Tensor, squarings: int) -> Tensor:
    """Return the logarithms (n,) of ‖G‖_F^(1/2^(t+1)) for Gram matrices that were squared t times."""
    norm = torch.linalg.vector_norm(torch.view_as_real(gram).flatten(1), dim=1)
    log_norm: Tensor = (log_scale + norm.clamp_min(torch.finfo(norm.dtype).tiny).log()) / 2 ** (squarings + 1)
    return log_norm
