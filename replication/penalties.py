"""A penalty that keeps blocks of two ReLU layers invertible while they are trained with free weights.

For x + W₃·relu(W₂·relu(W₁x + b₁) + b₂) + b₃ the equation of the preactivations has the matrix

    A = [[0, W₁W₃], [−W₂, 0]],    scaled by θ > 0:  [[0, W₁W₃/θ], [−θW₂, 0]],

whose symmetric part has the norm ‖W₁W₃/θ − θW₂ᵀ‖/2. Below 1 the block is invertible, for activations with slopes in
[0, 1]: M = I + A is diagonally stable.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.checks import check_numbers
from replication.operators import Dense, adjoint_kernel, convolution_norm_bound

ROUNDING = 8  # margin for convolution algorithms that round more than plain sums


def monotone_defect(
    W1: Tensor, W2: Tensor, W3: Tensor, image_size: tuple[int, int] | None = None, padding: str = "zeros"
) -> Tensor:
    """Bound ‖W₁W₃/θ − θW₂ᵀ‖/2, the distance of a block from one that is monotone for all weights, differentiably.

        f(x) = x + W₃·relu(W₂·relu(W₁x + b₁) + b₂) + b₃,    θ² = ‖W₁W₃‖_F/‖W₂‖_F

    Below 1 it proves that f is invertible. The bound is rigorous for matrices, and for convolutions with circular
    padding or where W₁ or W₃ is pointwise, as in pre-activation blocks, where W₁ is the scale of a normalisation. Else
    W₁W₃ is no convolution next to the border of zeros, which the bound leaves out: then `certify` decides.

    Source: design of the package (no paper has it).

    Args:
        W1: a matrix (h₁, d), a kernel (h₁, c, k, k), or the factors (c,) of a scale.
        W2: (h₂, h₁), or a kernel (h₂, h₁, k, k) with odd k.
        W3: (d, h₂), or a kernel (c, h₂, k, k).
        image_size: (height, width), for kernels.
        padding: of the convolutions, "zeros" or "circular", k//2 on every side.

    Returns:
        A scalar.

    Raises:
        ValueError: if the weights do not fit each other, or kernels have no image size.
        TypeError: if their dtypes differ or are not float32 or float64.

    >>> W1, W3 = torch.eye(3), 5 * torch.ones(3, 2)
    >>> float(monotone_defect(W1, (W1 @ W3).T, W3)) < 1e-3
    True
    """
    check_numbers(W1=W1, W2=W2, W3=W3)
    check_parts(W1, W2, W3, image_size, padding)
    product, middle = composed(W1, W3), W2.mT if W2.ndim == 2 else adjoint_kernel(W2)
    size = max(product.shape[-1], middle.shape[-1]) if W2.ndim == 4 else 1
    if W2.ndim == 4:
        product, middle = grown(product, size), grown(middle, size)
    tiny = torch.finfo(W2.dtype).tiny ** 0.5
    theta = ((product.norm() + tiny) / (middle.norm() + tiny)).sqrt()
    defect = product / theta - theta * middle
    norm = Dense(defect).norm_bound() if image_size is None else convolution_norm_bound(defect, image_size, padding)
    with torch.no_grad():  # what rounding may have taken from the entries, where terms of like size cancel
        sizes = composed(W1.abs(), W3.abs()).norm() / theta + theta * middle.norm()
        rounding = ROUNDING * (W1[0].numel() + 4) * torch.finfo(W2.dtype).eps * size * sizes
    bound: Tensor = (norm + rounding) / 2
    return bound


def monotone_penalty(
    W1: Tensor,
    W2: Tensor,
    W3: Tensor,
    image_size: tuple[int, int] | None = None,
    padding: str = "zeros",
    target: float = 0.9,
) -> Tensor:
    """Return relu(‖W₁W₃/θ − θW₂ᵀ‖/2 − target)² of a block, to be added to the loss of its training.

    Source: design of the package (no paper has it).

    Args:
        W1, W2, W3, image_size, padding: as for `monotone_defect`.
        target: below 1, which leaves room for a certificate.

    Raises:
        ValueError, TypeError: as `monotone_defect`.

    >>> W = torch.ones(2, 2)
    >>> float(monotone_penalty(W, torch.zeros(2, 2), W)), float(monotone_penalty(W, -W, W)) > 1
    (0.0, True)
    """
    return (monotone_defect(W1, W2, W3, image_size, padding) - target).relu().square()


def penalty_of_network(network: nn.Module, weight: float, target: float = 0.9) -> Tensor:
    """Return weight·Σ monotone_penalty over the blocks of a network, as a penalty for its training.

    Args:
        network: whose blocks have a method `monotone_parts` that returns what `monotone_defect` takes.
        weight: of the sum.
        target: as for `monotone_penalty`.

    Raises:
        TypeError: if no block has this method.
    """
    parts = [part for module in network.modules() if callable(part := getattr(module, "monotone_parts", None))]
    if not parts:
        raise TypeError(
            f"{type(network).__name__} has no blocks of two ReLU layers with free weights; set training.penalty=null"
        )
    defects = torch.stack([monotone_defect(*part()) for part in parts])
    return weight * (defects - target).relu().square().sum()


def composed(W1: Tensor, W3: Tensor) -> Tensor:
    """Return the matrix or kernel of W₁W₃, on images without a border."""
    if W1.ndim == 1:
        return W1.reshape(-1, *[1] * (W3.ndim - 1)) * W3
    if W1.ndim == 2:
        return W1 @ W3
    # torch's convolutions are correlations, and those are composed by a full convolution of their kernels
    return F.conv2d(W3.transpose(0, 1), W1.flip(-2, -1), padding=W1.shape[-1] - 1).transpose(0, 1)


def grown(kernel: Tensor, size: int) -> Tensor:
    """Return a kernel with zeros around it, of the odd size `size`."""
    return F.pad(kernel, [(size - kernel.shape[-1]) // 2] * 4)


def check_parts(W1: Tensor, W2: Tensor, W3: Tensor, image_size: tuple[int, int] | None, padding: str) -> None:
    """Refuse weights that do not make up a block.

    Raises:
        ValueError: if they do not.
    """
    if (W2.ndim, W3.ndim) not in ((2, 2), (4, 4)) or W1.ndim not in (1, W2.ndim):
        raise ValueError("W1, W2 and W3 must be matrices or kernels, all three; W1 may be a vector of factors")
    if (W2.ndim == 4) != (image_size is not None):
        raise ValueError("the norm of kernels depends on the size of images: give image_size, and for kernels only")
    if any(size % 2 == 0 for W in (W1, W2, W3) if W.ndim == 4 for size in W.shape[2:]):
        raise ValueError("kernels must have odd sizes, so that images keep theirs")
    if padding not in ("zeros", "circular"):
        raise ValueError(f'padding must be "zeros" or "circular", not {padding!r}')
    inputs = W1.shape[0] if W1.ndim == 1 else W1.shape[1]
    if inputs != W3.shape[0] or W2.shape[:2] != (W3.shape[1], W1.shape[0]):
        shapes = ", ".join(str(tuple(W.shape)) for W in (W1, W2, W3))
        raise ValueError(f"W1, W2 and W3 must fit each other as (h1, d), (h2, h1), (d, h2), not {shapes}")
