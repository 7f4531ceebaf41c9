"""Jacobians of any map that keeps the shape, factorized: signs of determinants, solutions, singular vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.linalg.lapack import dgetrf, dgetrs
from scipy.sparse import csc_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from torch import Tensor

from replication.solvers.newton_gmres import jacobian_product

Map = Callable[[Tensor], Tensor]
Matrix = Any  # np.ndarray or csc_array, which has no types
CHUNK = 2**20  # numbers of the inputs that are mapped at once
SPARSE_SHARE = 0.2  # of sites that see each other, up to which a Jacobian is factorized as a sparse matrix
DENSE_ORDER = 8192  # of a dense Jacobian, at most: 512 MiB
SHIFT = 1e-10  # of a singular matrix, relative, so that a vector of its null space can be found
DIRECTIONS = 3  # steps of inverse iteration


@dataclass(frozen=True)
class Sites:
    """Which numbers of the output may depend on which of the input, by sites: pixels with all their channels.

    Attributes:
        shape: of one input; its first dimension holds the channels of a site, where there is more than one dimension.
        colours: a number for each site (sites,); sites of one colour reach no site of the output in common.
        owners: the site of this colour that reaches a site of the output, or −1 (colours, sites).
    """

    shape: tuple[int, ...]
    colours: np.ndarray
    owners: np.ndarray

    @property
    def channels(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def count(self) -> int:
        return math.prod(self.shape) // self.channels

    @property
    def share(self) -> float:
        """The share of pairs of sites that see each other."""
        return float((self.owners >= 0).sum()) / self.count**2

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places in the products of `tangents`, rows and columns of the Jacobian, sites first and channels after."""
        c = self.channels
        colour, site = np.nonzero(self.owners >= 0)
        into, out = np.meshgrid(np.arange(c), np.arange(c), indexing="ij")
        place = ((colour[:, None, None] * c + into) * c + out) * self.count + site[:, None, None]
        columns = self.owners[colour, site][:, None, None] * c + into
        rows = site[:, None, None] * c + out
        return place.ravel(), rows.ravel(), (columns + 0 * out).ravel()

    def tangents(self, like: Tensor) -> Iterator[Tensor]:
        """Yield, in chunks (rows, *shape), ones at the sites of every colour, a channel at a time."""
        chosen = torch.as_tensor(self.colours == np.arange(len(self.owners))[:, None]).to(like)
        step = max(1, CHUNK // (self.channels * math.prod(self.shape)))
        for some in chosen.split(step):
            each = torch.einsum("ab,ks->kabs", torch.eye(self.channels, dtype=like.dtype), some)
            yield each.reshape(-1, *self.shape)


def sites_of(f: Map, x: Tensor) -> Sites:
    """Find what depends on what in a map, at any input, by marking sites with NaN, which no sum or product loses.

    Args:
        f: the map of rows.
        x: one finite input (1, *shape).

    Returns:
        The sites; all that see all, where f is not finite at x. What an activation hides from NaN (`torch.where`) is
        found out by `Jacobians`, which compares with a product.
    """
    shape = tuple(x.shape[1:])
    channels = shape[0] if len(shape) > 1 else 1
    count = x.numel() // channels
    seen = np.ones((count, count), dtype=bool)
    if torch.isfinite(f(x.clone())).all():
        marks = torch.eye(count, dtype=torch.bool)
        found = []
        for some in marks.split(max(1, CHUNK // x.numel())):
            marked = torch.where(some[:, None, :], torch.nan, x.reshape(1, channels, count))
            found.append(torch.isnan(f(marked.reshape(-1, *shape))).reshape(len(some), channels, count).any(1))
        seen = torch.cat(found).numpy().T
    return coloured(shape, seen)


def coloured(shape: tuple[int, ...], seen: np.ndarray) -> Sites:
    """Give sites of the input the first colour that none has with which they reach a site of the output in common."""
    overlap = seen.T.astype(np.float32) @ seen.astype(np.float32) > 0
    colours = np.full(len(seen), -1)
    for site, near in enumerate(overlap):
        taken = set(colours[near].tolist())
        colours[site] = next(colour for colour in range(len(seen) + 1) if colour not in taken)
    owners = np.full((colours.max() + 1, len(seen)), -1)
    out, into = np.nonzero(seen)
    owners[colours[into], out] = into
    return Sites(shape, colours, owners)


def everywhere(shape: tuple[int, ...]) -> Sites:
    """Return the sites of a map in which everything may depend on everything."""
    channels = shape[0] if len(shape) > 1 else 1
    count = math.prod(shape) // channels
    return Sites(shape, np.arange(count), np.tile(np.arange(count)[:, None], (1, count)))


class Jacobians:
    """The Jacobians of a map at inputs of one shape.

    Convolutions make them sparse, which takes a few hundred products with the Jacobian for images of any size, and a
    sparse factorization; others are dense.

    Args:
        f: maps rows (rows, *shape), each by itself, to rows like them; in float64.
        x: one input (1, *shape).
    """

    def __init__(self, f: Map, x: Tensor) -> None:
        self.f = f
        self.sites = sites_of(f, x)

    def __call__(self, x: Tensor) -> Factorization:
        """Factorize f′(x) for one input (1, *shape)."""
        matrix = self.matrix(x)
        kind = DenseFactorization if isinstance(matrix, np.ndarray) else SparseFactorization
        return kind(matrix, self.sites)

    def matrix(self, x: Tensor) -> Matrix:
        """Return f′(x), sites first and channels after, checked by a product with it."""
        matrix = self.assembled(x)
        v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        image = as_vector(jacobian_product(self.f, x.clone(), v), self.sites)
        wrong = np.abs(matrix @ as_vector(v, self.sites) - image).max()
        if wrong > 1e-9 * (1 + np.abs(image).max()):
            self.sites = everywhere(self.sites.shape)
            matrix = self.assembled(x)
        return matrix

    def assembled(self, x: Tensor) -> Matrix:
        dense = self.sites.share > SPARSE_SHARE
        if dense and x.numel() > DENSE_ORDER:
            raise ValueError(
                f"the Jacobian of this map at {x.numel()} numbers is dense and too large to factorize (at most "
                f"{DENSE_ORDER}); use smaller inputs"
            )
        products = [
            jacobian_product(self.f, x.expand_as(tangents).clone(), tangents) for tangents in self.sites.tangents(x)
        ]
        place, rows, columns = self.sites.entries
        values = torch.cat(products).numpy().reshape(-1)[place]
        if not dense:
            return csc_array((values, (rows, columns)), shape=2 * (x.numel(),))
        matrix = np.zeros(2 * (x.numel(),))
        matrix[rows, columns] = values
        return matrix


def as_vector(x: Tensor, sites: Sites) -> np.ndarray:
    """Return one input (1, *shape) as a vector, sites first."""
    return np.ascontiguousarray(x.detach().numpy().reshape(sites.channels, sites.count).T).reshape(-1)


def as_input(v: np.ndarray, sites: Sites) -> Tensor:
    """Return a vector, sites first, as one input (1, *shape)."""
    return torch.as_tensor(np.ascontiguousarray(v.reshape(sites.count, sites.channels).T)).reshape(1, *sites.shape)


@dataclass(frozen=True)
class Smallest:
    """The smallest singular value of a matrix with its vectors: Jv = σu.

    Attributes:
        value: σ.
        left: u, one input (1, *shape).
        right: v, likewise.
    """

    value: float
    left: Tensor
    right: Tensor


class Factorization:
    """A factorized Jacobian.

    Attributes:
        sign: of its determinant: 1, −1, or 0 where it is singular to the rounding of its entries.
        log_abs: log|det|, −∞ where the factorization met a zero.
        smallest: its smallest singular value and vectors, by inverse iteration: the value is an upper bound.
    """

    sign: int
    log_abs: float
    smallest: Smallest

    def __init__(self, matrix: Matrix, sites: Sites) -> None:
        self.sites = sites
        size = float(np.sqrt((matrix.data**2).sum() if isinstance(matrix, csc_array) else (matrix**2).sum()))
        self.sign, self.log_abs = self.factorize(matrix)
        if not self.sign:
            self.factorize(shifted(matrix, SHIFT * max(size, 1e-300)))
        self.smallest = self.inverse_iteration(matrix)
        if not self.smallest.value > matrix.shape[0] * np.finfo(np.float64).eps * size:
            self.sign = 0

    def factorize(self, matrix: Matrix) -> tuple[int, float]:
        """Factorize a matrix and return the sign and the logarithm of its determinant."""
        raise NotImplementedError

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Solve with the matrix, or its transpose."""
        raise NotImplementedError

    def solve(self, b: Tensor) -> Tensor:
        """Solve f′(x)v = b for one b (1, *shape)."""
        return as_input(self.solve_vector(as_vector(b, self.sites)), self.sites)

    def inverse_iteration(self, matrix: Matrix) -> Smallest:
        v = np.random.default_rng(0).standard_normal(matrix.shape[0])
        for _ in range(DIRECTIONS):
            u = normalized(self.solve_vector(v, transposed=True))
            v = normalized(self.solve_vector(u))
        image = matrix @ v
        size = float(np.linalg.norm(image))
        left = image / size if size > 0 else u
        return Smallest(size, as_input(left, self.sites), as_input(v, self.sites))


class DenseFactorization(Factorization):
    """PA = LU by LAPACK."""

    def factorize(self, matrix: np.ndarray) -> tuple[int, float]:
        self.lu, self.pivots, _ = dgetrf(matrix)
        swaps = int((self.pivots != np.arange(len(matrix))).sum())
        return determinant(np.diagonal(self.lu), swaps)

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        return np.asarray(dgetrs(self.lu, self.pivots, b, trans=int(transposed))[0])


class SparseFactorization(Factorization):
    """P₁AP₂ = LU by SuperLU."""

    def factorize(self, matrix: csc_array) -> tuple[int, float]:
        try:
            self.lu = splu(matrix)
        except RuntimeError:  # which it raises where a pivot is zero
            return 0, -math.inf
        swaps = transpositions(self.lu.perm_r) + transpositions(self.lu.perm_c)
        return determinant(self.lu.U.diagonal(), swaps)

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        return np.asarray(self.lu.solve(b, "T" if transposed else "N"))


def shifted(matrix: Matrix, shift: float) -> Matrix:
    """Return A + shift·I."""
    if isinstance(matrix, csc_array):
        n = matrix.shape[0]
        return csc_array(matrix + shift * csc_array((np.ones(n), (np.arange(n), np.arange(n)))))
    return matrix + shift * np.eye(len(matrix))


def determinant(diagonal: np.ndarray, swaps: int) -> tuple[int, float]:
    """Return the sign and log|det| of a matrix from the diagonal of U and the swaps of rows and columns."""
    if not (np.isfinite(diagonal).all() and diagonal.all()):
        return 0, -math.inf
    return (-1) ** (int((diagonal < 0).sum()) + swaps), float(np.log(np.abs(diagonal)).sum())


def transpositions(permutation: np.ndarray) -> int:
    """Return how many transpositions make up a permutation: its length less the number of its cycles."""
    n = len(permutation)
    edges = csc_array((np.ones(n), (np.arange(n), permutation)), shape=(n, n))
    return n - int(connected_components(edges, directed=False, return_labels=False))


def normalized(v: np.ndarray) -> np.ndarray:
    largest = np.abs(v).max()
    v = v / largest if 0 < largest < np.inf else np.ones_like(v)
    return np.asarray(v / np.linalg.norm(v))
