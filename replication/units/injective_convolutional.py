"""Trainable convolutional ReLU layers that stay injective: doubled channels, undone by conjugate gradients."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication.certificate import Certificate, Verdict
from replication.checks import check_counts, check_image_size, check_numbers, check_rows, check_tensor
from replication.conjugate_gradients import conjugate_gradients
from replication.operators import Convolution
from replication.parametrizations import without_graph
from replication.rows import residual_scale, row_norm
from replication.solvers import Solution, Solver, get_solver
from replication.solvers.solution import codes_of_residual, resolve_tolerance
from replication.units.convolutional import NormCap
from replication.units.implicit import ImplicitStep
from replication.units.layer import Unit
from replication.units.least_squares import check_outputs, nearby, rounded_up
from replication.units.paired import orthonormal_columns


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

    Inputs have the shape (batch, c, height, width), outputs (batch, 2q, height, width).

    Raises:
        TypeError, ValueError: if a count or the image size is no positive integer, the kernel size even, the share not
            between 0 and 1, or pairs < channels.

    >>> layer = InjectiveConvReLU(1, 2, image_size=(3, 3))
    >>> x = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> layer(x).shape, torch.allclose(layer.inverse(layer(x)).value, x, atol=1e-3)
    (torch.Size([1, 4, 3, 3]), True)
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
        self.channels, self.pairs, self.kernel_size = channels, pairs, kernel_size
        self.padding, self.share = padding, share
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
        """Return f(x) (batch, 2q, height, width) of x (batch, c, height, width)."""
        check_tensor(x, like=self.c)
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"the layer takes images {self.input_shape}, not of shape {tuple(x.shape[1:])}")
        z = self.linear().affine(x, self.c[:, None, None])
        return torch.cat([z.relu(), self.log_d.exp()[:, None, None] * (-z).relu()], dim=1)

    @without_graph
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x): z by its two halves, and x by conjugate gradients on KᵀKx = Kᵀ(z − c).

        Args:
            y: outputs (batch, 2q, height, width).
            solver, options: checked but not used, since this layer has one method.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged; by default 1e-10 in float64, 1e-5 in float32.

        Raises:
            TypeError: if y is not a tensor of the layer's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver or the tolerance is wrong.
        """
        get_solver(solver, **options)
        check_rows(y, like=self.c)
        check_outputs(y, (2 * self.pairs, *self.image_size))
        goal = resolve_tolerance(tolerance, y.dtype)
        value, products = self.least_squares(self.preactivation(y), goal * (1 - self.share) / 4)
        residual = row_norm(self(value) - y) / residual_scale(y)
        codes = codes_of_residual(residual, goal)
        bound = self.error_bound(value, y, residual * residual_scale(y))
        return Solution(value, codes, products, residual, 2 * products + 2, bound, "least_squares")

    def preactivation(self, y: Tensor) -> Tensor:
        """Return z − c = y₁ − y₂/d − c of outputs y (batch, 2q, height, width)."""
        first, second = y.chunk(2, dim=1)
        return first - second / self.log_d.exp()[:, None, None] - self.c[:, None, None]

    def least_squares(self, target: Tensor, accuracy: float) -> tuple[Tensor, Tensor]:
        """Return x (batch, c, height, width) with the least ‖K∗x − target‖, and the products taken (batch,)."""
        K = self.linear()
        adjoint = K.adjoint()
        return conjugate_gradients(lambda v: adjoint(K(v)), adjoint(target), accuracy)

    def error_bound(self, value: Tensor, y: Tensor, misfit: Tensor) -> Tensor:
        """Bound ‖value − x‖ (batch,) by the computed ‖f(value) − y‖ (batch,) and the rounding of f(value) and f(x).

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

    @without_graph
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
