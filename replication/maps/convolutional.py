"""Rectifier maps of convolutions, which the whole batch shares."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from replication.maps.dense import DenseMap, log_abs_det
from replication.maps.rectifier import RectifierMap
from replication.operators import CORNERS, Convolution, Dense, Gram, Operator, Product
from replication.resolvents import FACTORIZED, CausalResolvent, Resolvent, WoodburyResolvent, resolvent


@dataclass(frozen=True)
class ConvolutionalMap(RectifierMap):
    """f(x) = x + conv₂(relu(conv₁(x) + b₁)) + b₂ on images (batch, channels, height, width)."""

    W1: Convolution
    W2: Convolution

    def log_abs_det_of_piece(self, D: Tensor) -> Tensor:
        if not self.has_matrix:
            raise self.too_large()
        return log_abs_det(D.flatten(1)[:, :, None] * Product(self.W1, self.W2).matrix(D))

    def matrix(self) -> Tensor:
        if not self.has_matrix:
            raise self.too_large()
        return Product(self.W1, self.W2).matrix(self.b1).double()

    def double(self) -> ConvolutionalMap:
        """Return the same map in float64, on the processor."""
        W1, W2 = (Convolution(W.weight.detach().cpu().double(), W.image_size, W.padding) for W in (self.W1, self.W2))
        b1, b2 = (bias.detach().cpu().double() for bias in (self.b1, self.b2))
        return replace(self, W1=W1, b1=b1, W2=W2, b2=b2)

    def dense(self) -> DenseMap:
        """Return the same map of flattened images, of matrices that hold the taps as they are.

        Raises:
            ValueError: if it is too large.
        """
        if not self.has_matrix:
            raise self.too_large()
        W1, W2 = (Dense(W.matrix(W.weight).contiguous()) for W in (self.W1, self.W2))
        biases = ((self.b1, self.W1.codomain), (self.b2, self.W2.codomain))
        b1, b2 = (bias.expand(shape).flatten() for bias, shape in biases)
        return DenseMap(W1, b1, W2, b2, self.gram)

    def resolvent(self, shift: float, like: Tensor) -> Resolvent:
        inner: Operator = Gram(self.W1) if self.gram else Product(self.W2, self.W1)
        return WoodburyResolvent(self.W1, self.W2, resolvent(inner, shift, like))

    @cached_property
    def norm_bound(self) -> Tensor:
        """‖W₁‖·‖W₂‖, both bounded from above."""
        return (Gram(self.W1) if self.gram else Product(self.W1, self.W2)).norm_bound()


@dataclass(frozen=True)
class CausalMap(ConvolutionalMap):
    """A convolutional map padded at one corner only, by both convolutions.

    From that corner on, row by row, A is block lower triangular, with equal diagonal blocks: those of `pixel`.

    Source: paper B, abstract (convolutional blocks with certain zero padding; assumption A7).
    """

    @property
    def corner(self) -> str:
        """Where the zeros are."""
        return self.W1.padding

    def resolvent(self, shift: float, like: Tensor) -> Resolvent:
        K = Product(self.W2, self.W1)
        if self.gram or math.prod(K.domain) <= FACTORIZED:
            return super().resolvent(shift, like)
        inner = CausalResolvent.of(K.matrix(like), shift, self.order_from_corner().to(like.device))
        return WoodburyResolvent(self.W1, self.W2, inner)

    def order_from_corner(self) -> Tensor:
        """Return the pixels in the order in which each follows all that it sees (pixels,)."""
        height, width = self.W1.image_size
        backwards = [side for side, name in enumerate(("bottom", "right")) if name in self.corner]
        return torch.arange(height * width).reshape(height, width).flip(backwards).flatten()

    def pixel(self) -> DenseMap:
        """Return what the map does to one pixel where those that it sees are zero, for pixels (batch, channels)."""
        W1, W2 = self.W1.aligned, self.W2.aligned
        return DenseMap(Dense(W1), self.b1.flatten(), Dense(W2), self.b2.flatten(), bool((W1.mT == W2).all()))

    def log_abs_det_of_piece(self, D: Tensor) -> Tensor:
        """Return log|det(I + W₂DW₁)| (batch,) of images of any size, a sum over pixels."""
        of_pixels = self.pixel().log_abs_det_of_piece(D.movedim(1, -1).flatten(0, 2))
        return of_pixels.reshape(len(D), *D.shape[2:]).sum((1, 2))


def convolutional_map(W1: Convolution, b1: Tensor, W2: Convolution, b2: Tensor, gram: bool = False) -> ConvolutionalMap:
    """Return the map of two convolutions, causal if both are padded at one and the same corner."""
    causal = W1.padding == W2.padding and W1.padding in CORNERS
    return (CausalMap if causal else ConvolutionalMap)(W1, b1, W2, b2, gram)
