"""f(x) = y, row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from torch import Tensor

Kind = TypeVar("Kind", bound="RowMap")
Equation = TypeVar("Equation", bound="RowEquation")  # type: ignore[type-arg]  # of any map


class RowMap(Protocol):
    """A map of rows, one for all of them or one for each."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), like x."""

    def select(self: Kind, rows: Tensor) -> Kind:
        """Keep the maps of these rows; a map that all rows share is kept as it is."""


@dataclass(frozen=True)
class RowEquation(Generic[Kind]):
    """f(x) = y, as methods that iterate on x ask for it.

    Attributes:
        map: f.
        y: outputs (batch, *shape).
    """

    map: Kind
    y: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """Return f(x) − y, like x."""
        return self.map(x) - self.y

    def start(self) -> Tensor:
        """Return the point at which methods begin: y."""
        return self.y

    def select(self: Equation, rows: Tensor) -> Equation:
        """Keep these rows."""
        return replace(self, map=self.map.select(rows), y=self.y[rows])
