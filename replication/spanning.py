"""Directed spanning sets: whether the active rows of a ReLU layer span the space at every input.

x ↦ relu(Wx + b) is injective iff for every x the rows S(x) = {j : ⟨wⱼ,x⟩ + bⱼ ≥ 0} span ℝⁿ.

Sufficient: if relu(Wx + b) = relu(Wx′ + b), a row that is active or zero at the midpoint of x and x′ has the same
preactivation at both (both are positive and equal, or both are zero), so it is orthogonal to x − x′; these rows span.
Necessary: if the rows S(x) do not span, take v ≠ 0 orthogonal to them; rows outside S(x) stay negative on a small
segment x ± tv, all of whose points have the same output.

Since S(x′) ⊆ S(x) for every x′ near x, only open cells of the arrangement {⟨wⱼ,x⟩ + bⱼ = 0} matter: a violation, if
there is one, is found where no preactivation is zero, and ≥ 0 or > 0 make no difference there.

Source: paper D (directed spanning set); the proof above also covers biases, where the paper's rule (leave out the
rows with negative bias) is sufficient but not necessary: relu(x − 1), relu(1 − x) is injective on the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp, nnls
from torch import Tensor

from replication.checks import checked_layer, neither
from replication.compiled import EPSILON, as_array
from replication.words import plain

EXACT_LIMIT = 8  # columns up to which flats are searched: seconds for one Gaussian matrix of 8, 30 ms for 6
MILP_LIMIT = 40  # columns up to which the mixed-integer program is tried
INFEASIBLE = 2  # status of scipy.optimize.milp
LARGEST = 1e150  # norm of a row, or its inverse, whose square is still a number
SLACK = 4  # roundings of W's dtype by which entries of parallel rows may differ: of both rows, their ratio and product
FAR = 1e3  # how far out directions are tried where there are biases, relative to them


@dataclass(frozen=True)
class SpanningTest:
    """What is known of the rows of a layer.

    Attributes:
        spans: True if the active rows span at every input, False if there are colliding inputs, None if unknown.
        condition: what decides: "opposite_rows", "directed_spanning_set", "milp", "collision", or None.
        reason: one sentence with the numbers, in ASCII.
        pair: where it is False, two inputs (n,) in float64 whose segment has one and the same output, else None.
    """

    spans: bool | None
    condition: str | None
    reason: str
    pair: tuple[Tensor, Tensor] | None = None

    __bool__ = neither("test.spans is True")

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", plain(self.reason))


def directed_spanning_test(
    W: Tensor, b: Tensor | None = None, time_limit: float = 60.0, general_position: bool = False, seed: int = 0
) -> SpanningTest:
    """Decide whether the active rows of x ↦ relu(Wx + b) span at every x, which is whether it is injective.

    In this order: n independent pairs of opposite rows prove it for any size; inputs with too few active rows, looked
    for in the adversarial direction, at random and by local search, refute it; flats are searched exactly up to
    EXACT_LIMIT columns; a mixed-integer program decides or gives up past them, up to MILP_LIMIT.

    Rows that are parallel or opposite to within the rounding of each entry in the dtype of W count as exactly
    so, since [B; −DB] cannot be written in floating-point numbers otherwise. All else is decided for W as it stands;
    what drowns in rounding is unknown.

    Args:
        W: (m, n).
        b: (m,), or None for zeros.
        time_limit: of the mixed-integer program, in seconds.
        general_position: whether no n rows are known to be dependent, as is almost sure for random rows; only the
            mixed-integer program asks for it.
        seed: of random directions.

    Raises:
        TypeError, ValueError: if W and b are no finite tensors of these shapes.

    >>> B = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> directed_spanning_test(torch.cat([B, -2 * B])).condition, directed_spanning_test(torch.cat([B, B])).spans
    ('opposite_rows', False)
    """
    layer = Layer.of(W, b)
    m, n = W.shape
    size = f"{m} rows, {n} columns"
    found = opposite_rows(layer)
    if found is not None:
        return SpanningTest(True, "opposite_rows", f"{found} ({size}).")
    generator = np.random.default_rng(seed)
    pair = refutation(layer, generator)
    if pair is not None:
        return refuted(layer, pair)
    if n <= EXACT_LIMIT:
        return by_flats(layer)
    if n <= MILP_LIMIT:
        return by_milp(layer, time_limit, general_position)
    return SpanningTest(None, None, f"No violation was found, and {size} are past the limits of the exact tests.")


@dataclass(frozen=True)
class Layer:
    """The rows of a layer as the tests take them, in float64.

    Rows that are parallel or opposite to the rounding of their entries (`parallel_rows`) are made so exactly.

    Attributes:
        W: rows that are not zero, each scaled to a norm between 1 and 2, by a power of two but for rows that are
            multiples of an earlier one: of these ± the earlier row (m, n).
        b: their biases, scaled alike (m,).
        factors: by which the rows are multiplied to be those that came (m,).
        line: the first row that each is parallel or opposite to, itself if there is none (m,).
        sign: along that row (m,).
        moved: ‖ΔW‖ and ‖Δb‖ by which the rows that came and their biases were moved for that.
    """

    W: np.ndarray
    b: np.ndarray
    factors: np.ndarray
    line: np.ndarray
    sign: np.ndarray
    moved: tuple[float, float]

    @classmethod
    def of(cls, W: Tensor, b: Tensor | None) -> Layer:
        """Take a weight (m, n) and a bias (m,) or None.

        Raises:
            TypeError, ValueError: as `checked_layer`.
        """
        W, b = checked_layer(W, b)
        rows, biases = as_array(W), as_array(b)
        kept = np.abs(rows).max(axis=1, initial=0) > 0
        rows, biases = rows[kept], biases[kept]
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
        norms = largest[:, 0] * np.linalg.norm(rows / largest, axis=1)
        if not ((norms >= 1 / LARGEST) & (norms <= LARGEST) & (np.abs(biases) / LARGEST <= norms)).all():
            raise ValueError(
                f"the norms of W's rows must lie between {1 / LARGEST:g} and {LARGEST:g}, and biases must be less than "
                f"{LARGEST:g} times as large; scale both row by row, which changes no verdict"
            )
        rounding = SLACK * torch.finfo(W.dtype).eps
        line, ratio = parallel_rows(rows, rounding)
        factors = np.exp2(np.floor(np.log2(norms)))[line] * np.abs(ratio)
        scaled = np.sign(ratio)[:, None] * (rows / factors[:, None])[line]
        shifts = with_common_biases(biases / factors, line, np.sign(ratio), rounding)
        of_rows = np.abs(rows - ratio[:, None] * rows[line]) + EPSILON * np.abs(rows)
        of_biases = np.abs(biases - shifts * factors) + EPSILON * np.abs(biases)
        follows = line != np.arange(len(line))
        moved = math.hypot(*of_rows[follows].flat), math.hypot(*of_biases[follows].flat)  # whatever their scale
        return cls(scaled, shifts, factors, line, np.sign(ratio), moved)

    @property
    def unit_rows(self) -> np.ndarray:
        """The rows with norm 1 (m, n)."""
        return unit(self.W)

    @property
    def original(self) -> np.ndarray:
        """The rows with the norms that they came with (m, n)."""
        return self.W * self.factors[:, None]

    def select(self, rows: np.ndarray) -> Layer:
        """Keep the marked rows."""
        kept = {name: getattr(self, name)[rows] for name in ("W", "b", "factors", "line", "sign")}
        return replace(self, **kept)

    def opposite(self) -> np.ndarray:
        """Return the pairs (pairs, 2) of rows i < j of opposite direction."""
        lines, counts = np.unique(self.line, return_counts=True)
        shared = np.flatnonzero(np.isin(self.line, lines[counts > 1]))
        line, sign = self.line[shared], self.sign[shared]
        opposite = (line[:, None] == line) & (sign[:, None] != sign)
        return shared[np.argwhere(np.triu(opposite, 1))]

    def active(self, x: np.ndarray) -> np.ndarray:
        """Return which rows are active at points x (k, n), or may be: within the rounding error of it (k, m)."""
        size = np.abs(x) @ np.abs(self.W).T + np.abs(self.b)
        return x @ self.W.T + self.b >= -(x.shape[1] + 2) * EPSILON * size


def parallel_rows(rows: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row (m, n) the first that it is a multiple of, itself if there is none, and the factor (m,).

    Entries may differ by their rounding: |wⱼ − d·wᵢ| ≤ rounding·|wⱼ|, entry by entry.
    """
    U = unit(rows / np.abs(rows).max(axis=1, keepdims=True, initial=0))
    near = np.triu(np.abs(U @ U.T) > 1 - 1e-6, 1)  # far beyond the rounding: to look at few pairs
    first, ratio = np.arange(len(rows)), np.ones(len(rows))
    for j in np.flatnonzero(near.any(axis=0)):
        for i in np.flatnonzero(near[:, j] & (first == np.arange(len(rows)))):
            largest = np.abs(rows[i]).argmax()
            d = rows[j, largest] / rows[i, largest]
            if (np.abs(rows[j] - d * rows[i]) <= rounding * np.abs(rows[j])).all():
                first[j], ratio[j] = i, d
                break
    return first, ratio


def with_common_biases(b: np.ndarray, line: np.ndarray, sign: np.ndarray, rounding: float) -> np.ndarray:
    """Return biases (m,), those on a line that name one hyperplane to rounding made equal, but for the sign."""
    b = b.copy()
    for j in np.flatnonzero(line != np.arange(len(line))):
        along = sign[j] * sign[:j] * b[:j]
        same = np.flatnonzero((line[:j] == line[j]) & (np.abs(b[j] - along) <= rounding * np.abs(along)))
        b[j] = along[same[0]] if len(same) else b[j]
    return b


def opposite_rows(layer: Layer) -> str | None:
    """Say that n pairs of opposite rows have independent directions, or return None."""
    pairs = always_active(layer)
    n = layer.W.shape[1]
    if len(pairs) < n or smallest_singular_value(layer.unit_rows[pairs[:, 0]]) <= 0:
        return None
    return f"{len(pairs)} pairs of opposite rows have directions that span, and of each pair one is always active"


def always_active(layer: Layer) -> np.ndarray:
    """Return disjoint pairs (pairs, 2) of rows of which one at least is active at every x.

    They are opposite, w and −dw, with biases b and b′ for which db + b′ ≥ 0.
    """
    used: set[int] = set()
    pairs = []
    for i, j in layer.opposite().tolist():
        if layer.b[i] + layer.b[j] >= 0 and used.isdisjoint((i, j)):
            pairs.append((i, j))
            used.update((i, j))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def smallest_singular_value(rows: np.ndarray) -> float:
    """Return σmin of rows (k, n) less its rounding error, 0 where k < n."""
    k, n = rows.shape
    if k < n:
        return 0.0
    sigma = np.linalg.svd(rows, compute_uv=False)
    return max(0.0, float(sigma[-1] - 4 * max(k, n) * EPSILON * sigma[0]))


def adversarial_direction(W: Tensor) -> Tensor:
    """Return −Σⱼ wⱼ/‖wⱼ‖ (n,), along which few rows are active.

    Source: paper D (for Gaussian W with m < 3.4n it has fewer than n active rows, as n grows).
    """
    return -torch.nn.functional.normalize(W, dim=1).sum(0)


def refutation(layer: Layer, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Look for a colliding pair where the fewest rows are active: far out in chosen directions, and near the origin."""
    W, b = layer.W, layer.b
    n = W.shape[1]
    if np.linalg.matrix_rank(W) < n if len(W) else True:
        return colliding_pair(layer, np.zeros(n))
    points = lean_points(layer, generator)
    counts = np.count_nonzero(points @ W.T + b >= 0, axis=1)
    for place in np.argsort(counts, kind="stable")[:3]:
        pair = colliding_pair(layer, points[place])
        if pair is not None:
            return pair
    return None


def lean_points(layer: Layer, generator: np.random.Generator) -> np.ndarray:
    """Return points (k, n) with few active rows: far out, the origin, and where there are biases some about as far."""
    directions = np.concatenate([leanest_directions(layer.W, generator), beside_rows(layer, generator)])
    distances, origin = np.abs(layer.b), np.zeros((1, layer.W.shape[1]))
    if not distances.any():
        return np.concatenate([directions, origin])
    near = np.quantile(distances, generator.random(64)) * np.geomspace(0.01, 10, 64)
    near = near[:, None] * generator.standard_normal((64, layer.W.shape[1]))
    return np.concatenate([(1 + FAR * distances.max()) * directions, origin, near])


def leanest_directions(W: np.ndarray, generator: np.random.Generator, starts: int = 32, steps: int = 150) -> np.ndarray:
    """Return directions (k, n) of norm 1 with few active rows, by descent of a smoothed number of active rows.

        minimise Σⱼ σ(⟨wⱼ,x⟩/τ) over the sphere, τ falling from 1/2 to 1/50 (in units of 1/√n)

    Starts are the adversarial direction and random ones; the best point on each path is returned, with its opposite.

    Args:
        W: (m, n).
        generator: of the random starts.
        starts, steps: of the descent.
    """
    n = W.shape[1]
    U = W / np.linalg.norm(W, axis=1, keepdims=True)
    x = unit(np.concatenate([-U.sum(0)[None], generator.standard_normal((starts - 1, n))]))
    best, fewest = x, np.full(starts, len(W) + 1)
    for tau in np.geomspace(0.5, 0.02, steps) / np.sqrt(n):
        along = x @ U.T
        counts = np.count_nonzero(along >= 0, axis=1)
        best = np.where((counts < fewest)[:, None], x, best)
        fewest = np.minimum(counts, fewest)
        slope = 1 / np.cosh(np.clip(along / (2 * tau), -30, 30)) ** 2
        gradient = slope @ U
        gradient -= (gradient * x).sum(1, keepdims=True) * x
        x = unit(x - tau * unit(gradient))
    return np.concatenate([best, -best])


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows (k, n) of norm 1, those of zeros as they are."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def beside_rows(layer: Layer, generator: np.random.Generator) -> np.ndarray:
    """Return the four directions ±x ± δwⱼ (4m, n), x orthogonal to wⱼ, for every row of a layer with m ≤ 2n rows.

    Where wⱼ has no opposite row the numbers of active rows at the four differ by one and add up to m twice, so one of
    them is below n: this proves the facts m < 2n and m = 2n of paper D.
    """
    m, n = layer.W.shape
    if m > 2 * n:
        return np.empty((0, n))
    U = layer.unit_rows
    x = generator.standard_normal((m, n))
    x = unit(x - (x * U).sum(1, keepdims=True) * U)
    delta = 1e-4 * np.sort(np.abs(x @ U.T), axis=1)[:, 1:2] if m > 1 else np.ones((m, 1))
    sides = np.concatenate([x + delta * U, x - delta * U])
    return np.concatenate([sides, -sides])


def colliding_pair(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return x ± tv for v orthogonal to the rows active at x (n,), none of which changes sign; None if these rows span.

    Preactivations within their rounding error of zero count as active.
    """
    W, b = layer.W, layer.b
    n = W.shape[1]
    s, active = W @ x + b, layer.active(x[None])[0]
    rows = W[active]
    _, sigma, Vt = np.linalg.svd(rows, full_matrices=True) if len(rows) else (None, np.zeros(0), np.eye(n))
    if len(sigma) == n and sigma[-1] > 4 * len(rows) * EPSILON * sigma[0]:
        return None
    v = Vt[-1]
    change = np.abs(W[~active] @ v)
    with np.errstate(over="ignore"):  # room without end
        room = np.divide(-s[~active], change, out=np.full(len(change), np.inf), where=change > 0)
    t = min(0.5 * room.min(initial=np.inf), 1 + np.linalg.norm(x))
    return x - t * v, x + t * v


def refuted(layer: Layer, pair: tuple[np.ndarray, np.ndarray]) -> SpanningTest:
    """Return the verdict of a colliding pair."""
    active = int(np.count_nonzero(layer.W @ ((pair[0] + pair[1]) / 2) + layer.b >= 0))
    n = layer.W.shape[1]
    reason = f"At an input only {active} of {len(layer.W)} rows are active, and they do not span the {n} dimensions."
    return SpanningTest(False, "collision", reason, (torch.from_numpy(pair[0]), torch.from_numpy(pair[1])))


@dataclass(frozen=True)
class Flat:
    """The span of some rows.

    Attributes:
        basis: orthonormal (k, n).
        doubt: bound of the rounding error of a distance from it.
    """

    basis: np.ndarray
    doubt: float

    def distances(self, U: np.ndarray) -> np.ndarray:
        """Return the distance of rows (m, n) from the flat (m,)."""
        outside = U - (U @ self.basis.T) @ self.basis
        return np.linalg.norm(outside, axis=1)

    def joined(self, u: np.ndarray) -> Flat:
        """Return the flat that also holds u (n,), which lies outside it for certain."""
        q = u - self.basis.T @ (self.basis @ u)
        q -= self.basis.T @ (self.basis @ q)
        distance = float(np.linalg.norm(q))
        doubt = self.doubt + 2 * (self.doubt + 8 * len(u) * EPSILON) / distance
        return Flat(np.concatenate([self.basis, q[None] / distance]), doubt)


def by_flats(layer: Layer) -> SpanningTest:
    """Decide exactly, by a search over the flats that active rows may span (`FlatSearch`)."""
    search = FlatSearch(layer)
    pair = search.violation()
    if pair is not None:
        return refuted(layer, pair)
    m, n = layer.W.shape
    if search.certain:
        reason = f"No cell's active rows lie in a hyperplane ({m} rows, {n} columns, {search.systems} systems solved)."
        return SpanningTest(True, "directed_spanning_set", reason)
    return SpanningTest(None, None, f"For {m} rows and {n} columns a cell is too thin to be told from rounding.")


class FlatSearch:
    """Look for an input whose active rows all lie in one flat F of dimension below n.

    Such an input has ⟨wⱼ,x⟩ + bⱼ < 0 for all rows outside F. Begin with F = {0}. If the rows outside F cannot all be
    negative, some λ ≥ 0, λ ≠ 0 proves it, Σⱼ λⱼ(wⱼ, bⱼ) = (0, β) with β ≥ 0, with at most n + 1 positive λⱼ (Gordan,
    Carathéodory); one of *these* rows must be active, so that it lies in F: try each in turn, and keep those tried
    before negative. F gains a dimension each time, so at most (n + 1)ⁿ⁻¹ systems, whatever m, decide; degenerate
    configurations need no care.

    What is certain: that rows outside F, whose distance exceeds its rounding error, lie outside; rows in doubt are
    dropped, which only makes violations easier to find. The combination λ is verified (`is_dependence`); what cannot be
    verified makes the search uncertain. A violation is verified by `colliding_pair`.

    Attributes:
        certain: whether every step so far was verified.
        systems: solved so far.
    """

    def __init__(self, layer: Layer) -> None:
        self.layer, self.U = layer, layer.unit_rows
        m, n = layer.W.shape
        rows = np.concatenate([layer.W, layer.b[:, None]], axis=1)
        # the last row makes the last coordinate positive; without biases it would have no effect
        self.rows = np.concatenate([rows, -np.eye(n + 1)[-1:]]) if layer.b.any() else layer.W
        self.always = np.arange(len(self.rows)) >= m
        self.certain, self.systems = True, 0

    def violation(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a colliding pair, or None."""
        n = self.layer.W.shape[1]
        return self.visit(Flat(np.empty((0, n)), 0.0), self.always)

    def visit(self, flat: Flat, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Search below a flat, with the rows (rows,) that must be negative even where they lie in it."""
        n = self.layer.W.shape[1]
        inside = np.zeros(len(self.rows), dtype=bool)
        inside[: len(self.U)] = flat.distances(self.U) <= 2 * flat.doubt + 8 * n * EPSILON
        wanted = np.flatnonzero(~inside | negative)
        self.systems += 1
        x, support = negative_point(self.rows[wanted], n)
        if x is not None:
            pair = colliding_pair(self.layer, x)
            self.certain &= pair is not None
            return pair
        support = wanted[support]
        self.certain &= is_dependence(self.rows[support])
        if len(flat.basis) == n - 1:
            return None
        for row in support[~negative[support]]:
            pair = self.visit(flat.joined(self.U[row]), negative)
            if pair is not None:
                return pair
            negative = negative | (np.arange(len(negative)) == row)
        return None


def negative_point(rows: np.ndarray, n: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return an input (n,) at which rows (k, d) are negative, or None and the indices of a combination that forbids it.

    The nonnegative least squares ‖Σ λⱼrⱼ‖² + (Σ λⱼ − 1)² → min have a residual δ = 1 − Σ λⱼ that is positive iff there
    is such a point, and then ⟨rⱼ, −Σ λᵢrᵢ⟩ ≤ −δ for all rows.

    Args:
        rows: weights, or with d = n + 1 weights and biases, the last coordinate of the point to be positive.
        n: number of inputs.
    """
    k, d = rows.shape
    try:
        weights, _ = nnls(np.concatenate([rows.T, np.ones((1, k))]), np.eye(d + 1)[-1], maxiter=100 * k + 100)
    except RuntimeError:  # no convergence
        return None, np.empty(0, dtype=int)
    point = -(rows.T @ weights)
    rounding = 8 * d * EPSILON * np.abs(rows) @ np.abs(point)
    if (rows @ point < -rounding).all() and weights.sum() < 1 - 8 * d * EPSILON:
        return (point[:n] / point[n] if d > n else point), np.empty(0, dtype=int)
    return None, np.flatnonzero(weights)


def is_dependence(rows: np.ndarray) -> bool:
    """Decide for certain whether Σ λᵢ·rowᵢ = 0 for some λ ≥ 0, λ ≠ 0, of rows (k, d).

    By floating-point numbers with a verified error bound where k = d + 1 and λ > 0, else in rational arithmetic.
    """
    k, d = rows.shape
    if k == d + 1:
        system = np.concatenate([rows.T, np.ones((1, k))])
        try:
            inverse = np.linalg.inv(system)
        except np.linalg.LinAlgError:
            return has_exact_dependence(rows)
        weights = inverse[:, -1]
        rounding = 2 * (k + 1) * EPSILON * np.abs(system) @ np.abs(weights)
        off = np.abs(system @ weights - np.eye(k)[-1]) + rounding
        gap = np.abs(np.eye(k) - inverse @ system) + 2 * (k + 1) * EPSILON * np.abs(inverse) @ np.abs(system)
        contraction = gap.sum(axis=1).max()
        if contraction < 0.5 and weights.min() > 2 * (np.abs(inverse) @ off).max():
            return True
    return has_exact_dependence(rows)


def has_exact_dependence(rows: np.ndarray) -> bool:
    """Decide in rational arithmetic whether the one dependence of rows (k, d), up to a factor, has one sign.

    False also where they have none or several.
    """
    work, pivots = eliminated(rows)
    free = [column for column in range(len(rows)) if column not in pivots]
    return len(free) == 1 and all(work[i][free[0]] <= 0 for i in range(len(pivots)))


def eliminated(rows: np.ndarray) -> tuple[list[list[Fraction]], list[int]]:
    """Return the reduced echelon form of the transpose of rows (k, d) in rational arithmetic, and its pivot columns."""
    k, d = rows.shape
    work = [[Fraction(value) for value in column] for column in rows.T.tolist()]
    pivots: list[int] = []
    for column in range(k):
        place = next((i for i in range(len(pivots), d) if work[i][column] != 0), None)
        if place is None:
            continue
        top = len(pivots)
        work[top], work[place] = work[place], work[top]
        work[top] = [value / work[top][column] for value in work[top]]
        for i in range(d):
            if i != top and work[i][column] != 0:
                work[i] = [a - work[i][column] * p for a, p in zip(work[i], work[top], strict=True)]
        pivots.append(column)
    return work, pivots


def by_milp(layer: Layer, time_limit: float, general_position: bool) -> SpanningTest:
    """Decide by mixed-integer programs, to the tolerances of HiGHS, within a time limit in seconds.

    First: is there x ≠ 0 with ⟨wⱼ,x⟩ > 0 for fewer than n rows? If not, rows in general position span at every x. For
    others then: are there x ≠ 0 and v ≠ 0 with ⟨wⱼ,x⟩ ≤ 0 or ⟨wⱼ,v⟩ = 0 for each row? If not, the rows span at
    every x. With biases the rows with bⱼ ≥ 0 are taken, which is sufficient.
    """
    rows = layer.unit_rows[layer.b >= 0]
    m, n = rows.shape
    size = f"{m} rows, {n} columns"
    programs = [counting_program] if general_position else [counting_program, spanning_program]
    for program in programs:
        parts, constraints = program(rows)
        result = milp(**parts.program(constraints), options={"time_limit": time_limit / len(programs)})
        pair = None if result.x is None else pair_nearby(layer, parts.read(result.x, "z") < 0.5)
        if pair is not None:
            return refuted(layer, pair)
        if result.status == INFEASIBLE and program is programs[-1]:
            given = ", in general position as given" if general_position else ""
            return SpanningTest(
                True, "milp", f"The mixed-integer program of a violation is infeasible ({size}{given})."
            )
        if result.status != INFEASIBLE:
            break
    return SpanningTest(None, None, f"Mixed-integer programs did not decide within {time_limit:g} s ({size}).")


def pair_nearby(layer: Layer, inactive: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a colliding pair where the rows marked among those with bⱼ ≥ 0 are negative, or None."""
    n = layer.W.shape[1]
    x, _ = negative_point(layer.W[layer.b >= 0][inactive], n)
    return None if x is None else colliding_pair(layer, unit(x[None])[0] * (1 + FAR * float(np.abs(layer.b).max())))


def counting_program(rows: np.ndarray) -> tuple[Parts, list[LinearConstraint]]:
    """Return the program that asks for x ≠ 0 at which fewer than n of the rows (m, n) are positive."""
    m, n = rows.shape
    parts = Parts({"x": n, "z": m, "above": n, "below": n})
    few = LinearConstraint(parts.block(1, z=np.ones((1, m))), 0, n - 1)
    return parts, [*positive_rows(parts, rows), few]


def spanning_program(rows: np.ndarray) -> tuple[Parts, list[LinearConstraint]]:
    """Return the program that asks for x ≠ 0 and a v ≠ 0 orthogonal to all rows (m, n) that are positive at x."""
    m, n = rows.shape
    parts = Parts({"x": n, "v": n, "z": m, "above": n, "below": n, "one": n})
    bound = np.abs(rows).sum(axis=1)
    orthogonal = [
        LinearConstraint(parts.block(m, v=sign * rows, z=np.diag(bound)), -np.inf, bound) for sign in (1.0, -1.0)
    ]
    nonzero = [
        LinearConstraint(parts.block(n, v=np.eye(n), one=-2 * np.eye(n)), -1, np.inf),
        LinearConstraint(parts.block(1, one=np.ones((1, n))), 1, 1),
    ]
    return parts, [*positive_rows(parts, rows), *orthogonal, *nonzero]


@dataclass(frozen=True)
class Parts:
    """The variables of a mixed-integer program: how many have each name; x and v in [−1, 1], the others 0 or 1."""

    sizes: dict[str, int]

    def block(self, count: int, **parts: np.ndarray) -> np.ndarray:
        """Return `count` rows of constraints, with these coefficients and zeros elsewhere."""
        return np.concatenate([parts.get(name, np.zeros((count, size))) for name, size in self.sizes.items()], axis=1)

    def program(self, constraints: list[LinearConstraint]) -> dict[str, object]:
        """Return the arguments of `scipy.optimize.milp` in search of any point that satisfies the constraints."""
        whole = np.concatenate([np.full(size, name not in ("x", "v")) for name, size in self.sizes.items()])
        bounds = Bounds(np.where(whole, 0, -1), np.ones(len(whole)))
        return {"c": np.zeros(len(whole)), "constraints": constraints, "integrality": whole, "bounds": bounds}

    def read(self, point: np.ndarray, name: str) -> np.ndarray:
        """Return the variables of a name."""
        ends = dict(zip(self.sizes, np.cumsum(list(self.sizes.values())), strict=True))
        return point[ends[name] - self.sizes[name] : ends[name]]


def positive_rows(parts: Parts, rows: np.ndarray) -> list[LinearConstraint]:
    """Return the constraints that zⱼ = 1 where ⟨wⱼ,x⟩ > 0, and that a component of x is 1 ("above") or −1 ("below")."""
    m, n = rows.shape
    eye, ones = np.eye(n), np.ones((1, n))
    return [
        LinearConstraint(parts.block(m, x=rows, z=-np.diag(np.abs(rows).sum(axis=1))), -np.inf, 0),
        LinearConstraint(parts.block(n, x=eye, above=-2 * eye), -1, np.inf),
        LinearConstraint(parts.block(n, x=eye, below=2 * eye), -np.inf, 1),
        LinearConstraint(parts.block(1, above=ones, below=ones), 1, 1),
    ]


def patch_spanning_test(kernel: Tensor, patch: int, time_limit: float = 60.0) -> SpanningTest:
    """Test a sufficient condition for x ↦ relu(kernel ∗ x) to be injective on images of patch × patch pixels or more.

    The rows are the kernel's places that lie wholly in a patch, each the kernel padded with zeros to the patch. If the
    active ones span the numbers of the patch at every input, those of all patches of an image span the image, whatever
    its padding. That they do not span decides nothing about images, so that the answer is True or None.

    Source: paper D (zero-padded kernels); the argument above is ours.

    Args:
        kernel: (out, in, k, k), of a convolution of stride 1.
        patch: width of the patch, at least k.
        time_limit: as for `directed_spanning_test`.

    Raises:
        ValueError: if the patch is smaller than the kernel.
    """
    test = directed_spanning_test(patch_rows(kernel, patch), time_limit=time_limit)
    where = f"on patches of {patch}×{patch} pixels"
    if test.spans:
        return replace(test, reason=f"{test.reason[:-1]}, {where}.")
    return SpanningTest(None, None, f"The rows of the kernel {where} are not known to span: {test.reason}")


def patch_rows(kernel: Tensor, patch: int) -> Tensor:
    """Return the kernel (out, in, k, k) at all places in a patch, padded with zeros (out·places, in·patch²)."""
    k = kernel.shape[-1]
    if patch < k:
        raise ValueError(f"the patch must be at least as wide as the kernel, {k}, not {patch}")
    free = patch - k
    places = [
        torch.nn.functional.pad(kernel, (left, free - left, top, free - top))
        for top in range(free + 1)
        for left in range(free + 1)
    ]
    return torch.cat(places).flatten(1)
