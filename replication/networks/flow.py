"""A normalizing flow of causal units: exact likelihoods without a norm constraint, samples by the inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.networks.layerwise import LayerwiseNetwork, NetworkSolution
from replication.parametrizations import cached
from replication.units import Affine, CausalConvUnit, Flip, Layer, Orthogonal1x1, SpaceToDepth


class CausalFlow(LayerwiseNetwork):
    """Model images x by z = f(x) with independent logistic z.

        log p(x) = Σᵢ log σ′(f(x)ᵢ) + log|det ∂f/∂x|,   σ(z) = 1/(1 + e⁻ᶻ)

    f is an affine layer and stages of space-to-depth and groups of [causal unit → affine → orthogonal 1×1 convolution →
    half a turn], whose log-determinants are exact sums over pixels.

    Source: not of the papers; its units are reconstructed, assumption A7. The flows of Behrmann et al., ICML 2019,
    arXiv 1811.00995, need norms below 1 and estimate the log-determinant; the logistic z are those of Dinh, Krueger
    and Bengio, arXiv 1410.8516.

    Args:
        image_shape: (channels, height, width); height and width divisible by 2^len(hidden).
        unit: makes a unit from channels, hidden and image_size.
        hidden: hidden channels of the units, one number for each stage.
        units_per_stage: number of groups in each stage.

    Raises:
        ValueError: if the image size is not divisible.

    >>> from replication import MonotoneCausalConvUnit
    >>> flow = CausalFlow((1, 4, 4), MonotoneCausalConvUnit, hidden=(2,), units_per_stage=1).double()
    >>> flow.log_prob(torch.zeros(3, 1, 4, 4, dtype=torch.float64)).shape
    torch.Size([3])
    >>> flow.sample(2, torch.Generator().manual_seed(0)).converged
    tensor([True, True])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        unit: Callable[..., CausalConvUnit],
        hidden: tuple[int, ...] = (16, 32),
        units_per_stage: int = 3,
    ) -> None:
        channels, height, width = image_shape
        if height % 2 ** len(hidden) or width % 2 ** len(hidden):
            raise ValueError(f"{height}×{width} images cannot be halved {len(hidden)} times")
        layers: list[Layer] = [Affine(image_shape)]
        for hidden_channels in hidden:
            channels, height, width = 4 * channels, height // 2, width // 2
            layers.append(SpaceToDepth())
            for _ in range(units_per_stage):
                layers.append(unit(channels=channels, hidden=hidden_channels, image_size=(height, width)))
                layers += [Affine((channels, height, width)), Orthogonal1x1(channels), Flip()]
        super().__init__(*layers)
        self.image_shape, self.latent_shape = tuple(image_shape), (channels, height, width)

    @property
    def units(self) -> Sequence[CausalConvUnit]:
        return cast("Sequence[CausalConvUnit]", super().units)

    def log_prob(self, images: Tensor) -> Tensor:
        """Return log p(x) (batch,), in nats, for images (batch, *image_shape); differentiable."""
        log_det, value = images.new_zeros(len(images)), images
        with cached():
            for layer in map(self.layer, range(len(self.hidden_layers))):
                log_det = log_det + layer.log_abs_det_jacobian(value)
                value = layer(value)
        logistic = -(value + 2 * F.softplus(-value)).flatten(1).sum(1)
        return logistic + log_det

    @torch.no_grad()
    def sample(self, rows: int, generator: torch.Generator) -> NetworkSolution:
        """Draw images: a solution whose value is (batch, *image_shape), with a status for every row.

        Args:
            rows: number of images.
            generator: source of randomness, on the CPU.
        """
        like = next(self.parameters())
        uniform = torch.rand(rows, *self.latent_shape, generator=generator, dtype=torch.float64)
        return self.inverse(torch.logit(uniform, eps=torch.finfo(torch.float64).tiny).to(like))
