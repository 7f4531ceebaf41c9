"""Rigorous upper bounds of the spectral norm of convolutions, by their symbols."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from replication.checks import check_precision
from replication.operators.paddings import aligned_tap
from replication.rows import power_of_two

SQUARED_SAFELY = 2.0**-40, 2.0**40  # sizes of kernels whose Gram matrices neither over- nor underflow in float32


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
    symbols = spectrum(weight / scale, torus).flatten(0, 1)
    with torch.no_grad():
        largest = gram_norm_bound(symbols, iterations).argmax()
    bound = gram_norm_bound(symbols[largest : largest + 1], iterations)[0]  # the gradient goes through this one alone
    limits = torch.finfo(weight.dtype)
    return scale * bound * (1 + 1000 * limits.eps) + limits.tiny  # covers the rounding and underflow on the way


def safe_scale(weight: Tensor) -> Tensor:
    """Return a power of two, of the kernel's size if it cannot be squared safely and else 1, without a gradient."""
    largest = weight.detach().abs().amax()
    low, high = SQUARED_SAFELY
    return torch.where((largest < low) | (largest > high), power_of_two(largest), 1)


def gram_norm_bound(matrices: Tensor, iterations: int) -> Tensor:
    """Bound the spectral norms (n,) of complex matrices (n, out, in) from above by squaring their Gram matrices."""
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.mH
    gram = matrices.mH @ matrices
    tiny = torch.finfo(gram.real.dtype).tiny
    log_scale = gram.real.new_zeros(())
    for _ in range(iterations):
        # scaled against overflow; the result does not depend on the scale, so no gradient goes through it
        scale = torch.view_as_real(gram.detach()).abs().amax().clamp_min(tiny)
        gram = gram / scale
        gram = gram @ gram
        log_scale = 2 * (log_scale + scale.log())
    squared = torch.view_as_real(gram).square().sum(dim=(1, 2, 3)).clamp_min(tiny)
    log_norm: Tensor = (log_scale + squared.log() / 2) / 2 ** (iterations + 1)
    return log_norm.exp()
