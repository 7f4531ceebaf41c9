"""Units with two ReLU layers that are invertible for all weights: fully connected, and convolutional."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication.certificate import Certificate, Verdict
from replication.checks import check_numbers, check_rows, check_tensor
from replication.maps import MATRIX_LIMIT, DenseMap, RectifierEquation
from replication.maps.deep import DeepMap
from replication.maps.equation import RowEquation
from replication.operators import Convolution, Dense
from replication.parametrizations import without_graph
from replication.rows import column, residual_scale, row_norm
from replication.solvers import Exact, Method, NewtonGMRES, Solution, Solver, get_solver
from replication.solvers.auto import choose
from replication.solvers.newton_gmres import MapEquation
from replication.solvers.solution import codes_of_residual, resolve_tolerance
from replication.units.convolutional import OnImages, check_norm_cap, initial_kernel
from replication.units.feed_forward import solve_adjoint
from replication.units.implicit import ImplicitStep
from replication.units.kept import Kept
from replication.units.layer import Unit

BRIEF = NewtonGMRES(max_iterations=20, cycles=1)
LIFTED = 1e-3  # share of the tolerance that preactivations are solved to, since what they are mapped by magnifies


class DeepRectifierUnit(Unit):
    """The unit with two ReLU layers that is invertible for all weights.

        f(x) = x + W₃·relu((W₁W₃)ᵀ·relu(W₁x + b₁) + b₂) + b₃

    Proof. For the preactivations s = (s₁, s₂) f(x) = y is s + A·relu(s) = c with c = (W₁(y − b₃) + b₁, b₂) and

        A = [[0, W₁W₃], [−(W₁W₃)ᵀ, 0]] = −Aᵀ,    so that M + Mᵀ = 2I for M = I + A.

    Hence M is a P-matrix, and s + A·relu(s) = c has one solution for every c. Its inverse is Lipschitz: let Δ be the
    difference of two inputs and what belongs to them, and z that of relu(s). As slopes lie in [0, 1], zᵢ² ≤ zᵢΔsᵢ, and

        ‖z₁‖² + ‖z₂‖² ≤ zᵀΔs = zᵀΔc − zᵀAz = z₁ᵀW₁Δy ≤ ‖z₁‖·‖W₁Δy‖,

    which is at most ‖z₁‖² + ‖W₁Δy‖²/4, so that ‖z₂‖ ≤ ‖W₁Δy‖/2. With Δx = Δy − W₃z₂

        ‖Δx‖ ≤ (1 + ‖W₁‖·‖W₃‖/2)·‖Δy‖.

    The same holds for other activations with slopes in [0, 1], and fails where slopes are negative, as those of GELU.

    Source: design of the package (no paper has it).
    """

    differentiable = True

    @abstractmethod
    def deep_map(self, shape: tuple[int, ...]) -> DeepMap:
        """Return the unit as a map of inputs of this shape (without the batch).

        Raises:
            ValueError: if the unit does not take inputs of this shape.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), like x (batch, *shape).

        Raises:
            TypeError: if x is not a tensor of the unit's dtype.
            ValueError: if it has the wrong shape.
        """
        check_tensor(x, like=next(self.parameters()))
        return self.deep_map(tuple(x.shape[1:]))(x)

    @without_graph
    def certificate(self) -> Certificate:
        """Return that the unit is invertible, which it is by construction: no matrix is formed.

        Raises:
            TypeError: if a weight is of another dtype than float32 or float64.
            ValueError: if a weight is not finite.
        """
        check_numbers(**dict(self.named_parameters()))
        return Certificate(
            Verdict.INVERTIBLE,
            "monotone",
            "A = [[0, W₁W₃], [−(W₁W₃)ᵀ, 0]] is skew-symmetric by construction, so M + Mᵀ = 2I for all weights.",
        )

    @without_graph
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        constant = self.deep_map(self.input_shape if shape is None else shape).inverse_lipschitz()
        return constant.nan_to_num(nan=torch.inf, posinf=torch.inf)

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det ∂f/∂x| of every row of x, never negative: exact, and differentiable in the parameters.

        At a kink, a preactivation of exactly 0, the piece on its negative side is taken.

        Raises:
            TypeError: if x is of another dtype than float32 or float64.
            ValueError: if the inputs are too large for a matrix.
        """
        check_tensor(x, like=next(self.parameters()))
        determinants: Tensor = torch.linalg.slogdet(self.deep_map(tuple(x.shape[1:])).jacobian(x)).logabsdet
        return determinants

    @without_graph
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x), row by row.

        Args:
            y: outputs, of the shape and dtype of the unit's inputs.
            solver: "newton_gmres", "anderson" or "banach", or one of them, configured. "auto" begins with the first
                one, and solves the equation of the preactivations for rows where that fails, as at large norms.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged; by default 1e-10 in float64, 1e-5 in float32.
            options: of the solver named.

        Returns:
            A solution with a status for every row, and the error bound (1 + ‖W₁‖·‖W₃‖/2)·‖f(x) − y‖, where the residual
            counts with the rounding of its computation.

        Raises:
            TypeError: if y is not a tensor of the unit's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver or the tolerance is wrong.
        """
        method = get_solver(solver, **options)
        check_rows(y, like=next(self.parameters()))
        f = self.deep_map(tuple(y.shape[1:]))
        tolerance = resolve_tolerance(tolerance, y.dtype)
        solution = method.solve(RowEquation(f, y), tolerance)
        off = solution.residual * residual_scale(y) + f.rounding(solution.value, y)
        return solution.with_error_bound((f.inverse_lipschitz() * off).nan_to_num(nan=torch.inf, posinf=torch.inf))

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        f = self.deep_map(tuple(y.shape[1:]))
        weights, lifted = (f.W1.weight, f.W3.weight), f.feed_forward()
        x: Tensor = ImplicitStep.apply(f(value) - y, value, lambda v: -solve_adjoint(lifted, value, v), *weights)
        return x


@dataclass(frozen=True)
class ByPreactivations(Method):
    """Newton's method on x, and for rows where it fails on their preactivations: what `auto` takes for deep units."""

    def takes(self, rectifier_map: object) -> bool:
        return isinstance(rectifier_map, DeepMap)

    def solve(self, equation: Any, tolerance: float) -> Solution:
        return automatic(equation, tolerance)


@choose.register
def _(deep_map: DeepMap) -> Method:
    return ByPreactivations()


def automatic(equation: RowEquation[DeepMap], tolerance: float) -> Solution:
    """Solve f(x) = y by Newton's method, and the rows where it fails by way of their preactivations."""
    f, y = equation.map, equation.y
    solution = BRIEF.solve(equation, tolerance)
    rows = (~solution.converged & torch.isfinite(residual_scale(y))).nonzero().squeeze(1)
    if not len(rows):
        return solution
    found = solve_lifted(f, f.right_side(y[rows]), tolerance * LIFTED)
    x = f.recover(found.value, y[rows])
    residual = row_norm(f(x) - y[rows]) / residual_scale(y[rows])
    better = residual < solution.residual[rows]
    codes = torch.where(better, codes_of_residual(residual, tolerance), solution.codes[rows])
    return replace(
        solution,
        value=solution.value.index_copy(0, rows, torch.where(column(better, x), x, solution.value[rows])),
        codes=solution.codes.index_copy(0, rows, codes),
        residual=solution.residual.index_copy(0, rows, torch.where(better, residual, solution.residual[rows])),
        iterations=solution.iterations.index_add(0, rows, found.iterations),
        evaluations=solution.evaluations.index_add(0, rows, found.evaluations + 1),
        solver=f"{solution.solver}, {found.solver}",
    )


def solve_lifted(f: DeepMap, c: Tensor, tolerance: float) -> Solution:
    """Solve s + A·relu(s) = c for the preactivations: exactly by the matrix where it is small."""
    n = c.shape[1]
    if n > MATRIX_LIMIT:
        return NewtonGMRES().solve(MapEquation(lambda s: s + f.lifted(s.relu()), c), tolerance)
    identity, zero = torch.eye(n, dtype=c.dtype, device=c.device), c.new_zeros(n)
    lifted = DenseMap(Dense(identity), zero, Dense(f.lifted(identity).mT), zero)
    return Exact().solve(RectifierEquation(lifted, c), tolerance)


class DeepUnit(DeepRectifierUnit):
    """The unit with two fully-connected ReLU layers that is invertible for all weights.

        f(x) = x + W₃·relu((W₁W₃)ᵀ·relu(W₁x + b₁) + b₂) + b₃

    Since A = [[0, W₁W₃], [−(W₁W₃)ᵀ, 0]] is skew-symmetric; the inverse has the Lipschitz constant 1 + ‖W₁‖·‖W₃‖/2, and
    det Df ≥ 1. The proof is that of `DeepRectifierUnit`.

    Source: design of the package (no paper has it).

    Args:
        W1: (h₁, d).
        b1: (h₁,).
        b2: (h₂,).
        W3: (d, h₂).
        b3: (d,).
        norm_cap: upper bound of ‖W₁‖·‖W₃‖, or None for none.

    Inputs have the shape (batch, d).

    Raises:
        ValueError: if the shapes do not fit each other or a value is not finite.
        TypeError: if the dtypes differ or are not floating.

    >>> g = torch.Generator().manual_seed(0)
    >>> W1, W3 = torch.randn(4, 3, generator=g), torch.randn(3, 5, generator=g)
    >>> unit = DeepUnit(W1, torch.zeros(4), torch.zeros(5), W3, torch.zeros(3))
    >>> unit.certificate().condition
    'monotone'
    >>> unit.inverse(torch.ones(2, 3)).converged
    tensor([True, True])
    """

    title = "deep unit"

    def __init__(
        self, W1: Tensor, b1: Tensor, b2: Tensor, W3: Tensor, b3: Tensor, norm_cap: float | None = None
    ) -> None:
        super().__init__()
        check_deep(W1=W1, b1=b1, b2=b2, W3=W3, b3=b3)
        check_norm_cap(norm_cap)
        self.W1, self.b1, self.b2, self.W3, self.b3 = (nn.Parameter(t.detach().clone()) for t in (W1, b1, b2, W3, b3))
        if norm_cap is not None:
            for name in ("W1", "W3"):
                parametrize.register_parametrization(self, name, MatrixCap(math.sqrt(norm_cap)))

    @property
    def input_shape(self) -> tuple[int]:
        return (len(self.b3),)

    def deep_map(self, shape: tuple[int, ...]) -> DeepMap:
        if shape != self.input_shape:
            raise ValueError(f"the unit takes rows of {len(self.b3)} numbers, not of shape {shape}")
        return DeepMap(Dense(self.W1), Dense(self.W3), self.b1, self.b2, self.b3)

    def extra_repr(self) -> str:
        return f"dimension={len(self.b3)}, hidden=({len(self.b1)}, {len(self.b2)})"


class DeepConvUnit(OnImages, DeepRectifierUnit):
    """The unit with two convolutional ReLU layers that is invertible for all weights.

        f(x) = x + W₃·relu((W₁W₃)ᵀ·relu(W₁x + b₁) + b₂) + b₃

    W₁ and W₃ are convolutions of stride 1 that keep the size of the image, and (W₁W₃)ᵀ = W₃ᵀW₁ᵀ their adjoints, one
    after the other, since with zero padding the product is no convolution. The inverse has the Lipschitz constant
    1 + ‖W₁‖·‖W₃‖/2, and det Df ≥ 1; the proof is that of `DeepRectifierUnit`.

    Source: design of the package (no paper has it).

    Args:
        channels: channels c of the images.
        hidden: channels h of both ReLU layers.
        kernel_size: size k of the kernels, odd unless they are padded at a corner.
        image_size: (height, width); needed for norms, and so for a cap.
        padding: "zeros" or "circular", k//2 on every side, or a corner (`CausalConvUnit`).
        norm_cap: upper bound of ‖W₁‖·‖W₃‖, or None for none.

    Inputs have the shape (batch, c, height, width).

    >>> unit = DeepConvUnit(2, 3, image_size=(4, 4))
    >>> unit.certificate().condition
    'monotone'
    >>> unit.inverse(torch.ones(2, 2, 4, 4)).converged
    tensor([True, True])
    """

    title = "deep unit"

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: int = 3,
        image_size: tuple[int, int] | None = None,
        padding: str = "zeros",
        norm_cap: float | None = None,
    ) -> None:
        super().__init__()
        check_norm_cap(norm_cap)
        self.set_sizes(channels, hidden, kernel_size, image_size, padding)
        self.weight1 = nn.Parameter(initial_kernel(hidden, channels, kernel_size))
        self.weight3 = nn.Parameter(initial_kernel(channels, hidden, kernel_size))
        self.bias1, self.bias2, self.bias3 = (nn.Parameter(torch.zeros(n)) for n in (hidden, hidden, channels))
        if norm_cap is not None:
            for name in ("weight1", "weight3"):
                self.cap(name, math.sqrt(norm_cap))

    def deep_map(self, shape: tuple[int, ...]) -> DeepMap:
        size = self.size_of(shape)
        W1, W3 = (Convolution(weight, size, self.padding) for weight in (self.weight1, self.weight3))
        return DeepMap(W1, W3, *(bias[:, None, None] for bias in (self.bias1, self.bias2, self.bias3)))


class MatrixCap(Kept, nn.Module):
    """Scale a matrix down so that its spectral norm is at most `cap`: a parametrization."""

    settings = ("cap",)

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.cap / Dense(weight).norm_bound()).clamp_max(1)

    def extra_repr(self) -> str:
        return f"cap={self.cap:g}"


def check_deep(**tensors: Tensor) -> None:
    """Refuse tensors that do not make up a deep unit.

    Raises:
        TypeError, ValueError: if they do not.
    """
    check_numbers(**tensors)
    W1, W3 = tensors["W1"], tensors["W3"]
    if W1.ndim != 2 or W3.ndim != 2 or 0 in (*W1.shape, *W3.shape):
        raise ValueError(f"W1 and W3 must be matrices (h1, d) and (d, h2), not {tuple(W1.shape)} and {tuple(W3.shape)}")
    (h1, d), h2 = W1.shape, W3.shape[1]
    for name, shape in {"W3": (d, h2), "b1": (h1,), "b2": (h2,), "b3": (d,)}.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} must have the shape {shape} to fit W1 and W3, not {tuple(tensors[name].shape)}")
