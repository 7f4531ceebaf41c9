"""The method that suits the unit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from replication.maps import CausalMap, DenseMap, RectifierEquation, RectifierMap
from replication.operators import Product, norm_from_below
from replication.solvers.chebyshev import Chebyshev
from replication.solvers.exact import Exact
from replication.solvers.method import Method
from replication.solvers.newton_cg import NewtonCG
from replication.solvers.newton_gmres import NewtonGMRES
from replication.solvers.quick_first import QuickFirst
from replication.solvers.solution import Solution
from replication.solvers.substitution import Substitution

SMALL = 256  # hidden numbers up to which a convolution is inverted exactly, by its matrix
WIDE = 512  # hidden numbers from which a step of an iteration costs far less than a factorization
SOFT, SOFT_GRAM = 1.2, 4.0  # ‖A‖, roughly, up to which the iteration converges in a few dozen steps, as measured
LARGE_NORM = 200.0  # ‖A‖ from which Newton's method with conjugate gradients takes fewer products, as measured


@dataclass(frozen=True)
class Auto(Method):
    """Choose by what is known of the unit; the solution's `solver` says which method was taken.

    - `exact` for dense units, and for convolutions with at most SMALL hidden numbers: it needs no condition but
      invertibility. From WIDE hidden numbers on, where ‖A‖ is small, `anderson` first, and `exact` for what it leaves.
    - `substitution` for causal units: it needs no condition but invertibility either.
    - `chebyshev` for larger Gram units: it needs the least work. `newton_cg` where ‖A‖ may exceed LARGE_NORM.
    - for other convolutions a few steps of `banach`, the cheapest for contractions, and `anderson` for what it leaves:
      for units without a guarantee it is the best there is.
    - `newton_gmres` for all other modules: it needs products with the Jacobian only.

    >>> import torch
    >>> from replication import CausalConvUnit, ResidualUnit
    >>> dense = ResidualUnit(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2))
    >>> dense.inverse(torch.ones(1, 2)).solver, CausalConvUnit(1, 1).inverse(torch.ones(1, 1, 4, 4), Auto()).solver
    ('exact', 'substitution')
    """

    def takes(self, rectifier_map: object) -> bool:
        return True

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Solve by the chosen method."""
        return choose(equation.map).solve(equation, tolerance)


@singledispatch
def choose(any_map: object) -> Method:
    """Return the method for a map, by its kind; this one for maps of which nothing but their values is known."""
    return NewtonGMRES()


@choose.register
def _(rectifier_map: RectifierMap) -> Method:
    if rectifier_map.order <= SMALL:
        return Exact()
    if not rectifier_map.gram:
        return QuickFirst.of_images()
    return Chebyshev() if float(rectifier_map.norm_bound) <= LARGE_NORM else NewtonCG()


@choose.register
def _(rectifier_map: DenseMap) -> Method:
    if rectifier_map.order < WIDE or rectifier_map.W1.batched or rectifier_map.W2.batched:
        return Exact()
    norm = norm_from_below(Product(rectifier_map.W1, rectifier_map.W2), like=rectifier_map.b1)
    return QuickFirst() if norm < (SOFT_GRAM if rectifier_map.gram else SOFT) else Exact()


@choose.register
def _(rectifier_map: CausalMap) -> Method:
    return Substitution()
