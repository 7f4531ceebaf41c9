"""What is known of the rows of a ReLU layer: whether the active ones span at every input, why, and where not."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from replication.checks import neither
from replication.words import plain


@dataclass(frozen=True)
class SpanningTest:
    """What is known of the rows of a layer.

    Attributes:
        spans: True if the active rows span at every input, False if there are colliding inputs, None if unknown.
        condition: what decides: "opposite_rows", "directed_spanning_set", "milp", "collision", or None.
        reason: one sentence with the numbers, in ASCII.
        pair: where it is False, two inputs (n,) in float64 whose segment has one and the same output, else None.

    >>> SpanningTest(None, None, "σ is below 1e−9.")
    SpanningTest(spans=None, condition=None, reason='sigma is below 1e-9.', pair=None)
    """

    spans: bool | None
    condition: str | None
    reason: str
    pair: tuple[Tensor, Tensor] | None = None

    __bool__ = neither("test.spans is True")

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", plain(self.reason))
