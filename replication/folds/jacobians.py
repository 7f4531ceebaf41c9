"""Jacobians of any map that keeps the shape, factorized: signs of determinants, solutions, singular vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg.lapack import dgbtrf, dgbtrs, dgetrf, dgetrs
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor

from replication.forward_mode import Map, along, jacobian_product

CHUNK = 2**17  # numbers of the inputs that are mapped at once: those of a cache, rather
BAND = 0.5  # share of the diagonals that are not zero, up to which a Jacobian is factorized as a band
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
        order: the sites in an order that makes the Jacobian a narrow band (sites,).
    """

    shape: tuple[int, ...]
    colours: np.ndarray
    owners: np.ndarray
    order: np.ndarray

    @property
    def channels(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def count(self) -> int:
        return math.prod(self.shape) // self.channels

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places in the products of `tangents`, rows and columns of the Jacobian, sites first and channels after."""
        c = self.channels
        colour, site = np.nonzero(self.owners >= 0)
        into, out = np.meshgrid(np.arange(c), np.arange(c), indexing="ij")
        place = ((colour[:, None, None] * c + into) * c + out) * self.count + site[:, None, None]
        rank = np.argsort(self.order)
        columns = rank[self.owners[colour, site]][:, None, None] * c + into
        rows = rank[site][:, None, None] * c + out
        return place.ravel(), rows.ravel(), (columns + 0 * out).ravel()

    def tangents(self, like: Tensor) -> Iterator[Tensor]:
        """Yield, in chunks (batch, *shape), ones at the sites of every colour, a channel at a time."""
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
    natural, other = np.arange(len(seen)), reverse_cuthill_mckee(csr_array(seen)).astype(int)
    return Sites(shape, colours, owners, min(natural, other, key=lambda order: bandwidth(seen, order)))


def bandwidth(seen: np.ndarray, order: np.ndarray) -> int:
    """Return the number of diagonals on both sides of the main one, in this order of the sites."""
    out, into = np.nonzero(seen[np.ix_(order, order)])
    return int(max(0, (out - into).max(initial=0)) + max(0, (into - out).max(initial=0)))


def everywhere(shape: tuple[int, ...]) -> Sites:
    """Return the sites of a map in which everything may depend on everything."""
    channels = shape[0] if len(shape) > 1 else 1
    count = math.prod(shape) // channels
    sites = np.arange(count)
    return Sites(shape, sites, np.tile(sites[:, None], (1, count)), sites)


@dataclass(frozen=True)
class Entries:
    """A square matrix by its entries, of which no two have one place.

    Attributes:
        order: its number of rows.
        rows, columns, values: of the entries, arrays of one length.
    """

    order: int
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        return np.bincount(self.rows, self.values * v[self.columns], self.order)

    @cached_property
    def band(self) -> tuple[int, int]:
        """The diagonals below and above the main one."""
        below = self.rows - self.columns
        return max(0, int(below.max())), max(0, int(-below.min()))


class Jacobians:
    """The Jacobians of a map at inputs of one shape.

    Convolutions make them bands, which take a few hundred products with the Jacobian for images of any size, and a
    factorization as a band; others are dense.

    Args:
        f: maps rows (batch, *shape), each by itself, to rows like them; in float64.
        x: one input (1, *shape).
    """

    def __init__(self, f: Map, x: Tensor) -> None:
        self.f = f
        self.sites = sites_of(f, x)
        self.together = True

    def __call__(self, x: Tensor) -> Factorization:
        """Factorize f′(x) for one input (1, *shape).

        Raises:
            ValueError: if it is dense and too large.
        """
        entries = self.entries(x)
        if sum(entries.band) < BAND * entries.order:
            return BandFactorization(entries, self.sites)
        if entries.order > DENSE_ORDER:
            raise ValueError(
                f"the Jacobian of this map at {entries.order} numbers is dense and too large to factorize (at most "
                f"{DENSE_ORDER}); use smaller inputs"
            )
        return DenseFactorization(entries, self.sites)

    def entries(self, x: Tensor) -> Entries:
        """Return f′(x), sites first and channels after, checked by a product with it."""
        found = self.assembled(x)
        v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        image = as_vector(jacobian_product(self.f, x.clone(), v), self.sites)
        wrong = np.abs(found @ as_vector(v, self.sites) - image).max()
        if wrong > 1e-9 * (1 + np.abs(image).max()):
            self.sites = everywhere(self.sites.shape)
            found = self.assembled(x)
        return found

    def assembled(self, x: Tensor) -> Entries:
        products = [self.products(x, tangents) for tangents in self.sites.tangents(x)]
        place, rows, columns = self.sites.entries
        return Entries(x.numel(), rows, columns, torch.cat(products).numpy().reshape(-1)[place])

    def products(self, x: Tensor, tangents: Tensor) -> Tensor:
        """Return f′(x) times each of some tangents (batch, *shape), from one evaluation of f where f allows it."""
        if self.together:
            try:
                products: Tensor = torch.func.vmap(lambda v: along(self.f, (x.clone(),), (v[None],))[0])(tangents)
                return products
            except Exception:  # whatever f's own code raises where it is given tangents without as many points
                self.together = False
        return jacobian_product(self.f, x.expand_as(tangents).clone(), tangents)


def as_vector(x: Tensor, sites: Sites) -> np.ndarray:
    """Return one input (1, *shape) as a vector, sites first, in their order."""
    return np.ascontiguousarray(x.detach().numpy().reshape(sites.channels, sites.count)[:, sites.order].T).reshape(-1)


def as_input(v: np.ndarray, sites: Sites) -> Tensor:
    """Return a vector, sites first, as one input (1, *shape)."""
    x = np.empty((sites.channels, sites.count))
    x[:, sites.order] = v.reshape(sites.count, sites.channels).T
    return torch.as_tensor(x).reshape(1, *sites.shape)


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

    def __init__(self, entries: Entries, sites: Sites) -> None:
        self.sites = sites
        size = float(np.linalg.norm(entries.values))
        self.sign, self.log_abs = determinant(*self.factorize(entries, 0.0))
        if not self.sign:
            self.factorize(entries, SHIFT * max(size, 1e-300))
        self.smallest = self.inverse_iteration(entries)
        if not self.smallest.value > entries.order * np.finfo(np.float64).eps * size:
            self.sign = 0

    def factorize(self, entries: Entries, shift: float) -> tuple[np.ndarray, np.ndarray]:
        """Factorize a matrix + shift·I, and return the diagonal of U and the row that each row was swapped with."""
        raise NotImplementedError

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Solve with the matrix, or its transpose."""
        raise NotImplementedError

    def solve(self, b: Tensor) -> Tensor:
        """Solve f′(x)v = b for one b (1, *shape)."""
        return as_input(self.solve_vector(as_vector(b, self.sites)), self.sites)

    def inverse_iteration(self, entries: Entries) -> Smallest:
        v = np.random.default_rng(0).standard_normal(entries.order)
        for _ in range(DIRECTIONS):
            u = normalized(self.solve_vector(v, transposed=True))
            v = normalized(self.solve_vector(u))
        image = entries @ v
        size = float(np.linalg.norm(image))
        left = image / size if size > 0 else u
        return Smallest(size, as_input(left, self.sites), as_input(v, self.sites))


class DenseFactorization(Factorization):
    """PA = LU by LAPACK."""

    def factorize(self, entries: Entries, shift: float) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.zeros(2 * (entries.order,), order="F")
        matrix[entries.rows, entries.columns] = entries.values
        matrix[np.diag_indices_from(matrix)] += shift
        self.lu, self.pivots, _ = dgetrf(matrix, overwrite_a=1)
        return np.diagonal(self.lu), self.pivots

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        return np.asarray(dgetrs(self.lu, self.pivots, b, trans=int(transposed))[0])


class BandFactorization(Factorization):
    """PA = LU of a band by LAPACK."""

    def factorize(self, entries: Entries, shift: float) -> tuple[np.ndarray, np.ndarray]:
        self.band = below, above = entries.band
        main = below + above  # the place of the main diagonal: pivoting fills diagonals above
        bands = np.zeros((main + below + 1, entries.order), order="F")
        bands[main + entries.rows - entries.columns, entries.columns] = entries.values
        bands[main] += shift
        self.lu, self.pivots, _ = dgbtrf(bands, below, above, overwrite_ab=1)
        return self.lu[main], self.pivots

    def solve_vector(self, b: np.ndarray, transposed: bool = False) -> np.ndarray:
        return np.asarray(dgbtrs(self.lu, *self.band, b, self.pivots, trans=int(transposed))[0])


def determinant(diagonal: np.ndarray, pivots: np.ndarray) -> tuple[int, float]:
    """Return the sign and log|det| of a matrix from the diagonal of U and the rows' swaps; 0 and −∞ if singular."""
    if not (np.isfinite(diagonal).all() and diagonal.all()):
        return 0, -math.inf
    swaps = int((pivots != np.arange(len(pivots))).sum())
    return (-1) ** (int((diagonal < 0).sum()) + swaps), float(np.log(np.abs(diagonal)).sum())


def normalized(v: np.ndarray) -> np.ndarray:
    largest = np.abs(v).max()
    v = v / largest if 0 < largest < np.inf else np.ones_like(v)
    return np.asarray(v / np.linalg.norm(v))
