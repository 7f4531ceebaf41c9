"""Independent answers to check the package against: naive, slow, and written differently."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction

import numpy as np


def forward(x: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """x + W₂·relu(W₁x + b₁) + b₂, one row at a time."""
    return np.array([row + W2 @ np.maximum(W1 @ row + b1, 0) + b2 for row in x])


def preimages(
    y: np.ndarray, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray, slack: float = 1e-9
) -> list[np.ndarray]:
    """All x with f(x) = y, by solving the linear system of each of the 2ʰ sign patterns of W₁x + b₁."""
    found: list[np.ndarray] = []
    d = len(y)
    for pattern in itertools.product((0.0, 1.0), repeat=len(b1)):
        D = np.diag(pattern)
        J = np.eye(d) + W2 @ D @ W1
        if abs(np.linalg.det(J)) < 1e-12:
            continue
        x = np.linalg.solve(J, y - b2 - W2 @ D @ b1)
        s = W1 @ x + b1
        agrees = np.all(np.where(np.array(pattern) > 0, s >= -slack, s <= slack))
        if agrees and not any(np.allclose(x, other, atol=1e-7) for other in found):
            found.append(x)
    return found


def smallest_singular_value(W1: np.ndarray, W2: np.ndarray) -> float:
    """The smallest singular value of the Jacobian I + W₂DW₁ over all sign patterns D."""
    d, h = W2.shape
    patterns = itertools.product((0.0, 1.0), repeat=h)
    return min(np.linalg.svd(np.eye(d) + W2 @ np.diag(p) @ W1, compute_uv=False)[-1] for p in patterns)


def naive_banach(y: np.ndarray, steps: int, *unit: np.ndarray) -> np.ndarray:
    """The existing method, for one row: x ← y − g(x)."""
    x = y.copy()
    for _ in range(steps):
        x = y - (forward(x[None], *unit)[0] - x)
    return x


def naive_modulus(
    y: np.ndarray, steps: int, W1: np.ndarray, b1: np.ndarray, W2: np.ndarray, b2: np.ndarray
) -> np.ndarray:
    """The proposed method, for one row, as the paper's abstract is read here: (I + A/2)s ← c − (A/2)|s| from s = c."""
    A, c = W1 @ W2, W1 @ (y - b2) + b1
    s = c.copy()
    for _ in range(steps):
        s = np.linalg.solve(np.eye(len(c)) + A / 2, c - A @ np.abs(s) / 2)
    return y - b2 - W2 @ np.maximum(s, 0)


def convolution_matrix(weight: np.ndarray, height: int, width: int, padding: str = "zeros") -> np.ndarray:
    """The matrix of a convolution of stride 1, tap by tap: padded on all sides, or with k − 1 zeros at one corner."""
    out, into, k, _ = weight.shape
    up, left = (k // 2, k // 2) if padding in ("zeros", "circular") else (
        {"top": k - 1, "bottom": 0}[padding.split("-")[0]], {"left": k - 1, "right": 0}[padding.split("-")[1]]
    )  # fmt: skip
    matrix = np.zeros((out, height, width, into, height, width))
    for i, j, a, b in itertools.product(range(height), range(width), range(k), range(k)):
        p, q = i + a - up, j + b - left
        if padding == "circular":
            p, q = p % height, q % width
        if 0 <= p < height and 0 <= q < width:
            matrix[:, i, j, :, p, q] += weight[:, :, a, b]
    return matrix.reshape(out * height * width, into * height * width)


Vector = list[Fraction]


class ExactUnit:
    """x + W₂·relu(W₁x + b₁) + b₂ in rational arithmetic."""

    def __init__(self, *parameters: np.ndarray) -> None:
        self.W1, self.b1, self.W2, self.b2 = (rational(array) for array in parameters)

    def __call__(self, x: Vector) -> Vector:
        z = [max(s, Fraction(0)) for s in affine(self.W1, x, self.b1)]
        return [a + b for a, b in zip(x, affine(self.W2, z, self.b2), strict=True)]

    def size(self, x: Vector, y: Vector) -> Fraction:
        """A bound of ‖x‖ + ‖b₂‖ + ‖y‖ + ‖|W₂|(|W₁||x| + |b₁|)‖: of all that is added up in f(x) − y."""
        W1, W2 = ([[abs(w) for w in row] for row in W] for W in (self.W1, self.W2))
        sums = affine(W2, affine(W1, map(abs, x), map(abs, self.b1)), map(abs, self.b2))
        return sum(abs(a) + abs(b) + c for a, b, c in zip(x, y, sums, strict=True))

    def preimages(self, y: Vector) -> list[Vector]:
        """All x with f(x) = y but those in singular pieces, by the linear system of each sign pattern."""
        found: list[Vector] = []
        right = [a - b for a, b in zip(y, self.b2, strict=True)]
        for pattern in itertools.product((0, 1), repeat=len(self.b1)):
            inside = [k for k, active in enumerate(pattern) if active]
            J = [
                [Fraction(i == j) + sum(self.W2[i][k] * self.W1[k][j] for k in inside) for j in range(len(y))]
                for i in range(len(y))
            ]
            x = solved(J, [a - sum(row[k] * self.b1[k] for k in inside) for a, row in zip(right, self.W2, strict=True)])
            if x is None or x in found:
                continue
            s = affine(self.W1, x, self.b1)
            if all(v >= 0 if active else v <= 0 for v, active in zip(s, pattern, strict=True)):
                found.append(x)
        return found


def rational(array: np.ndarray) -> list:
    """The numbers of an array as fractions, which they are."""
    return [rational(row) if isinstance(row, np.ndarray) else Fraction(float(row)) for row in array]


def affine(W: list[Vector], x: Iterable[Fraction], b: Iterable[Fraction]) -> Vector:
    """Wx + b."""
    x = list(x)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + c for row, c in zip(W, b, strict=True)]


def solved(matrix: list[Vector], right: Vector) -> Vector | None:
    """The solution of a small rational system, by Gauss and Jordan, or None where it is singular."""
    n, work = len(right), [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for k in range(n):
        pivot = next((i for i in range(k, n) if work[i][k] != 0), None)
        if pivot is None:
            return None
        work[k], work[pivot] = work[pivot], work[k]
        for i in range(n):
            if i != k:
                factor = work[i][k] / work[k][k]
                work[i] = [a - factor * b for a, b in zip(work[i], work[k], strict=True)]
    return [work[i][n] / work[i][i] for i in range(n)]


def squared_distance(a: Vector, b: Vector) -> Fraction:
    """‖a − b‖²."""
    return sum(((p - q) ** 2 for p, q in zip(a, b, strict=True)), Fraction(0))


def exact_minors(W1: np.ndarray, W2: np.ndarray) -> dict[tuple[int, ...], Fraction]:
    """All principal minors of I + W₁W₂ in rational arithmetic, by their rows."""
    A = [[sum(Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)) for column in W2.T] for row in W1]
    n = len(A)
    M = [[A[i][j] + (i == j) for j in range(n)] for i in range(n)]
    subsets = itertools.chain.from_iterable(itertools.combinations(range(n), k) for k in range(1, n + 1))
    return {rows: determinant([[M[i][j] for j in rows] for i in rows]) for rows in subsets}


def active_sets(W: np.ndarray, b: np.ndarray) -> set[tuple[int, ...]]:
    """The rows active in each cell of x ↦ relu(Wx + b) on the line or the plane, in rational arithmetic.

    Every cell has an edge: on each hyperplane a point between any two neighbours of its meetings with the others, seen
    from both sides.
    """
    rows = [[Fraction(v) for v in row] for row in W.tolist()]
    biases = [Fraction(v) for v in b.tolist()]
    found = set()
    for w, bias in zip(rows, biases, strict=True):
        if not any(w):
            continue
        foot = [-bias * v / sum(v * v for v in w) for v in w]
        along = [-w[1], w[0]] if len(w) == 2 else [Fraction(0)]
        s0 = [sum(a * f for a, f in zip(row, foot, strict=True)) + c for row, c in zip(rows, biases, strict=True)]
        slopes = [sum(a * t for a, t in zip(row, along, strict=True)) for row in rows]
        meetings = sorted({-s / slope for s, slope in zip(s0, slopes, strict=True) if slope}) or [Fraction(0)]
        between = [(low + high) / 2 for low, high in itertools.pairwise(meetings)]
        for t in (meetings[0] - 1, *between, meetings[-1] + 1):
            for side in (1, -1):
                off = [side * sum(a * v for a, v in zip(row, w, strict=True)) for row in rows]
                signs = [s + t * slope or o for s, slope, o in zip(s0, slopes, off, strict=True)]
                found.add(tuple(j for j, s in enumerate(signs) if s > 0))
    return found


def least_stretch(rows: np.ndarray) -> float:
    """The smallest singular value of rows (k, n), n = 1 or 2, to the last digit: from its Gram matrix in rationals."""
    exact = [[Fraction(v) for v in row] for row in rows.tolist()]
    n = rows.shape[1]
    gram = [[sum((row[i] * row[j] for row in exact), Fraction(0)) for j in range(n)] for i in range(n)]
    if n == 1:
        return float(gram[0][0]) ** 0.5
    trace, product = gram[0][0] + gram[1][1], determinant(gram)
    larger = (float(trace) + float(trace**2 - 4 * product) ** 0.5) / 2  # of two eigenvalues: nothing cancels
    return (float(product) / larger) ** 0.5 if trace else 0.0


def determinant(matrix: list[list[Fraction]]) -> Fraction:
    """The determinant of a small rational matrix, by elimination."""
    work, product = [list(row) for row in matrix], Fraction(1)
    while work:
        pivot = next((row for row in work if row[0] != 0), None)
        if pivot is None:
            return Fraction(0)
        product *= pivot[0] * (-1) ** work.index(pivot)
        work.remove(pivot)
        work = [[a - row[0] / pivot[0] * b for a, b in zip(row[1:], pivot[1:], strict=True)] for row in work]
    return product
