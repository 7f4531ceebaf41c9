"""Branches of any depth and activation against γ: what certifies them, what is true, and what comes back (fig9)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.activations import Activation
from replication.certification.diagonal_stability import diagonally_stable
from replication.certification.slopes import slope_enclosures, slope_matrix
from replication.conditions import P_MATRIX_LIMIT, POSITIVE, is_h_matrix, is_lipschitz, is_monotone, is_p_matrix
from replication.experiments.data.branches import Branches, BranchKind
from replication.experiments.data.ensembles import normal
from replication.experiments.studies.invertibility import share
from replication.maps.equation import RowEquation
from replication.rows import row_norm
from replication.solvers import Solver

Found = dict[str, tuple[Tensor, Tensor | None]]  # what held, and in how many iterations, both (values, cases)


def branch_conditions(
    branches: Mapping[str, BranchKind],
    orders: Sequence[tuple[int, int]],
    solvers: Mapping[str, Solver],
    gamma: Tensor,
    solved_order: int,
    tolerance: float,
    recovery: float,
    seed: int,
) -> pd.DataFrame:
    """Count, for each γ, the random branches that meet each condition, and those from which each method brings x back.

    The truth is "p_matrix": det(I + AD) has one sign at all corners D of [α, β]ⁿ, which is to say that the matrix M
    of the slopes is a P-matrix. For one layer it decides whether f is invertible; for more it is sufficient.

    Source: design of the package (no paper has it); assumption A3 for normal entries.

    Args:
        branches: by name.
        orders: pairs of an order n of A and the number of cases; the truth is looked for up to P_MATRIX_LIMIT.
        solvers: by the name of the quantity they fill.
        gamma: values of γ = ‖A‖ in ascending order (values,).
        solved_order: the order at which the solvers are tried.
        tolerance: of the solvers' relative residual.
        recovery: largest relative error ‖x̂ − x‖/‖x‖ that counts as recovered.
        seed: of the draws, the same for every branch.

    Returns:
        A row for each branch, order, γ and quantity: branch, layers, n, gamma, quantity, cases, count, percent, ci_low,
        ci_high (Wilson 95 %), iterations_median (of the cases recovered; empty for conditions). Branches with the same
        layers and slopes have the same shares for conditions.
    """
    rows: list[dict[str, object]] = []
    known: dict[tuple[object, ...], dict[str, Tensor]] = {}
    with Progress() as progress:
        task = progress.add_task("branches against γ", total=len(branches) * len(orders))
        for name, kind in branches.items():
            for n, cases in orders:
                drawn = kind.draw(cases, n, torch.Generator().manual_seed(seed))
                key = (kind.layers, kind.phi.lower, kind.phi.upper, n)
                if key not in known:
                    known[key] = conditions(SlopeSweep(drawn.matrix(), kind.phi, gamma))
                found: Found = {quantity: (held, None) for quantity, held in known[key].items()}
                if n == solved_order:
                    found |= dict(recoveries(drawn.scaled(gamma), len(gamma), solvers, tolerance, recovery, seed))
                columns = {"branch": name, "layers": kind.layers, "n": n}
                rows += counted(columns, found, gamma)
                progress.advance(task)
    return pd.DataFrame(rows)


def counted(columns: Mapping[str, object], found: Found, gamma: Tensor) -> Iterator[dict[str, object]]:
    """Yield a row for each γ and quantity, from what held and in how many iterations, both (values, cases)."""
    for index, value in enumerate(gamma.tolist()):
        for quantity, (held, iterations) in found.items():
            steps = None if iterations is None else iterations[index][held[index]]
            yield {**columns, "gamma": value, "quantity": quantity} | share(held[index], steps)


@dataclass(frozen=True, eq=False)
class SlopeSweep:
    """The matrices M = (I + γAα)⁻¹(I + γAβ) of some cases for each γ.

    Attributes:
        A: of norm 1 (cases, n, n).
        phi: the activation, with slopes in [α, β].
        gamma: (values,), ascending.
    """

    A: Tensor
    phi: Activation
    gamma: Tensor

    @property
    def n(self) -> int:
        """The order of A."""
        return self.A.shape[-1]

    @cached_property
    def matrices(self) -> tuple[Tensor, Tensor]:
        """M and the entrywise bounds of its errors, both (values, cases, n, n)."""
        lower, upper = self.phi.bounds((self.n,))
        M, error = zip(*(of_batch(gamma * self.A, lower, upper) for gamma in self.gamma), strict=True)
        return torch.stack(M), torch.stack(error)

    @property
    def nested(self) -> bool:
        """Whether a scaling Λ for one γ serves every smaller one.

        With (I + γAα)ᵀ·(ΛM + MᵀΛ)·(I + γAα) = 2Λ + γ(α + β)(ΛA + AᵀΛ) + 2γ²αβ·AᵀΛA it does if αβ ≤ 0: the right side
        is concave in γ, and positive definite at γ = 0.
        """
        return float(self.phi.lower) * float(self.phi.upper) <= 0

    def stable(self, certain: Tensor, possible: Tensor) -> Tensor:
        """Return where M is proved to be diagonally stable (values, cases).

        Args:
            certain: where it is, as monotone matrices are with Λ = I; nested in γ if Λ is.
            possible: where it may be, since it is a P-matrix; likewise.
        """
        held = certain.clone()
        M, error = self.matrices
        for case in range(len(self.A)):

            def fails(index: int, case: int = case) -> bool:
                return diagonally_stable(M[index, case], error[index, case]).sign != POSITIVE

            if self.nested:  # the first that fails ends it
                first, end = int(certain[:, case].sum()), int(possible[:, case].sum())
                held[: bisect_left(range(end), True, lo=first, key=fails), case] = True
            else:
                for index in (possible & ~certain)[:, case].nonzero().flatten().tolist():
                    held[index, case] = not fails(index)
        return held


def of_batch(A: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return M and the entrywise bounds of its errors for a batch A, both (cases, n, n); NaN where none is proved."""
    M = slope_enclosures(A, lower, upper)[1]
    if M is not None:
        return M.value, M.error
    made = [slope_matrix(one, lower, upper) for one in A]  # one of them has no inverse, and which says each alone
    return torch.stack([one.M for one in made]), torch.stack([one.error for one in made])


def conditions(sweep: SlopeSweep) -> dict[str, Tensor]:
    """Return which of the conditions hold for certain (values, cases); the truth only where its order allows it."""
    M, error = sweep.matrices
    off = M - torch.eye(sweep.n, dtype=M.dtype)
    steepest = max(abs(float(sweep.phi.lower)), abs(float(sweep.phi.upper)))
    held = {
        "lipschitz": is_lipschitz(steepest * sweep.gamma[:, None, None, None] * sweep.A),
        "monotone": is_monotone(off, error),
        "h_matrix": is_h_matrix(off, error),
    }
    truth = {"p_matrix": is_p_matrix(off, error)} if sweep.n <= P_MATRIX_LIMIT else {}
    possible = truth.get("p_matrix", torch.ones_like(held["monotone"]))  # for stable matrices are P-matrices
    return held | {"diagonal_stability": sweep.stable(held["monotone"], possible)} | truth


@torch.no_grad()
def recoveries(
    branches: Branches, values: int, solvers: Mapping[str, Solver], tolerance: float, recovery: float, seed: int
) -> Iterator[tuple[str, tuple[Tensor, Tensor | None]]]:
    """Send inputs through the branches and back: yield where x came back, and in how many iterations.

    Both are (values, cases). A solver that converges to another preimage has not recovered x.
    """
    rows, _, d = branches.weights[0].shape
    x = normal(rows // values, d, generator=torch.Generator().manual_seed(seed + 1)).repeat(values, 1)
    equation = RowEquation(branches, branches(x))
    for quantity, solver in solvers.items():
        solution = cast("Any", solver).solve(equation, tolerance)
        held = row_norm(solution.value - x) / row_norm(x) <= recovery
        yield quantity, (held.reshape(values, -1), solution.iterations.reshape(values, -1))
