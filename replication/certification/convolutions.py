"""What is proved of M = I + W₁W₂ where both are convolutions, for images of real size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from replication.certification.sparse import STRENGTHS, SparseMatrix, Stability, stability
from replication.compiled import EPSILON
from replication.conditions import POSITIVE, TINY
from replication.folds.jacobians import Entries
from replication.maps import ConvolutionalMap
from replication.operators import Convolution, aligned_tap, frobenius_norm, rounding_margin

Offset = tuple[int, int]


@dataclass(frozen=True)
class ConvolutionProduct:
    """M = I + W₁W₂, its entries computed one by one with bounds of their errors.

    Attributes:
        W1, W2: convolutions on images of one size.
    """

    W1: Convolution
    W2: Convolution

    @property
    def circular(self) -> bool:
        """Whether Fourier transforms take it apart."""
        return self.W1.circular and self.W2.circular

    @property
    def hidden(self) -> int:
        """Numbers of a pixel."""
        return self.W1.codomain[0]

    @cached_property
    def paths(self) -> dict[Offset, list[tuple[Offset, Tensor, Tensor]]]:
        """By the offset of the pixel that is seen: the offsets of those on the way, and both taps (h, c) and (c, h)."""
        paths: dict[Offset, list[tuple[Offset, Tensor, Tensor]]] = {}
        for (row, column), first in taps(self.W1):
            for (further_row, further_column), second in taps(self.W2):
                offset = (row + further_row, column + further_column)
                paths.setdefault(offset, []).append(((row, column), first, second))
        return paths

    def blocks(self, offset: Offset) -> tuple[Tensor, Tensor]:
        """Return the products of taps on every path to an offset (paths, h, h), and bounds of their errors.

        Those of a sum of any of them are at most the sums of these.
        """
        _, firsts, seconds = zip(*self.paths[offset], strict=True)
        first, second = torch.stack(firsts), torch.stack(seconds)
        terms = len(firsts) * first.shape[-1] + 8
        return first @ second, terms * (EPSILON * (first.abs() @ second.abs()) + TINY)

    @cached_property
    def matrix(self) -> SparseMatrix:
        """M by its entries, pixels first and channels after."""
        height, width = self.W1.image_size
        pixels = np.arange(height * width).reshape(height, width)
        place = pixels if width <= height else pixels.T.argsort(None).reshape(height, width)  # for a narrow band
        parts = [part for offset in self.paths for part in self.seen(offset, place)]
        rows, columns, values, doubt = (np.concatenate(part) for part in zip(*parts, strict=True))
        return SparseMatrix(Entries(height * width * self.hidden, rows, columns, values), doubt, self.hidden)

    def seen(self, offset: Offset, place: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield rows, columns, values and errors of the entries between all pixels and those at an offset from them."""
        ways, (products, doubt) = self.paths[offset], self.blocks(offset)
        open_ways = np.stack([shifted(place, way, self.circular) >= 0 for way, *_ in ways])
        target = shifted(place, offset, self.circular)
        inside = (target >= 0) & open_ways.any(0)
        if not inside.any():
            return
        chosen = torch.from_numpy(open_ways[:, inside]).double()
        values, wrong = (torch.einsum("kp,kij->pij", chosen, part) for part in (products, doubt))
        if offset == (0, 0):
            values = values + torch.eye(self.hidden, dtype=torch.float64)
            wrong = wrong + 2 * EPSILON * values.abs()
        h = np.arange(self.hidden)
        rows = place[inside][:, None, None] * self.hidden + h[:, None]
        columns = target[inside][:, None, None] * self.hidden + h
        shape = values.shape
        rows, columns = np.broadcast_to(rows, shape).ravel(), np.broadcast_to(columns, shape).ravel()
        yield rows, columns, values.numpy().ravel(), wrong.numpy().ravel()

    def stability(self) -> Stability:
        """Decide whether M is diagonally stable with one Λ for every pixel."""
        return stability(self.matrix, self.is_definite)

    def is_definite(self, scaling: np.ndarray, t: float = 0.0) -> bool:
        """Prove ΛM + MᵀΛ ≻ 2tΛ for Λ (h,), the same at every pixel."""
        if self.circular:
            return t < self.smallest_symbol(scaling)
        return self.matrix.fits and self.matrix.is_definite(scaling, t)

    def smallest_symbol(self, scaling: np.ndarray) -> float:
        """Bound from below the largest t with ΛM + MᵀΛ ⪰ 2tΛ for circular convolutions, frequency by frequency."""
        height, width = self.W1.image_size
        root = torch.from_numpy(np.sqrt(scaling))
        symbols = torch.eye(self.hidden, dtype=torch.complex128).expand(height, width, -1, -1)
        doubt = torch.zeros(self.hidden, self.hidden, dtype=torch.float64)
        for down, across in self.paths:
            products, wrong = self.blocks((down, across))
            tap = products.sum(0)
            turns = torch.outer(turning(down, height), turning(across, width))
            symbols = symbols + turns[..., None, None] * tap
            doubt = doubt + wrong.sum(0) + (len(self.paths) + 32) * EPSILON * tap.abs()
        scaled = root[:, None] * symbols / root
        doubt = root[:, None] * doubt / root * (1 + 64 * EPSILON) + 16 * EPSILON * scaled.abs().amax((0, 1))
        half = (scaled + scaled.mH) / 2
        off = frobenius_norm(doubt) + 4 * rounding_margin(half.abs()).max()
        return float(torch.linalg.eigvalsh(half)[..., 0].min() - off)


def taps(W: Convolution) -> Iterator[tuple[Offset, Tensor]]:
    """Yield the offsets of the pixels that a convolution sees, and its taps (out, in) in float64."""
    weight = W.weight.detach().cpu().double()
    down, across = aligned_tap(W.padding, weight.shape[-1])
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            yield (row - down, column - across), weight[:, :, row, column]


def turning(steps: int, size: int) -> Tensor:
    """Return exp(2πi·k·steps/size) for all k < size."""
    turns = (steps * torch.arange(size)) % size
    return torch.polar(torch.ones(size, dtype=torch.float64), 2 * torch.pi * turns.double() / size)


def shifted(place: np.ndarray, offset: Offset, circular: bool) -> np.ndarray:
    """Return the places of the pixels at an offset from every pixel, −1 where they lie outside of the image."""
    rows, columns = (np.arange(size) + step for size, step in zip(place.shape, offset, strict=True))
    if circular:
        return place[np.ix_(rows % place.shape[0], columns % place.shape[1])]
    inside = [(index >= 0) & (index < size) for index, size in zip((rows, columns), place.shape, strict=True)]
    found = place[np.ix_(rows.clip(0, place.shape[0] - 1), columns.clip(0, place.shape[1] - 1))]
    return np.where(np.logical_and.outer(*inside), found, -1)


@torch.no_grad()
def constant_of(rectifier_map: ConvolutionalMap) -> float:
    """Return K with ‖x − x′‖ ≤ K·‖f(x) − f(x′)‖ from a scaling of M, infinite where there is none.

    With ΛM + MᵀΛ ⪰ 2tΛ it is 1 + ‖W₂Λ^(−½)‖·‖Λ^½W₁‖/t, as `slopes.error_bound` shows.
    """
    product = ConvolutionProduct(rectifier_map.W1, rectifier_map.W2)
    found = product.stability()
    if found.sign != POSITIVE or found.scaling is None:
        return float("inf")
    strengths = (part * found.strength for part in STRENGTHS)
    t = next((t for t in strengths if t > 0 and product.is_definite(found.scaling, t)), 0.0)
    if not t:
        return float("inf")
    root = torch.from_numpy(np.sqrt(found.scaling))
    W1, W2 = rectifier_map.W1, rectifier_map.W2
    inward = Convolution(root[:, None, None, None] * W1.weight.detach().cpu().double(), W1.image_size, W1.padding)
    outward = Convolution(W2.weight.detach().cpu().double() / root[:, None, None], W2.image_size, W2.padding)
    return 1 + float(inward.norm_bound() * outward.norm_bound()) / t * (1 + 64 * EPSILON)
