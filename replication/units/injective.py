"""Fully-connected ReLU layers that may be injective: y = relu(Wx + b), undone by one-sided least squares."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication.certificate import Certificate, Verdict, coincide
from replication.checks import check_rows, check_tensor, checked_layer
from replication.exact_arithmetic import layer_ratio
from replication.parametrizations import without_graph
from replication.relu_layers.singular_values import least_of_sets
from replication.relu_layers.spanning import directed_spanning_test
from replication.relu_layers.stability import StabilityBounds, stability
from replication.relu_layers.verdict import SpanningTest
from replication.rows import residual_scale, row_norm
from replication.solvers import Solution, Solver, get_solver
from replication.solvers.one_sided import OneSidedLeastSquares
from replication.solvers.solution import codes_of_residual, resolve_tolerance
from replication.units.implicit import ImplicitStep
from replication.units.layer import Unit
from replication.units.least_squares import (
    check_noise,
    check_outputs,
    nearby,
    pseudoinverse_adjoint,
    rounded_up,
    where_known,
)

QUICK_CELLS = 20_000  # of an arrangement that are gone through for an error bound: some hundredths of a second


class InjectiveReLU(Unit):
    """A fully-connected ReLU layer that may be injective, and is undone on its range.

        f(x) = relu(Wx + b)

    Source: paper D. Any W is taken; `certificate` says whether the layer is injective.

    Args:
        W: (m, n).
        b: (m,), or None for zeros.

    Inputs have the shape (batch, n), outputs (batch, m).

    Raises:
        ValueError: if the shapes do not fit or a value is not finite.
        TypeError: if the dtypes differ or are not floating.

    >>> layer = InjectiveReLU.minimal(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    >>> layer.certificate().verdict.value, layer.inverse(layer(torch.tensor([[3.0, -1.0]]))).value
    ('invertible', tensor([[ 3., -1.]]))
    """

    title = "injective ReLU"
    differentiable = True

    def __init__(self, W: Tensor, b: Tensor | None = None) -> None:
        super().__init__()
        W, b = checked_layer(W, b)
        self.W, self.b = nn.Parameter(W.detach().clone()), nn.Parameter(b.detach().clone())

    @classmethod
    def minimal(cls, B: Tensor, d: Tensor | None = None, extra: Tensor | None = None) -> InjectiveReLU:
        """Return the layer of W = [B; −diag(d)B; extra], injective for every B of rank n and d > 0.

        With a square B and no extra rows it is the narrowest there is, m = 2n, and every such layer has this form.

        Args:
            B: (k, n).
            d: (k,), or None for ones.
            extra: (batch, n), or None.

        >>> InjectiveReLU.minimal(torch.tensor([[1.0]]), torch.tensor([2.0])).W.tolist()
        [[1.0], [-2.0]]
        """
        d = B.new_ones(len(B)) if d is None else d
        return cls(torch.cat([B, -d[:, None] * B, B[:0] if extra is None else extra]))

    @classmethod
    def orthogonal_frame(cls, n: int, frames: int = 1, generator: torch.Generator | None = None) -> InjectiveReLU:
        """Return the layer of the rows ±Q/√frames of random orthogonal matrices Q, for which σ = 1.

        Args:
            n: number of inputs; there are 2n·frames outputs.
            frames: number of matrices.
            generator: of the draws.

        >>> InjectiveReLU.orthogonal_frame(3, frames=2)
        InjectiveReLU(inputs=3, outputs=12)
        """
        Q, _ = torch.linalg.qr(torch.randn(frames, n, n, dtype=torch.float64, generator=generator))
        return cls(torch.cat([Q, -Q], dim=1).reshape(-1, n) / math.sqrt(frames))

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return W (m, n) and b (m,)."""
        return self.W, self.b

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.weights()[0].shape[1],)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(Wx + b) (batch, m) of x (batch, n)."""
        W, b = self.weights()
        check_tensor(x, like=W)
        if x.shape[-1] != W.shape[1]:
            raise ValueError(f"the layer takes inputs (batch, {W.shape[1]}), not of shape {tuple(x.shape)}")
        return F.linear(x, W, b).relu()

    @without_graph
    def inverse(
        self,
        y: Tensor,
        solver: str | Solver = "auto",
        tolerance: float | None = None,
        *,
        noise: float = 0.0,
        **options: object,
    ) -> Solution:
        """Recover x from y = f(x), or from y = f(x) + noise, by one-sided least squares in float64.

        Args:
            y: outputs (batch, m).
            solver, options: checked but not used, since this layer has one method; they are for the other units of a
                network.
            tolerance: bound of ‖f(x) − y‖/‖y‖, beyond the noise, that counts as converged; by default 1e-10 in
                float64, 1e-5 in float32.
            noise: bound of ‖y − f(x)‖ for the true x, which the error bound takes into account.

        Returns:
            A solution with a status for every row. The value of a row that converged is the input of some output near
            y: the right one, if the layer is injective. The error bound does not ask for that: it is infinite where the
            rows with yⱼ > noise do not span, and no constant is known.

        Raises:
            TypeError: if y is not a tensor of the layer's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver, tolerance or noise is wrong.
        """
        get_solver(solver, **options)
        check_rows(y, like=next(self.parameters()))
        W, b = (tensor.double() for tensor in checked_layer(*self.weights()))
        check_outputs(y, (len(W),))
        check_noise(noise)

        scale, goal = residual_scale(y.double()), resolve_tolerance(tolerance, y.dtype)
        accuracy, noises = goal * scale, torch.full_like(scale, noise)
        spread = min(noise, 3 * noise / math.sqrt(len(W)))  # of noise on one output, where it is spread evenly
        x, systems = OneSidedLeastSquares().solve(W, b, y.double(), accuracy, accuracy + spread)
        value = x.to(y.dtype)

        residual = row_norm(self(value) - y) / residual_scale(y)
        codes = codes_of_residual(residual, goal + noises / scale)
        bound = where_known(self.error_bound(value, y, noises))
        return Solution(value, codes, systems, residual, systems + 1, bound, "one_sided_least_squares")

    def error_bound(self, value: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Bound ‖value − x‖ (batch,) for every x with ‖f(x) − y‖ ≤ noise, infinite where nothing is known.

        Rows with yⱼ > noise are active at x, so that ‖W_A(value − x)‖ ≤ ‖(W·value + b − y)_A‖ + noise on these rows A:
        divided by σmin(W_A). Or ‖f(value) − y‖ + noise times the layer's constant, whichever is less.

        f is the layer as evaluated in its dtype, with errors of up to ρ(x) = γ(|W||x| + |b|). The constant is that of a
        layer with W + ΔW and b + Δb (`StabilityBounds.moved`), which adds ‖ΔW‖(‖x‖ + ‖value‖) + 2‖Δb‖ to the misfit.
        Both depend on x, which lies as far from the value as the bound says (`nearby`).

        Args:
            value: (batch, n).
            y: (batch, m).
            noise: (batch,).
        """
        W, b = (tensor.double() for tensor in self.weights())
        gamma, tiny = (W.shape[1] + 3) * torch.finfo(y.dtype).eps, torch.finfo(y.dtype).tiny
        dtype, value, y, noise = y.dtype, value.double(), y.double(), noise.double()
        s = value @ W.mT + b
        size = value.abs() @ W.mT.abs() + b.abs() + y.abs()
        rounding = 2 * gamma * row_norm(size + tiny) + noise  # of f(x), and no more of what is computed here
        slope = gamma * float(row_norm(W.reshape(1, -1)))

        sure = y > noise[:, None]
        local = row_norm(torch.where(sure, s - y, 0)) + rounding

        bounds = self.stability()
        of_rows, of_biases = bounds.moved
        everywhere = row_norm(s.relu() - y) + rounding + 2 * (of_rows * row_norm(value) + of_biases)
        bound = torch.minimum(
            nearby(local, least_of_sets(W, sure), slope),
            nearby(everywhere, W.new_tensor(1 / bounds.inverse_lipschitz), slope + of_rows),
        )
        return rounded_up(bound, dtype)

    def stability(self) -> StabilityBounds:
        """Return what is known of the layer's stability at little cost."""
        return stability(*self.weights(), QUICK_CELLS, search=False)

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor | None:
        return where_known(self.error_bound(solution.value, y, bound))

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        """Return the solution `value` (batch, n) as a differentiable function of y (batch, m) and the parameters.

        x = W_A⁺(y − b)_A on the rows A active at x.
        """
        W, b = self.weights()
        s = F.linear(value, W, b)
        active = s > 0
        x: Tensor = ImplicitStep.apply(
            torch.where(active, y - s, 0), value, lambda v: pseudoinverse_adjoint(W, active, v), W
        )
        return x

    @without_graph
    def certificate(self, time_limit: float = 60.0, general_position: bool = False) -> Certificate:
        """Certify that the layer is injective ("invertible" on its range), or not, with two colliding inputs.

        Args: as `replication.directed_spanning_test`.
        """
        W, b = self.weights()
        return judged(self, directed_spanning_test(W, b, time_limit, general_position))

    @without_graph
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        W, _ = self.weights()
        return rounded_up(W.new_tensor(self.stability().inverse_lipschitz, dtype=torch.float64), W.dtype)

    def extra_repr(self) -> str:
        m, n = self.weights()[0].shape
        return f"inputs={n}, outputs={m}"


def judged(layer: InjectiveReLU, test: SpanningTest) -> Certificate:
    """Return the certificate of a test, of a pair only if its outputs coincide exactly and in the layer's dtype.

    >>> layer = InjectiveReLU(torch.ones(1, 1))
    >>> pair = torch.tensor([-2.0]), torch.tensor([-1.0])
    >>> judged(layer, SpanningTest(False, "collision", "They collide.", pair)).verdict.value
    'not invertible'
    """
    if test.spans:
        return Certificate(Verdict.INVERTIBLE, test.condition, test.reason)
    if test.pair is None:
        return Certificate(Verdict.UNKNOWN, None, test.reason)
    W, b = layer.weights()
    x1, x2 = (x.to(W) for x in test.pair)
    collide = coincide(layer(x1[None]), layer(x2[None]), x1, x2)
    if not collide or layer_ratio(W, b, x1, x2) > torch.finfo(W.dtype).eps:
        return Certificate(Verdict.UNKNOWN, None, f"{test.reason[:-1]}, but its inputs do not collide in {W.dtype}.")
    return Certificate(Verdict.NOT_INVERTIBLE, test.condition, test.reason, (x1, x2))
