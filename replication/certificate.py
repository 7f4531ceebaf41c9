"""What a certificate is: a verdict on a layer, and the evidence for it, which anyone can check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from replication.checks import neither
from replication.rows import row_norm
from replication.words import plain


class Verdict(Enum):
    """What is known of a unit."""

    INVERTIBLE = "invertible"
    NOT_INVERTIBLE = "not invertible"
    UNKNOWN = "unknown"

    __bool__ = neither("verdict is Verdict.INVERTIBLE")


@dataclass(frozen=True)
class Certificate:
    """A verdict with its evidence.

    Attributes:
        verdict: invertible, not invertible or unknown.
        condition: what decides: "lipschitz", "monotone", "h_matrix", "triangular", "p_matrix", "collision", or None; of
            a network's layers also "formula"; of ReLU layers, which are invertible on their range, "opposite_rows",
            "directed_spanning_set", "milp" or "collision".
        reason: one sentence with the numbers, in ASCII, so that it can be printed everywhere.
        witness: two inputs (*shape) with the same output where the unit is not invertible, else None: ‖f(x₁) − f(x₂)‖ ≤
            √ε·‖x₁ − x₂‖ with the ε of the unit's dtype, in exact arithmetic and as evaluated in that dtype.
    """

    verdict: Verdict
    condition: str | None
    reason: str
    witness: tuple[Tensor, Tensor] | None = None

    __bool__ = neither("certificate.verdict is Verdict.INVERTIBLE")

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", plain(self.reason))


def coincide(y1: Tensor, y2: Tensor, x1: Tensor, x2: Tensor) -> bool:
    """Return whether ‖y₁ − y₂‖ ≤ √ε·‖x₁ − x₂‖ for outputs (1, *shape) as evaluated, all numbers being finite."""
    gap, accuracy = row_norm(y1 - y2), torch.finfo(x1.dtype).eps ** 0.5
    finite = all(bool(torch.isfinite(numbers).all()) for numbers in (x1, x2, gap))
    return finite and bool((gap <= accuracy * row_norm((x1 - x2)[None])).all())
