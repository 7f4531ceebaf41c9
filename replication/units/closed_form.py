"""Layers undone by a formula: channel padding, space-to-depth, flips, affine maps, normalisation, orthogonal 1×1."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from replication.certificate import Certificate, Verdict
from replication.checks import check_counts, check_images, check_precision, check_rows
from replication.parametrizations import without_graph
from replication.rows import residual_scale, row_norm, rows_at_once
from replication.solvers import Solution, Solver, get_solver
from replication.solvers.solution import codes_of_residual, resolve_tolerance
from replication.units.layer import Layer, amplified

FORMULA = "formula"  # the name of the method, and of the condition


class ClosedFormLayer(Layer):
    """A layer whose inverse is a formula."""

    closed_form = True
    differentiable = True

    @abstractmethod
    def undo(self, y: Tensor) -> Tensor:
        """Return the input x with forward(x) = y, by the formula, which autograd differentiates."""

    @without_graph
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x) by the formula.

        Args:
            y: outputs.
            solver, options: checked but not used, since a formula asks no solver; they are for the units of a network.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged; by default 1e-10 in float64, 1e-5 in float32.

        Returns:
            A solution without iterations; a row has not converged if it is no output of the layer, or if rounding
            shows beyond the tolerance.

        Raises:
            TypeError: if y is not a tensor of the layer's dtype, float32 or float64, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver or the tolerance is wrong.
        """
        get_solver(solver, **options)
        self.check_outputs(y)
        value = self.undo(y)
        scale, rows = residual_scale(y), rows_at_once(y, value)
        parts = zip(value.split(rows), y.split(rows), strict=True)
        residual = torch.cat([row_norm(self(x) - part) for x, part in parts]) / scale
        codes = codes_of_residual(residual, resolve_tolerance(tolerance, y.dtype))
        none, constant = torch.zeros_like(codes), self.inverse_lipschitz().to(y)
        bound = (constant * (residual * scale)).nan_to_num(nan=torch.inf) if torch.isfinite(constant) else None
        residual = residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
        return Solution(value, codes, none, residual, none, bound, FORMULA)

    def differentiable_inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None
    ) -> Tensor:
        self.check_outputs(y)
        return self.undo(y)

    def check_outputs(self, y: Tensor) -> None:
        """Refuse what is no batch of finite numbers in the layer's precision."""
        check_rows(y, like=next(self.parameters(), y))
        check_precision(y)

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor:
        return amplified(self.inverse_lipschitz(), bound)  # what the formula rounds is not counted

    def certificate(self) -> Certificate:
        self.inverse_lipschitz()  # which refuses what has no formula
        return Certificate(Verdict.INVERTIBLE, FORMULA, "It is undone by a formula.")

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """Bound the Lipschitz constant of the inverse: 1 but for layers that shrink."""
        return torch.ones(())

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det ∂f/∂x| of every row (batch,): 0 for layers that move numbers or turn vectors."""
        return x.new_zeros(len(x))


def check_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what is no batch of rows of a shape."""
    if tuple(x.shape[1:]) != shape:
        expected = ", ".join(map(str, shape))
        raise ValueError(f"the layer takes inputs (batch, {expected}), not of shape {tuple(x.shape)}")


class ZeroChannels(ClosedFormLayer):
    """Append channels of zeros: injective, undone by dropping them.

    Args:
        channels: channels of the input.
        total: channels of the output, at least as many.

    Raises:
        TypeError, ValueError: if these are no such numbers.
    """

    title = "zero channels"

    def __init__(self, channels: int, total: int) -> None:
        super().__init__()
        check_counts(1, channels=channels)
        check_counts(channels, total=total)
        self.channels, self.total = channels, total

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.channels)
        return F.pad(x, (0, 0, 0, 0, 0, self.total - self.channels))

    def undo(self, y: Tensor) -> Tensor:
        check_images(y, self.total)
        return y[:, : self.channels]

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        return Layer.log_abs_det_jacobian(self, x)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.total}"


class SpaceToDepth(ClosedFormLayer):
    """Move every 2×2 block of pixels into channels, in place of a stride."""

    title = "space to depth"

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"space to depth takes images of even height and width, not of shape {tuple(x.shape)}")
        rows, channels, height, width = x.shape
        if not rows:  # which torch would leave as they are
            return x.new_zeros(0, 4 * channels, height // 2, width // 2)
        return F.pixel_unshuffle(x, 2)

    def undo(self, y: Tensor) -> Tensor:
        if y.ndim != 4 or y.shape[1] % 4:
            raise ValueError(f"space to depth is undone for channels in fours, not for the shape {tuple(y.shape)}")
        rows, channels, height, width = y.shape
        if not rows:
            return y.new_zeros(0, channels // 4, 2 * height, 2 * width)
        return F.pixel_shuffle(y, 2)


class Flip(ClosedFormLayer):
    """Turn the image by half a turn, so that units that see one side of a pixel only see the other side next."""

    title = "flip"

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3:
            raise ValueError(f"half a turn takes images (batch, …, height, width), not of shape {tuple(x.shape)}")
        return x.flip(-2, -1)

    def undo(self, y: Tensor) -> Tensor:
        return self.forward(y)


class Affine(ClosedFormLayer):
    """Scale and shift every number of an image by its own, y = exp(a)·x + b: from the identity on, never singular.

    Args:
        shape: of one image (channels, height, width).
    """

    title = "affine"

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.shift.shape)

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape)
        return x * self.log_scale.exp() + self.shift

    def undo(self, y: Tensor) -> Tensor:
        check_shape(y, self.input_shape)
        return (y - self.shift) * (-self.log_scale).exp()

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        return (-self.log_scale.detach()).exp().max()

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        return self.log_scale.sum().expand(len(x))

    def extra_repr(self) -> str:
        return "×".join(map(str, self.shift.shape))


class ChannelNormalisation(nn.BatchNorm2d, ClosedFormLayer):
    """Batch normalisation: in evaluation an affine map per channel, undone by its formula.

    Raises:
        RuntimeError: if it is undone in training mode, or without running statistics, where it is no map of single
            images.
        ValueError: if a channel's scale is zero.
    """

    title = "normalisation"

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.num_features)
        return super().forward(x)

    def undo(self, y: Tensor) -> Tensor:
        check_images(y, self.num_features)
        deviation, mean = self.deviation(), self.running_mean
        shifted = y if self.bias is None else y - self.bias[:, None, None]
        assert mean is not None  # as `deviation` checks
        return shifted * deviation[:, None, None] + mean[:, None, None]

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        return self.deviation().detach().abs().max()

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        return (-self.deviation().abs().log().sum() * x.shape[2:].numel()).expand(len(x))

    def deviation(self) -> Tensor:
        """Return what the inverse multiplies each channel by (channels,)."""
        if self.training:
            raise RuntimeError("normalisation has an inverse in evaluation mode only: call network.eval() first")
        if self.running_var is None or self.running_mean is None:
            raise RuntimeError("normalisation without running statistics is no map of single images")
        deviation = (self.running_var + self.eps).sqrt()
        if self.weight is None:
            return deviation
        if (self.weight == 0).any():
            raise ValueError("a channel's scale is zero, so the normalisation has no inverse")
        return deviation / self.weight


class Orthogonal1x1(ClosedFormLayer):
    """Mix the channels of every pixel by an orthogonal matrix, kept orthogonal in training.

    Args:
        channels: channels of the images.
    """

    title = "orthogonal 1×1"
    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_counts(1, channels=channels)
        self.channels = channels
        self.weight = nn.Parameter(torch.randn(channels, channels) / channels**0.5)
        # without trivialization: no stored float32 base, so the matrix is orthogonal in whatever dtype it is used
        orthogonal(self, "weight", orthogonal_map="cayley", use_trivialization=False)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.channels)
        return F.conv2d(x, self.matrix()[:, :, None, None])

    def undo(self, y: Tensor) -> Tensor:
        check_images(y, self.channels)
        return F.conv2d(y, self.matrix().mT[:, :, None, None])

    def matrix(self) -> Tensor:
        """Return the orthogonal matrix (channels, channels), which torch cannot make in half precision."""
        check_precision(next(self.parameters()))
        return self.weight

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
