"""Layers undone by a formula that are read off models: linear maps, rearrangements, leaky rectifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.certificate import Certificate, Verdict, coincide
from replication.checks import check_numbers
from replication.exact_arithmetic import rank
from replication.operators.dense import rounding_margin
from replication.rows import row_norm
from replication.solvers import Solution
from replication.units.closed_form import FORMULA, ClosedFormLayer, check_shape
from replication.units.layer import Layer, amplified

EXACT = 128  # columns up to which the rank of a matrix that is singular to rounding is computed without rounding


class LinearMap(ClosedFormLayer):
    """y = Wx + b along one dimension of the input, or on all its numbers; W has full column rank.

    A square W is undone by its LU factorization, a tall one by least squares. A layer with a singular W can be made,
    so that its certificate says so, but not undone.

    Args:
        weight: W (m, n) with m ≥ n.
        bias: b (m,), or None.
        shape: of one input; n is its size along `dim`, or that of all of it.
        target: of one output, by default `shape` with m in place of n.
        dim: of one input, without the batch.

    Attributes:
        doubt: bound of the errors of W's entries relative to the largest, where it was computed; 0 where it is given.

    Raises:
        TypeError: if the weights are no tensors of one dtype, float32 or float64.
        ValueError: if they are not finite, or the shapes do not fit.

    >>> layer = LinearMap(torch.tensor([[2.0, 0.0], [0.0, 0.5]]), None, (2, 3))
    >>> layer.certificate().reason
    'It is undone by its matrix, whose condition number is 4.'
    """

    title = "linear map"
    doubt = 0.0

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        shape: tuple[int, ...],
        target: tuple[int, ...] | None = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        check_numbers(weight=weight, bias=bias)
        m, n = weight.shape
        total = torch.Size(shape).numel()
        if m < n or bias.shape != (m,) or n not in (total, shape[dim]):
            raise ValueError(
                f"a matrix (m, n) with m >= n, a bias (m,) and n = {shape[dim]} are needed, not {tuple(weight.shape)} "
                f"and {tuple(bias.shape)}"
            )
        self.before, self.after = torch.Size(shape[:dim]).numel(), torch.Size(shape[dim + 1 :]).numel()
        if n == total:
            self.before = self.after = 1
        self.shape, self.target = tuple(shape), tuple(target or (*shape[:dim], m, *shape[dim + 1 :]))
        self.weight, self.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
        self.known: tuple[Tensor, float, float] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def square(self) -> bool:
        """Whether the layer keeps the number of numbers."""
        return self.weight.shape[0] == self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.shape)
        columns = x.reshape(len(x), self.before, self.weight.shape[1], self.after)
        return (self.weight @ columns + self.bias[:, None]).reshape(len(x), *self.target)

    def undo(self, y: Tensor) -> Tensor:
        check_shape(y, self.target)
        smallest, largest = self.singular_values()
        if not smallest > 0:
            raise ValueError(
                f"the matrix of this layer is singular to rounding (largest singular value {largest:.3g}), so it has "
                "no inverse; see its certificate"
            )
        columns = y.reshape(len(y), self.before, len(self.weight), self.after) - self.bias[:, None]
        right = columns.movedim(2, 0).flatten(1)
        if self.square:
            x: Tensor = torch.linalg.solve(self.weight, right)
        else:
            Q, R = torch.linalg.qr(self.weight)
            x = torch.linalg.solve_triangular(R, Q.mT @ right, upper=True)
        x = x.reshape(self.weight.shape[1], len(y), self.before, self.after).movedim(0, 2)
        return x.reshape(len(y), *self.shape)

    @torch.no_grad()
    def singular_values(self) -> tuple[float, float]:
        """Return a lower bound of the smallest and an upper bound of the largest singular value."""
        if self.known is None or not torch.equal(self.known[0], self.weight):
            W = self.weight.detach().double()
            unsure = self.doubt * W.numel() ** 0.5 * float(W.abs().max())
            values, margin = torch.linalg.svdvals(W), float(rounding_margin(W)) + unsure
            bounds = max(0.0, float(values[-1]) - margin), float(values[0]) + margin
            self.known = (self.weight.detach().clone(), *bounds)
        return self.known[1:]

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        smallest, _ = self.singular_values()
        return self.weight.new_tensor(1 / smallest if smallest > 0 else torch.inf)

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor:
        constant, (_, largest) = self.inverse_lipschitz(), self.singular_values()
        rounding = len(self.weight) * torch.finfo(y.dtype).eps * (largest * row_norm(solution.value) + row_norm(y))
        own = 0 if solution.error_bound is None else solution.error_bound
        return amplified(constant, bound) + own + constant * rounding

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        if not self.square:
            return Layer.log_abs_det_jacobian(self, x)
        check_shape(x, self.shape)
        once: Tensor = torch.linalg.slogdet(self.weight).logabsdet
        return (once * (self.before * self.after)).expand(len(x))

    @torch.no_grad()
    def certificate(self) -> Certificate:
        """Certify the matrix by its singular values, or find two inputs with the same output."""
        smallest, largest = self.singular_values()
        if smallest > 0:
            return Certificate(
                Verdict.INVERTIBLE,
                FORMULA,
                f"It is undone by its matrix, whose condition number is {largest / smallest:.4g}.",
            )
        x1, x2 = self.null_pair()
        exact = not self.weight.any(0).all() or (
            self.weight.shape[1] <= EXACT and rank(self.weight) < len(self.weight.T)
        )
        if exact and coincide(self(x1[None]), self(x2[None]), x1, x2):
            reason = "Its matrix is singular, and two inputs differ by what it takes to zero."
            return Certificate(Verdict.NOT_INVERTIBLE, "collision", reason, (x1, x2))
        return Certificate(Verdict.UNKNOWN, None, "Its matrix is singular to rounding, which does not decide.")

    def exactly_singular(self) -> bool:
        """Return whether the columns are linearly dependent without rounding, as far as that is computed."""
        columns = self.weight.shape[1]
        return not self.weight.any(0).all() or (columns <= EXACT and rank(self.weight) < columns)

    def null_pair(self) -> tuple[Tensor, Tensor]:
        """Return two inputs (*shape) that differ by the vector that the matrix shrinks most."""
        empty = (~self.weight.any(0)).nonzero().flatten()
        v = torch.linalg.svd(self.weight.double()).Vh[-1]
        if len(empty):
            v = torch.zeros_like(v)
            v[empty[0]] = 1
        x = self.weight.new_zeros(self.before, len(v), self.after)
        x[0, :, 0] = v
        return torch.zeros_like(x).reshape(self.shape), x.reshape(self.shape)

    def extra_repr(self) -> str:
        return f"{self.shape} -> {self.target}"


class Rearrangement(ClosedFormLayer):
    """Move numbers, or put constants around them: a module, undone by another.

    Args:
        there: computes the layer, without rounding, for inputs (batch, *shape).
        back: undoes it.
        shape, target: of one input and output.

    >>> layer = Rearrangement(nn.PixelUnshuffle(3), nn.PixelShuffle(3), (1, 6, 6), (9, 2, 2))
    >>> x = torch.arange(36.0).reshape(1, 1, 6, 6)
    >>> torch.equal(layer.undo(layer(x)), x)
    True
    """

    title = "rearrangement"

    def __init__(self, there: nn.Module, back: nn.Module, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
        super().__init__()
        self.there, self.back, self.shape, self.target = there, back, tuple(shape), tuple(target)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.shape)
        y: Tensor = self.there(x) if len(x) else x.new_zeros(0, *self.target)
        return y

    def undo(self, y: Tensor) -> Tensor:
        check_shape(y, self.target)
        x: Tensor = self.back(y) if len(y) else y.new_zeros(0, *self.shape)
        return x

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        same_size = torch.Size(self.shape).numel() == torch.Size(self.target).numel()
        return super().log_abs_det_jacobian(x) if same_size else Layer.log_abs_det_jacobian(self, x)


class LeakyRectifier(ClosedFormLayer):
    """x where it is positive, and slope·x elsewhere, with slopes above 0.

    Args:
        slope: a number, or one for each channel, as a tensor () or (channels, 1, …).

    Raises:
        ValueError: if a slope is not positive.

    >>> LeakyRectifier(torch.tensor(0.5)).undo(torch.tensor([[2.0, -2.0]]))
    tensor([[ 2., -4.]], grad_fn=<WhereBackward0>)
    """

    title = "leaky rectifier"

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        if not (torch.isfinite(slope) & (slope > 0)).all():
            raise ValueError(f"the slopes must be positive, not {float(slope.min()):g}")
        self.slope = nn.Parameter(slope.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)

    def undo(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, y / self.slope)

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        return (1 / self.slope.detach()).max().clamp_min(1)

    def composed_bound(self, solution: Solution, y: Tensor, bound: Tensor) -> Tensor:
        rounding = torch.finfo(y.dtype).eps * row_norm(solution.value)
        return amplified(self.inverse_lipschitz(), bound) + rounding

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, 0, self.slope.log()).flatten(1).sum(1)
