"""What all methods share: each says which maps it takes, and refuses the others in one sentence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from replication.maps import CausalMap, RectifierEquation, RectifierMap
from replication.solvers.solution import Solution, name_of


class Method(ABC):
    """A method with its hyper-parameters, for maps of some kind.

    Attributes:
        needs: what it asks of a unit, to end the sentence "the method needs …".
    """

    needs: ClassVar[str] = "a unit with one ReLU layer"

    def takes(self, rectifier_map: RectifierMap) -> bool:
        """Return whether the method is made for this map."""
        return isinstance(rectifier_map, RectifierMap)

    def check(self, rectifier_map: RectifierMap) -> None:
        """Refuse maps that the method is not made for.

        Raises:
            ValueError: if it does not take the map.
        """
        if not self.takes(rectifier_map):
            raise ValueError(f"{name_of(self)} needs {self.needs}; use another solver, or auto, which chooses")

    @abstractmethod
    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Solve every row of f(x) = y to ‖f(x) − y‖ / ‖y‖ ≤ tolerance, or say by its status why not.

        Raises:
            ValueError: if the method does not take the map.
        """


class GeneralMethod(Method):
    """A method for every map that keeps the shape, also for modules of which nothing is known."""

    def takes(self, rectifier_map: object) -> bool:
        return True


class CausalMethod(Method):
    """A method for causal units."""

    needs = "a causal unit, convolutions padded at one corner only"

    def takes(self, rectifier_map: RectifierMap) -> bool:
        return isinstance(rectifier_map, CausalMap)

    def check(self, rectifier_map: RectifierMap) -> None:
        Method.check(self, rectifier_map)  # whatever the walks over pieces ask of their maps

    def causal(self, equation: RectifierEquation) -> CausalMap:
        """Return the map of an equation, which is causal.

        Raises:
            ValueError: if it is not.
        """
        rectifier_map = equation.map
        self.check(rectifier_map)
        assert isinstance(rectifier_map, CausalMap)  # as `takes` says
        return rectifier_map


class GramMethod(Method):
    """A method for units with W₂ = W₁ᵀ."""

    needs = "a monotone (Gram) unit, W₂ = W₁ᵀ"

    def takes(self, rectifier_map: RectifierMap) -> bool:
        return rectifier_map.gram
