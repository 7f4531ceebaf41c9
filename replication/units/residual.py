"""Dense residual units: f(x) = x + W₂·relu(W₁x + b₁) + b₂ and the rectifier linear transform x + relu(Wx + b)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from replication.certificate import Certificate
from replication.checks import check_numbers
from replication.maps import DenseMap, RectifierMap
from replication.operators import Dense
from replication.units.rectifier_unit import RectifierUnit


class ResidualUnit(RectifierUnit):
    """The residual unit with a fully-connected layer, or a batch of them.

        f(x) = x + W₂·relu(W₁x + b₁) + b₂

    Source: paper A, Fig. 3 (assumption A2).

    Args:
        W1: (h, d), or (units, h, d) for a batch of units.
        b1: (h,) or (units, h).
        W2: (d, h) or (units, d, h).
        b2: (d,) or (units, d).

    Inputs have the shape (batch, d). Those of a batch of units have (units, d), a row for each unit, or
    (units, rows, d).

    Raises:
        ValueError: if the shapes do not fit each other or a value is not finite.
        TypeError: if the dtypes differ or are not floating.

    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))
    >>> solution = unit.inverse(unit(torch.tensor([[1.0, -2.0]])))
    >>> solution.status[0].name, bool((solution.value - torch.tensor([[1.0, -2.0]])).abs().max() < 1e-4)
    ('CONVERGED', True)
    """

    title = "residual unit"

    def __init__(self, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor) -> None:
        super().__init__()
        check_unit(W1=W1, b1=b1, W2=W2, b2=b2)
        self.W1, self.b1, self.W2, self.b2 = (nn.Parameter(tensor.detach().clone()) for tensor in (W1, b1, W2, b2))

    @property
    def batched(self) -> bool:
        """Whether this is a batch of units."""
        return self.W1.ndim == 3

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.W1.shape[-1],)

    def __getitem__(self, index: int | slice) -> ResidualUnit:
        """Return one unit of a batch, or a batch of some of them."""
        if not self.batched:
            raise TypeError("a single unit has no parts")
        return ResidualUnit(self.W1[index], self.b1[index], self.W2[index], self.b2[index])

    def rectifier_map(self, shape: tuple[int, ...]) -> DenseMap:
        if shape != (self.W1.shape[-1],):
            raise ValueError(f"the unit takes rows of {self.W1.shape[-1]} numbers, not of shape {shape}")
        return DenseMap(Dense(self.W1), self.b1, Dense(self.W2), self.b2)

    def rows(self, x: Tensor) -> tuple[Tensor, RectifierMap]:
        if not self.batched:
            check_ndim(x, 2, "(batch, d)")
            return super().rows(x)
        if x.ndim not in (2, 3) or len(x) != len(self.W1):
            raise ValueError(
                f"a batch of {len(self.W1)} units takes inputs (units, d) or (units, rows, d), not {tuple(x.shape)}"
            )
        rectifier_map = self.rectifier_map(tuple(x.shape[-1:]))
        if x.ndim == 2:
            return x, rectifier_map
        unit_of_row = torch.arange(len(self.W1), device=x.device).repeat_interleave(x.shape[1])
        return x.reshape(-1, x.shape[-1]), rectifier_map.select(unit_of_row)

    def certificate(self, folds: bool = True) -> Certificate:
        """Certify a single unit.

        Args:
            folds: whether two inputs with the same output are looked for where no condition holds.

        Raises:
            ValueError: for a batch of units.
        """
        if self.batched:
            raise ValueError("each unit of a batch has its own certificate: unit[i].certificate()")
        return super().certificate(folds)

    def extra_repr(self) -> str:
        units = f"units={len(self.W1)}, " if self.batched else ""
        return f"{units}dimension={self.W1.shape[-1]}, hidden={self.W1.shape[-2]}"


class RectifierLinear(ResidualUnit):
    """The rectifier linear transform, or a batch of them.

        f(x) = x + relu(Wx + b)

    Source: paper A, Fig. 2 (assumption A1): the residual unit with W₁ = W, W₂ = I, b₂ = 0, hence A = W.

    Args:
        W: (d, d), or (units, d, d).
        b: (d,), or (units, d).

    Raises: as `ResidualUnit`.

    >>> unit = RectifierLinear(3 * torch.eye(2), torch.zeros(2))
    >>> unit(torch.tensor([[1.0, -2.0]])).detach()
    tensor([[ 4., -2.]])
    >>> unit.inverse(torch.tensor([[4.0, -2.0]])).value.round(decimals=3)
    tensor([[ 1., -2.]])
    """

    def __init__(self, W: Tensor, b: Tensor) -> None:
        check_numbers(W=W, b=b)
        if W.ndim not in (2, 3) or W.shape[-1] != W.shape[-2]:
            raise ValueError(f"W must have the shape (d, d) or (units, d, d), not {tuple(W.shape)}")
        identity = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device).expand_as(W)
        super().__init__(W, b, identity, torch.zeros_like(b))
        self.W2.requires_grad_(False)
        self.b2.requires_grad_(False)


def check_unit(**tensors: Tensor) -> None:
    """Refuse tensors that do not make up a residual unit or a batch of them."""
    check_numbers(**tensors)
    W1 = tensors["W1"]
    if W1.ndim not in (2, 3):
        raise ValueError(f"W1 must have the shape (h, d) or (units, h, d), not {tuple(W1.shape)}")
    *units, h, d = W1.shape
    if min(h, d) == 0:
        raise ValueError(f"W1 must have rows and columns, not the shape {tuple(W1.shape)}")
    expected = {"b1": (*units, h), "W2": (*units, d, h), "b2": (*units, d)}
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"{name} must have the shape {shape} to fit W1 {tuple(W1.shape)}, not {tuple(tensors[name].shape)}"
            )


def check_ndim(x: Tensor, ndim: int, shape: str) -> None:
    """Refuse inputs with another number of dimensions."""
    if x.ndim != ndim:
        raise ValueError(f"the unit takes inputs {shape}, not of shape {tuple(x.shape)}")
