"""One-sided least squares: the input of a ReLU layer from its output, also from a noisy one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from replication.checks import check_counts
from replication.rows import column, power_of_two

HALVINGS = 40
NUMBERS = 2**25  # of the active rows of all outputs that are held at once, 256 MiB
LARGE = 64  # inputs from which a factor of H for one row is much cheaper than its eigenvalues
WELL = 1e-4  # least over largest diagonal entry of a factor that counts as one of full rank


@dataclass(frozen=True)
class Rectified:
    """½‖relu(s) − y‖², s = Wx + b.

    Attributes:
        W: (m, n).
        b: (batch, m).
        y: (batch, m).
    """

    W: Tensor
    b: Tensor
    y: Tensor

    def terms(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the misfits eⱼ and the weights ωⱼ (batch, m) of ½Σωⱼeⱼ², those without a slope with weight 0."""
        return s.relu() - self.y, (s > 0).to(s.dtype)

    def value(self, x: Tensor) -> Tensor:
        """Return ½‖relu(s) − y‖² (batch,)."""
        return ((x @ self.W.mT + self.b).relu() - self.y).square().sum(1) / 2

    def select(self, rows: Tensor) -> Rectified:
        """Keep these outputs."""
        kept = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "W"}
        return replace(self, **kept)


@dataclass(frozen=True)
class OneSided(Rectified):
    """½Σ_{positive} ωⱼ(sⱼ − yⱼ)² + ½Σ_{others} ωⱼ·relu(sⱼ − yⱼ)²: convex.

    Attributes:
        positive: which outputs count as positive (batch, m).
        weights: ωⱼ (batch, m).
    """

    positive: Tensor
    weights: Tensor

    def terms(self, s: Tensor) -> tuple[Tensor, Tensor]:
        misfit = s - self.y
        slope = self.positive | (misfit > 0)
        return misfit * slope, self.weights * slope

    def value(self, x: Tensor) -> Tensor:
        misfit, weights = self.terms(x @ self.W.mT + self.b)
        return (weights * misfit.square()).sum(1) / 2

    def start(self) -> Tensor:
        """Return the solution of the positive outputs alone (batch, n)."""
        return newton_step(self.W, self.weights * self.positive, self.b - self.y)[0]


@dataclass(frozen=True)
class OneSidedLeastSquares:
    """Find x with relu(Wx + b) = y, or nearly so, by Newton's method on a convex function (`OneSided`), and polish it.

    The first step solves the rows with yⱼ > θ alone, which is exact where they span and y is an output; further steps
    are damped (Armijo), and of minimum norm where the active rows do not span. Outputs that are not met so, because
    noise has made zeros of y positive, are tried again with θ = 0 and weights ωⱼ = yⱼ/max y, under which such rows
    count for little. From both ends the Gauss–Newton method lowers ½‖relu(s) − y‖², and the better one is returned.

    Args:
        max_iterations: bound of the number of linear systems of each descent.
    """

    max_iterations: int = 50

    def __post_init__(self) -> None:
        check_counts(1, max_iterations=self.max_iterations)

    def solve(self, W: Tensor, b: Tensor, y: Tensor, accuracy: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (batch, n) and the linear systems solved for each (batch,).

        All is scaled to numbers near 1, by powers of two, so that squares neither over- nor underflow.

        Args:
            W: (m, n).
            b: (m,).
            y: (batch, m), negative numbers counting as zero.
            accuracy: ‖relu(Wx + b) − y‖ that counts as exact (batch,).
            threshold: θ (batch,).
        """
        of_W = power_of_two(W.abs().max())
        of_rows = power_of_two(torch.maximum(y.amax(1), b.abs().max()))
        numbers = [tensor / column(of_rows, tensor) for tensor in (b.expand_as(y), y.clamp_min(0), accuracy, threshold)]
        batches = zip(*(tensor.split(max(1, NUMBERS // W.numel())) for tensor in numbers), strict=True)
        ends = [self.solve_part(Rectified(W / of_W, b, y), *rest) for b, y, *rest in batches]
        x, systems = (torch.cat(tensors) for tensors in zip(*ends, strict=True))
        return x / of_W * column(of_rows, x), systems

    def solve_part(self, goal: Rectified, accuracy: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Solve as many rows as fit into memory."""
        y = goal.y
        x, systems = self.descend(OneSided(goal.W, goal.b, y, y > threshold[:, None], torch.ones_like(y)), accuracy)
        rows = (goal.value(x) > accuracy**2 / 2).nonzero().squeeze(1)
        if len(rows):
            own = goal.select(rows)
            positive = own.y > 0
            weights = torch.where(positive, own.y / own.y.amax(1, keepdim=True), 1)
            other, more = self.descend(OneSided(own.W, own.b, own.y, positive, weights), accuracy[rows])
            systems[rows] += more
            better = own.value(other) < own.value(x[rows])
            x[rows[better]] = other[better]
        return x, systems

    def descend(self, convex: OneSided, accuracy: Tensor) -> tuple[Tensor, Tensor]:
        """Return x after the convex descent and the polish, and the linear systems solved (batch,)."""
        goal = Rectified(convex.W, convex.b, convex.y)
        x = convex.start()
        systems = torch.ones(len(x), dtype=torch.long, device=x.device)
        for energy in (convex, goal):
            rows = (goal.value(x) > accuracy**2 / 2).nonzero().squeeze(1)
            if len(rows):
                x[rows], steps = self.newton(energy.select(rows), x[rows], accuracy[rows])
                systems[rows] += steps
        return x, systems

    def newton(self, energy: Rectified, x: Tensor, accuracy: Tensor) -> tuple[Tensor, Tensor]:
        """Return a minimum of the energy by damped Newton steps from x (batch, n), and the steps taken (batch,)."""
        steps = torch.zeros(len(x), dtype=torch.long, device=x.device)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.max_iterations):
            own = energy.select(rows)
            misfit, weights = own.terms(x[rows] @ own.W.mT + own.b)
            step, decrement = newton_step(own.W, weights, misfit)
            length = armijo(own, x[rows], step, decrement)
            x[rows] += column(length, step) * step
            steps[rows] += 1
            enough = torch.maximum(accuracy[rows] ** 2, 1e-12 * own.value(x[rows]))
            rows = rows[(decrement > enough) & (length > 0)]
            if not len(rows):
                break
        return x, steps


def newton_step(W: Tensor, weights: Tensor, misfit: Tensor) -> tuple[Tensor, Tensor]:
    """Return −H⁺g (batch, n) and the decrement gᵀH⁺g (batch,), with g = WᵀDe and H = WᵀDW, D = diag(ω).

    Args:
        W: (m, n).
        weights: ω (batch, m).
        misfit: e (batch, m).
    """
    if W.shape[1] < LARGE:
        return by_eigenvalues(W, weights, misfit)
    found = [by_factor(W, *one) for one in zip(weights, misfit, strict=True)]
    for place in (place for place, one in enumerate(found) if one is None):
        step, decrement = by_eigenvalues(W, weights[[place]], misfit[[place]])
        found[place] = step[0], decrement[0]
    steps, decrements = zip(*(one for one in found if one is not None), strict=True)
    return torch.stack(steps), torch.stack(decrements)


def by_eigenvalues(W: Tensor, weights: Tensor, misfit: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `newton_step` does, whatever the rank of H."""
    gradient = (weights * misfit) @ W
    values, Q = torch.linalg.eigh((weights[:, :, None] * W).mT @ W)
    cut = 4 * W.shape[1] * torch.finfo(W.dtype).eps * values[:, -1:].clamp_min(torch.finfo(W.dtype).tiny)
    along = torch.linalg.vecdot(Q.mT, gradient[:, None])
    inverse = torch.where(values > cut, 1 / values, 0)
    return -torch.linalg.vecdot(Q, (inverse * along)[:, None]), (inverse * along.square()).sum(1)


def by_factor(W: Tensor, weights: Tensor, misfit: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the step (n,) and the decrement of one x where its active rows have full rank, None where they may not.

    By Cholesky's factor of H, or of the smaller Gram matrix where there are fewer rows than inputs: then the step of
    minimum norm meets all of them.

    Args:
        W: (m, n).
        weights, misfit: of one x (m,).

    >>> step, decrement = by_factor(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0]), torch.ones(2))
    >>> step, decrement
    (tensor([-0.5000,  0.0000]), tensor(1.))
    """
    active = weights > 0
    roots = weights[active].sqrt()
    rows, goal = roots[:, None] * W[active], -roots * misfit[active]
    few = len(rows) < W.shape[1]
    L, info = torch.linalg.cholesky_ex(rows @ rows.mT if few else rows.mT @ rows)
    if not len(rows) or info or L.diagonal().amin() < WELL * L.diagonal().amax():
        return None
    if few:
        return rows.mT @ torch.cholesky_solve(goal[:, None], L)[:, 0], goal.square().sum()
    downhill = rows.mT @ goal
    step = torch.cholesky_solve(downhill[:, None], L)[:, 0]
    return step, downhill @ step


def armijo(energy: Rectified, x: Tensor, step: Tensor, decrement: Tensor) -> Tensor:
    """Return for each row the first length 1, ½, ¼, … that lowers the energy by a share of what it promises, or 0."""
    before = energy.value(x)
    length = torch.zeros_like(before)
    for halving in range(HALVINGS):
        trial = 0.5**halving
        lowered = energy.value(x + trial * step) <= before - 1e-4 * trial * decrement
        length = torch.where((length == 0) & lowered, trial, length)
        if (length > 0).all():
            break
    return length
