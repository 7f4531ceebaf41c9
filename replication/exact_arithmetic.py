"""ReLU layers evaluated without rounding, in integers, by which witnesses are checked."""

from __future__ import annotations

import math
from fractions import Fraction
from operator import mul, sub

import torch
from torch import Tensor

DIGITS = 53  # of a float64


def unit_ratio(W1: Tensor, b1: Tensor, W2: Tensor, x1: Tensor, x2: Tensor) -> float | Fraction:
    """Return (‖f(x₁) − f(x₂)‖/‖x₁ − x₂‖)² for f(x) = x + W₂·relu(W₁x + b₁) + b₂, infinite where x₁ = x₂.

    Args:
        W1: (h, d).
        b1: (h,).
        W2: (d, h).
        x1, x2: (d,).
    """
    places = binary_places(W1, b1, W2, x1, x2)
    difference = list(map(sub, integers(x1, places), integers(x2, places)))
    change = list(map(sub, rectified(W1, b1, x1, places), rectified(W1, b1, x2, places)))
    moved = [
        (apart << 2 * places) + sum(map(mul, integers(row, places), change))
        for row, apart in zip(W2, difference, strict=True)
    ]
    return ratio_of_squares(moved, [apart << 2 * places for apart in difference])


def layer_ratio(W: Tensor, b: Tensor, x1: Tensor, x2: Tensor) -> float | Fraction:
    """Return (‖f(x₁) − f(x₂)‖/‖x₁ − x₂‖)² for f(x) = relu(Wx + b), infinite where x₁ = x₂.

    Args:
        W: (m, n).
        b: (m,).
        x1, x2: (n,).
    """
    places = binary_places(W, b, x1, x2)
    change = list(map(sub, rectified(W, b, x1, places), rectified(W, b, x2, places)))
    difference = map(sub, integers(x1, places), integers(x2, places))
    return ratio_of_squares(change, [apart << places for apart in difference])


def rectified(W: Tensor, b: Tensor, x: Tensor, places: int) -> list[int]:
    """Return 4^places·relu(Wx + b)."""
    numbers = integers(x, places)
    sums = [
        sum(map(mul, integers(row, places), numbers)) + (bias << places)
        for row, bias in zip(W, integers(b, places), strict=True)
    ]
    return [max(s, 0) for s in sums]


def binary_places(*tensors: Tensor) -> int:
    """Return how many binary places after the point write all numbers of these tensors."""
    exponents = [torch.frexp(tensor.double()[tensor != 0]).exponent for tensor in tensors]
    return max([DIGITS - int(e.min()) for e in exponents if len(e)] + [0])


def integers(numbers: Tensor, places: int) -> list[int]:
    """Return 2^places times numbers (n,), which have no more binary places than that."""
    ratios = map(float.as_integer_ratio, numbers.tolist())
    return [numerator << places + 1 - denominator.bit_length() for numerator, denominator in ratios]


def ratio_of_squares(above: list[int], below: list[int]) -> float | Fraction:
    """Return Σa²/Σb², infinite where the latter is 0."""
    square = sum(number * number for number in below)
    return Fraction(sum(number * number for number in above), square) if square else math.inf


def rank(matrix: Tensor) -> int:
    """Return the rank of a matrix (m, n), by elimination without fractions (Bareiss, Math. Comp. 22 (1968) 565–578)."""
    places = binary_places(matrix)
    rows, found, last = [integers(row, places) for row in matrix], 0, 1
    for column in range(matrix.shape[1]):
        pivot = next((row for row in rows if row[column]), None)
        if pivot is not None:
            rest = (row for row in rows if row is not pivot)
            rows = [
                [(a * pivot[column] - b * row[column]) // last for a, b in zip(row, pivot, strict=True)] for row in rest
            ]
            found, last = found + 1, pivot[column]
    return found
