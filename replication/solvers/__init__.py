"""Inverses of rectifier units, one method per file."""

from __future__ import annotations

from dataclasses import fields

from replication.solvers.anderson import Anderson
from replication.solvers.auto import Auto
from replication.solvers.banach import Banach
from replication.solvers.chebyshev import Chebyshev
from replication.solvers.exact import Exact
from replication.solvers.jacobi import Jacobi
from replication.solvers.method import Method
from replication.solvers.modulus import Modulus
from replication.solvers.newton import Newton
from replication.solvers.newton_cg import NewtonCG
from replication.solvers.newton_gmres import NewtonGMRES
from replication.solvers.newton_substitution import NewtonSubstitution
from replication.solvers.pivoting import Pivoting
from replication.solvers.solution import STATUSES, Solution, Solver, Status, name_of
from replication.solvers.substitution import Substitution

SOLVERS: dict[str, type[Method]] = {
    name_of(method): method
    for method in (
        Anderson,
        Auto,
        Banach,
        Chebyshev,
        Exact,
        Jacobi,
        Modulus,
        Newton,
        NewtonCG,
        NewtonGMRES,
        NewtonSubstitution,
        Pivoting,
        Substitution,
    )
}


def get_solver(solver: str | Solver, **options: object) -> Solver:
    """Return a solver by its name, with options, or a configured one as it is.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if it is no solver, an option is unknown or of the wrong kind, or options are given with a configured
            solver.

    >>> get_solver("modulus", omega=2.0)
    Modulus(omega=2.0, max_iterations=10000, patience=500)
    """
    if not isinstance(solver, str):
        if not callable(getattr(solver, "solve", None)):
            raise TypeError(f"the solver must be a name or a configured solver, not {solver!r}")
        if options:
            raise TypeError(f"options {sorted(options)} go with a solver's name; {solver!r} is configured already")
        return solver
    if solver not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; known are {', '.join(sorted(SOLVERS))}")
    if not options:
        return SOLVERS[solver]()
    known = {field.name for field in fields(SOLVERS[solver])}  # type: ignore[arg-type]  # every method is a dataclass
    unknown = sorted(set(options) - known)
    if unknown:
        options_known = f"its options are {', '.join(sorted(known))}" if known else "it has none"
        raise TypeError(f"solver {solver!r} has no option {unknown[0]!r}; {options_known}")
    return SOLVERS[solver](**options)


__all__ = [
    "SOLVERS",
    "STATUSES",
    "Anderson",
    "Auto",
    "Banach",
    "Chebyshev",
    "Exact",
    "Jacobi",
    "Method",
    "Modulus",
    "Newton",
    "NewtonCG",
    "NewtonGMRES",
    "NewtonSubstitution",
    "Pivoting",
    "Solution",
    "Solver",
    "Status",
    "Substitution",
    "get_solver",
]
