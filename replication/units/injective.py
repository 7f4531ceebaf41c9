"""ReLU layers that are injective: y = relu(Wx + b) with more outputs than inputs, undone by least squares."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal

from replication.certificate import Certificate, Verdict, coincide
from replication.checks import (
    check_counts,
    check_image_size,
    check_number,
    check_numbers,
    check_numbers_finite,
    check_precision,
    check_rows,
    check_tensor,
    checked_layer,
)
from replication.conjugate_gradients import conjugate_gradients
from replication.exact_arithmetic import layer_ratio
from replication.operators import Convolution
from replication.parametrizations import without_graph
from replication.rows import residual_scale, row_norm
from replication.solvers import Solution, Solver, get_solver
from replication.solvers.one_sided import OneSidedLeastSquares
from replication.solvers.solution import CODE, Status, resolve_tolerance
from replication.spanning import SpanningTest, directed_spanning_test
from replication.stability import StabilityBounds, root_less_rounding, stability
from replication.units.convolutional import NormCap
from replication.units.implicit import ImplicitStep
from replication.units.layer import Unit

QUICK_CELLS = 20_000  # of an arrangement that are gone through for an error bound: some hundredths of a second


class InjectiveReLU(Unit):
    """A fully-connected ReLU layer that may be injective, and is undone on its range.

        f(x) = relu(Wx + b)

    Source: paper D. Any W is taken; `certificate` says whether the layer is injective.

    Args:
        W: (m, n).
        b: (m,), or None for zeros.

    Inputs have the shape (rows, n), outputs (rows, m).

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
            extra: (rows, n), or None.
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
        """Return relu(Wx + b) (rows, m) of x (rows, n)."""
        W, b = self.weights()
        check_tensor(x, like=W)
        if x.shape[-1] != W.shape[1]:
            raise ValueError(f"the layer takes inputs (rows, {W.shape[1]}), not of shape {tuple(x.shape)}")
        return F.linear(x, W, b).relu()

    @without_graph()
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
            y: outputs (rows, m).
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
        if y.ndim != 2 or y.shape[1] != len(W):
            raise ValueError(f"the layer's outputs have the shape (rows, {len(W)}), not {tuple(y.shape)}")
        check_number("noise", noise)
        if not noise >= 0:
            raise ValueError(f"the noise must not be negative, not {noise!r}")
        scale = residual_scale(y.double())
        goal = resolve_tolerance(tolerance, y.dtype) + torch.full_like(scale, noise) / scale
        accuracy = resolve_tolerance(tolerance, y.dtype) * scale
        spread = min(noise, 3 * noise / math.sqrt(len(W)))  # of noise on one output, where it is spread evenly
        x, systems = OneSidedLeastSquares().solve(W, b, y.double(), accuracy, accuracy + spread)
        value = x.to(y.dtype)
        residual = row_norm(self(value) - y) / residual_scale(y)
        codes = judged_codes(residual, goal)
        bound = self.error_bound(value, y, torch.full_like(goal, noise))
        known = None if torch.isinf(bound).all() else bound
        return Solution(value, codes, systems, residual, systems + 1, known, "one_sided_least_squares")

    def error_bound(self, value: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Bound ‖value − x‖ (rows,) for every x with ‖f(x) − y‖ ≤ noise, infinite where nothing is known.

        Rows with yⱼ > noise are active at x, so that ‖W_A(value − x)‖ ≤ ‖(W·value + b − y)_A‖ + noise on these rows A:
        divided by σmin(W_A). Or ‖f(value) − y‖ + noise times the layer's constant, whichever is less.

        f is the layer as evaluated in its dtype, with errors of up to ρ(x) = γ(|W||x| + |b|). The constant is that of a
        layer with W + ΔW and b + Δb (`StabilityBounds.moved`), which adds ‖ΔW‖(‖x‖ + ‖value‖) + 2‖Δb‖ to the misfit.
        Both depend on x, which lies as far from the value as the bound says (`nearby`).

        Args:
            value: (rows, n).
            y: (rows, m).
            noise: (rows,).
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
            nearby(local, least_singular_values(W, sure), slope),
            nearby(everywhere, W.new_tensor(1 / bounds.inverse_lipschitz), slope + of_rows),
        )
        return rounded_up(bound, dtype)

    def stability(self) -> StabilityBounds:
        """Return what is known of the layer's stability at little cost."""
        return stability(*self.weights(), QUICK_CELLS, search=False)

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor | None:
        composed = self.error_bound(solution.value, y, bound)
        return None if torch.isinf(composed).all() else composed

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        """Return the solution `value` (rows, n) as a differentiable function of y (rows, m) and the parameters.

        x = W_A⁺(y − b)_A on the rows A active at x.
        """
        W, b = self.weights()
        s = F.linear(value, W, b)
        active = s > 0
        x: Tensor = ImplicitStep.apply(
            torch.where(active, y - s, 0), value, lambda v: pseudoinverse_adjoint(W, active, v), W
        )
        return x

    @without_graph()
    def certificate(self, time_limit: float = 60.0, general_position: bool = False) -> Certificate:
        """Certify that the layer is injective ("invertible" on its range), or not, with two colliding inputs.

        Args: as `replication.spanning.directed_spanning_test`.
        """
        W, b = self.weights()
        return judged(self, directed_spanning_test(W, b, time_limit, general_position))

    @without_graph()
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        W, _ = self.weights()
        return rounded_up(W.new_tensor(self.stability().inverse_lipschitz, dtype=torch.float64), W.dtype)

    def extra_repr(self) -> str:
        m, n = self.weights()[0].shape
        return f"inputs={n}, outputs={m}"


def judged(layer: InjectiveReLU, test: SpanningTest) -> Certificate:
    """Return the certificate of a test, of a pair only if its outputs coincide exactly and in the layer's dtype."""
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


def pseudoinverse_adjoint(W: Tensor, rows: Tensor, v: Tensor) -> Tensor:
    """Return u (rows, m) with u = W_A(W_AᵀW_A)⁻¹v, of the marked rows A (rows, m) of W (m, n), for v (rows, n).

    Raises:
        RuntimeError: if the marked rows do not span, or nearly so.
    """
    part = rows.to(W.dtype)[:, :, None] * W
    inverse = torch.linalg.pinv(part)
    missing = (inverse @ part - torch.eye(W.shape[1]).to(W)).abs()
    if missing.numel() and not missing.max() <= torch.finfo(W.dtype).eps ** 0.5:
        raise RuntimeError(
            "the gradient cannot be computed: the active rows of W do not span, or nearly so, at one of the inputs"
        )
    return torch.linalg.vecdot(inverse.mT, v[:, None])


def least_singular_values(W: Tensor, rows: Tensor) -> Tensor:
    """Return σmin of the marked rows (rows, m) of W (m, n), less its rounding error (rows,)."""
    values = [torch.linalg.eigvalsh((part.to(W.dtype)[:, :, None] * W).mT @ W) for part in rows.split(64)]
    least: Tensor = root_less_rounding(torch.cat(values), len(W))
    return least


def nearby(misfit: Tensor, constant: Tensor, slope: Tensor | float) -> Tensor:
    """Bound e where constant·e ≤ misfit + slope·e: infinite where the constant is no larger than the slope."""
    return torch.where(constant > slope, misfit / (constant - slope), torch.inf)


def rounded_up(bound: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a bound in another dtype, with room for the rounding of what it was computed from; infinite where NaN."""
    return (bound * (1 + 64 * torch.finfo(dtype).eps)).nan_to_num(nan=torch.inf, posinf=torch.inf).to(dtype)


def judged_codes(residual: Tensor, goal: Tensor | float) -> Tensor:
    """Return the codes of rows that are as good as they get: what can't be judged has not converged."""
    codes = torch.where(residual <= goal, CODE[Status.CONVERGED], CODE[Status.STAGNATED])
    return torch.where(torch.isfinite(residual), codes, CODE[Status.NOT_FINITE])


class PairedReLU(InjectiveReLU):
    """A trainable ReLU layer that stays injective: rows in opposite pairs, directions that always span.

        f(x) = (relu(z), d·relu(−z)),   z = Bx + c,   B = U·diag(s)·Vᵀ,   s ≥ floor,   d > 0

    U and V are kept orthogonal, so that σmin(B) ≥ floor, whatever the training does.

    Source: paper D (W = [B; −DB]); the parametrization is ours.

    Args:
        inputs: n.
        pairs: k ≥ n; there are 2k outputs.
        floor: lower bound of the singular values of B.
    """

    title = "paired ReLU"
    settings = ("floor",)
    U: Tensor
    V: Tensor

    def __init__(self, inputs: int, pairs: int, floor: float = 0.1) -> None:
        nn.Module.__init__(self)
        check_counts(1, inputs=inputs, pairs=pairs)
        check_numbers_finite(floor=floor)
        if pairs < inputs or not floor > 0:
            raise ValueError(f"pairs must be at least inputs and floor positive, not {pairs}, {inputs}, {floor}")
        self.floor = floor
        self.c = nn.Parameter(torch.zeros(pairs))
        self.log_d = nn.Parameter(torch.zeros(pairs))
        self.scale = nn.Parameter(torch.ones(inputs))
        orthonormal_columns(self, "U", pairs, inputs)
        orthonormal_columns(self, "V", inputs, inputs)

    def linear(self) -> Tensor:
        """Return B (k, n)."""
        check_precision(self.c)
        return self.U @ ((self.floor + F.softplus(self.scale))[:, None] * self.V.mT)

    def weights(self) -> tuple[Tensor, Tensor]:
        B, d = self.linear(), self.log_d.exp()
        return torch.cat([B, -d[:, None] * B]), torch.cat([self.c, -d * self.c])

    def certificate(self, time_limit: float = 60.0, general_position: bool = False) -> Certificate:
        check_numbers(**dict(self.named_parameters()))
        return Certificate(
            Verdict.INVERTIBLE,
            "opposite_rows",
            f"W = [B; −DB] by construction, with σmin(B) ≥ {self.floor:g}.",
        )

    @without_graph()
    def stability(self) -> StabilityBounds:
        check_numbers(**dict(self.named_parameters()))
        rows = self.log_d.exp().clamp_max(1)[:, None].double() * self.linear().double()
        least = least_singular_values(rows, torch.ones(1, len(rows)))[0]
        moved = [float(torch.finfo(self.c.dtype).eps * tensor.double().norm()) for tensor in self.weights()]
        return StabilityBounds(float(least), math.inf, False, (moved[0], moved[1]))


def orthonormal_columns(module: nn.Module, name: str, rows: int, columns: int) -> None:
    """Make module.name a parameter (rows, columns) with orthonormal columns, kept so in training."""
    setattr(module, name, nn.Parameter(torch.randn(rows, columns) / rows**0.5))
    # as in Orthogonal1x1: no stored base, so that the columns are orthonormal in whatever dtype they are used
    orthogonal(module, name, orthogonal_map="cayley", use_trivialization=False)


class InjectiveConvReLU(Unit):
    """A trainable convolutional ReLU layer with doubled channels that stays injective.

        f(x) = (relu(z), d·relu(−z)),   z = K∗x + c,   K = U + R,   ‖R‖ ≤ share < 1

    U maps the channels of every pixel by a matrix with orthonormal columns, R is any convolution with a capped norm, so
    that σmin(K) ≥ 1 − share.

    Source: paper D (doubled channels); the parametrization is ours.

    Args:
        channels: c.
        pairs: q ≥ c; there are 2q channels of output.
        kernel_size: odd size k of the kernels.
        image_size: (height, width).
        padding: "zeros", or "circular".
        share: cap of the norm of R.

    Inputs have the shape (rows, c, height, width), outputs (rows, 2q, height, width).
    """

    title = "injective conv ReLU"
    differentiable = True
    settings = ("padding", "share")
    U: Tensor

    def __init__(
        self,
        channels: int,
        pairs: int,
        kernel_size: int = 3,
        *,
        image_size: tuple[int, int],
        padding: str = "zeros",
        share: float = 0.9,
    ) -> None:
        super().__init__()
        check_counts(1, channels=channels, pairs=pairs, kernel_size=kernel_size)
        check_image_size(image_size)
        if pairs < channels or kernel_size % 2 == 0 or not 0 < share < 1:
            raise ValueError(
                f"pairs must be at least channels, kernel_size odd and share between 0 and 1, not {pairs}, {channels}, "
                f"{kernel_size}, {share}"
            )
        self.channels, self.pairs, self.kernel_size, self.padding, self.share = (
            channels,
            pairs,
            kernel_size,
            padding,
            share,
        )
        self.image_size = (int(image_size[0]), int(image_size[1]))
        orthonormal_columns(self, "U", pairs, channels)
        self.rest = nn.Parameter(torch.randn(pairs, channels, kernel_size, kernel_size) / (channels**0.5 * kernel_size))
        parametrize.register_parametrization(self, "rest", NormCap(share, self.image_size, padding))
        self.c = nn.Parameter(torch.zeros(pairs))
        self.log_d = nn.Parameter(torch.zeros(pairs))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels, *self.image_size)

    def kernel(self) -> Tensor:
        """Return K (q, c, k, k)."""
        half = self.kernel_size // 2
        return self.rest + F.pad(self.U[:, :, None, None], (half, half, half, half))

    def linear(self) -> Convolution:
        """Return the map x ↦ K∗x."""
        return Convolution(self.kernel(), self.image_size, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x) (rows, 2q, height, width) of x (rows, c, height, width)."""
        check_tensor(x, like=self.c)
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"the layer takes images {self.input_shape}, not of shape {tuple(x.shape[1:])}")
        z = self.linear().affine(x, self.c[:, None, None])
        return torch.cat([z.relu(), self.log_d.exp()[:, None, None] * (-z).relu()], dim=1)

    @without_graph()
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x): z by its two halves, and x by conjugate gradients on KᵀKx = Kᵀ(z − c).

        Args:
            y: outputs (rows, 2q, height, width).
            solver, options: checked but not used, since this layer has one method.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged; by default 1e-10 in float64, 1e-5 in float32.

        Raises:
            TypeError: if y is not a tensor of the layer's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver or the tolerance is wrong.
        """
        get_solver(solver, **options)
        check_rows(y, like=self.c)
        if y.ndim != 4 or tuple(y.shape[1:]) != (2 * self.pairs, *self.image_size):
            raise ValueError(
                f"the layer's outputs have the shape (rows, {2 * self.pairs}, {', '.join(map(str, self.image_size))}), "
                f"not {tuple(y.shape)}"
            )
        goal = resolve_tolerance(tolerance, y.dtype)
        value, products = self.least_squares(self.preactivation(y), goal * (1 - self.share) / 4)
        residual = row_norm(self(value) - y) / residual_scale(y)
        codes = judged_codes(residual, goal)
        bound = self.error_bound(value, y, residual * residual_scale(y))
        return Solution(value, codes, products, residual, 2 * products + 2, bound, "least_squares")

    def preactivation(self, y: Tensor) -> Tensor:
        """Return z − c = y₁ − y₂/d − c of outputs y (rows, 2q, height, width)."""
        first, second = y.split(self.pairs, dim=1)
        return first - second / self.log_d.exp()[:, None, None] - self.c[:, None, None]

    def least_squares(self, target: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
        """Return x (rows, c, height, width) with the least ‖K∗x − target‖, and the products taken (rows,)."""
        K = self.linear()
        adjoint = K.adjoint()
        return conjugate_gradients(lambda v: adjoint(K(v)), adjoint(target), accuracy)

    def error_bound(self, value: Tensor, y: Tensor, misfit: Tensor) -> Tensor:
        """Bound ‖value − x‖ (rows,) by the computed ‖f(value) − y‖ (rows,) and the rounding of f(value) and f(x).

        Those at x grow with ‖x‖ ≤ ‖value‖ + ‖value − x‖ (`nearby`).
        """
        K, largest = self.linear(), self.log_d.double().exp().clamp_min(1).max()
        rounding = 8 * (K.terms + 4) * torch.finfo(y.dtype).eps * largest
        slope = K.absolute_bound().double()
        size = slope * row_norm(value) + row_norm(self.c.expand(1, *self.image_size, -1))
        size = size + row_norm(y.abs() + torch.finfo(y.dtype).tiny)
        constant = 1 / self.inverse_lipschitz(self.input_shape).double()
        return rounded_up(nearby(misfit + rounding * size, constant, rounding * slope), y.dtype)

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        """Return the solution `value` as a differentiable function of y and the parameters, once.

        x = K⁺(z − c); with the residual r = z − c − K∗x, the derivative is K⁺dr, and its adjoint K(KᵀK)⁻¹.
        """
        K = self.linear()
        adjoint = K.adjoint()

        def solve(v: Tensor) -> Tensor:
            return K(conjugate_gradients(lambda u: adjoint(K(u)), v, torch.finfo(v.dtype).eps)[0])

        x: Tensor = ImplicitStep.apply(self.preactivation(y) - K(value), value, solve, K.weight)
        return x

    def certificate(self) -> Certificate:
        """Certify the layer, which is injective by construction."""
        check_numbers(**dict(self.named_parameters()))
        return Certificate(
            Verdict.INVERTIBLE,
            "opposite_rows",
            f"Doubled channels by construction, of a convolution with σmin(K) ≥ {1 - self.share:.3g}.",
        )

    @without_graph()
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        check_numbers(**dict(self.named_parameters()))
        U, smallest = self.U.double(), self.log_d.double().exp().clamp_max(1).min()
        apart = (U.mT @ U - torch.eye(self.channels).to(U)).norm()  # σmin(U) ≥ 1 − apart
        gap = 1 - self.share - apart - 64 * torch.finfo(self.c.dtype).eps
        return rounded_up(math.sqrt(2) / (smallest * gap.clamp_min(0)), self.c.dtype)

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, outputs={2 * self.pairs}, kernel_size={self.kernel_size}, share={self.share:g}"
        )
