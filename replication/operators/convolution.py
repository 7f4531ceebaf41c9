"""Convolutions of stride 1 that keep the image size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from replication.operators.norms import convolution_norm_bound, spectrum
from replication.operators.operator import Weighted
from replication.operators.paddings import OPPOSITE, aligned_tap, check_padding

FEWER = 3  # times as many inputs as outputs: from there on scattering, which unfolds less, is 1.3 to 2.6 times faster
PATCHES = 2**17  # numbers of unfolded images that stay in a processor's cache, 1 MiB: two to three times faster so


class Convolution(Weighted):
    """A convolution of stride 1 that keeps the image size.

    Source: design of the network, assumption A6; with padding at one corner paper B, abstract, assumption A7.

    Args:
        weight: kernel (out, in, k, k).
        image_size: (height, width) of the images it acts on.
        padding: "zeros" or "circular", k//2 points on every side; or a corner, "top-left", say: k − 1 zeros on those
            two sides only.

    Raises:
        ValueError: if the padding is none of these or does not fit the kernel and the image (`check_padding`).
    """

    def __init__(self, weight: Tensor, image_size: tuple[int, int], padding: str = "zeros") -> None:
        check_padding(padding, weight.shape[-1], image_size)
        self.weight, self.image_size, self.padding = weight, image_size, padding
        self.terms = weight[0].numel()
        self.codomain, self.domain = (weight.shape[0], *image_size), (weight.shape[1], *image_size)

    @property
    def circular(self) -> bool:
        return self.padding == "circular"

    def symbols(self) -> Tensor:
        if not self.circular:
            return super().symbols()
        height, width = self.image_size
        radius = self.weight.shape[-1] // 2
        like = {"dtype": self.weight.dtype, "device": self.weight.device}
        turns = torch.fft.fftfreq(height, **like)[:, None] + torch.fft.rfftfreq(width, **like)
        # torch's convolutions are correlations, centred on the middle tap
        phase = torch.polar(torch.ones_like(turns), -2 * math.pi * radius * turns)
        return spectrum(self.weight, self.image_size).conj() * phase[..., None, None]

    def seen(self) -> Tensor:
        """Return the input pixel that every tap of every output pixel sees (taps, pixels), −1 for a zero around."""
        places, inside = [], []
        for side, before in zip(self.image_size, aligned_tap(self.padding, self.weight.shape[-1]), strict=True):
            place = torch.arange(side) + torch.arange(self.weight.shape[-1])[:, None] - before
            places.append(place % side if self.circular else place)
            inside.append((places[-1] >= 0) & (places[-1] < side))
        (rows, columns), (above, beside) = places, inside
        pixels = rows[:, None, :, None] * self.image_size[1] + columns[None, :, None, :]
        pixels[~(above[:, None, :, None] & beside[None, :, None, :])] = -1
        return pixels.flatten(2).flatten(0, 1)

    def taps(self, like: Tensor) -> Tensor:
        """Return the matrix (out, in) of every tap (taps, out, in), of the dtype and device of `like`."""
        return self.weight.flatten(2).permute(2, 0, 1).to(like)

    def entries(self, like: Tensor) -> Tensor:
        seen = self.seen()
        tap, site = torch.nonzero(seen >= 0, as_tuple=True)
        return of_blocks(self.taps(like)[tap], site, seen[tap, site], math.prod(self.image_size))

    @property
    def aligned(self) -> Tensor:
        """The tap (out, in) that takes each pixel to itself."""
        row, column = aligned_tap(self.padding, self.weight.shape[-1])
        return self.weight[:, :, row, column]

    def without_aligned(self) -> Convolution:
        """Return the convolution of the other pixels alone."""
        weight = self.weight.clone()
        row, column = aligned_tap(self.padding, self.weight.shape[-1])
        weight[:, :, row, column] = 0
        return Convolution(weight, self.image_size, self.padding)

    def __call__(self, v: Tensor) -> Tensor:
        return self.convolve(v, None)

    def affine(self, v: Tensor, bias: Tensor) -> Tensor:
        return self.convolve(v, bias.expand(len(self.weight), 1, 1).flatten())

    def convolve(self, v: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve, and add a bias to each channel (out,).

        In float64, where torch unfolds all images of a batch at once, a few images are taken at a time, or a few rows
        of one.
        """
        if v.dtype != torch.float64 or v.device.type != "cpu":
            return self.gathered(v, bias)
        if self.terms * math.prod(self.image_size) > PATCHES:
            return torch.cat([self.by_strips(image, bias) for image in self.padded(v).split(1)])
        scatters = FEWER * len(self.weight) <= self.weight.shape[1] and not self.circular
        at_once = self.scattered if scatters else self.gathered
        rows = max(1, PATCHES // (self.terms * self.image_size[0] * self.image_size[1]))
        return at_once(v, bias) if len(v) <= rows else torch.cat([at_once(part, bias) for part in v.split(rows)])

    def gathered(self, v: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve all images of a batch together, by what every pixel takes from its neighbours."""
        if self.padding == "zeros":
            return F.conv2d(v, self.weight, bias, padding=self.weight.shape[-1] // 2)
        return F.conv2d(self.padded(v), self.weight, bias)

    def padded(self, v: Tensor) -> Tensor:
        """Return images with what lies around them."""
        kernel_size = self.weight.shape[-1]
        top, left = aligned_tap(self.padding, kernel_size)
        sides = (left, kernel_size - 1 - left, top, kernel_size - 1 - top)
        return F.pad(v, sides, mode="circular" if self.padding == "circular" else "constant")

    def by_strips(self, padded: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve one padded image, a few rows of pixels at a time: 1.5 to 4 times faster from 64×64 on."""
        height, width = self.image_size
        rows = max(1, PATCHES // (self.terms * width))
        strips = [padded[:, :, top : top + rows + self.weight.shape[-1] - 1] for top in range(0, height, rows)]
        return torch.cat([F.conv2d(strip, self.weight, bias) for strip in strips], 2)

    def scattered(self, v: Tensor, bias: Tensor | None) -> Tensor:
        """Do the same by what every pixel adds to its neighbours, some of them beyond zero borders."""
        last = self.weight.shape[-1] - 1
        top, left = (last - before for before in aligned_tap(self.padding, last + 1))
        height, width = self.image_size
        added = F.conv_transpose2d(v, adjoint_kernel(self.weight), bias)
        return added[:, :, top : top + height, left : left + width]

    def adjoint(self) -> Convolution:
        padding = OPPOSITE.get(self.padding, self.padding)
        return Convolution(adjoint_kernel(self.weight), self.image_size, padding)

    def norm_bound(self) -> Tensor:
        return convolution_norm_bound(self.weight, self.image_size, self.padding)

    def absolute_bound(self) -> Tensor:
        size = self.weight.abs()
        return size.sum((1, 2, 3)).amax().sqrt() * size.sum((0, 2, 3)).amax().sqrt()


def of_blocks(blocks: Tensor, site: Tensor, pixel: Tensor, pixels: int) -> Tensor:
    """Return the matrix (out·pixels, in·pixels) with the sums of blocks (number, out, in), each at its two pixels."""
    _, out, into = blocks.shape
    matrix = blocks.new_zeros(pixels, pixels, out, into).index_put((site, pixel), blocks, accumulate=True)
    return matrix.permute(2, 0, 3, 1).reshape(out * pixels, into * pixels)


def adjoint_kernel(weight: Tensor) -> Tensor:
    """Return the kernel (in, out, k, k) of the adjoint of a convolution with kernel (out, in, k, k)."""
    return weight.transpose(0, 1).flip(-2, -1)
