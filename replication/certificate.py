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
    """What is known of a unit.

    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))
    >>> unit.certificate().verdict is Verdict.INVERTIBLE
    True
    """

    INVERTIBLE = "invertible"
    NOT_INVERTIBLE = "not invertible"
    UNKNOWN = "unknown"

    __bool__ = neither("verdict is Verdict.INVERTIBLE")


@dataclass(frozen=True)
class Certificate:
    """A verdict with its evidence.

    Attributes:
        verdict: invertible, not invertible or unknown.
        condition: what decides: "lipschitz", "monotone", "h_matrix", "triangular", "p_matrix", "diagonal_stability",
            "affine", "collision", or None; of
            a network's layers also "formula"; of ReLU layers, which are invertible on their range, "opposite_rows",
            "directed_spanning_set", "milp" or "collision".
        reason: one sentence with the numbers, in ASCII, so that it can be printed everywhere.
        witness: two inputs (*shape) with the same output where the unit is not invertible, else None: ‖f(x₁) − f(x₂)‖ ≤
            √ε·‖x₁ − x₂‖ with the ε of the unit's dtype, as evaluated in it; of dense units in exact arithmetic too.

    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(1), torch.zeros(1), -3 * torch.eye(1), torch.zeros(1))  # x − 3·relu(x)
    >>> certificate = unit.certificate()
    >>> certificate.verdict.value, certificate.condition
    ('not invertible', 'collision')
    >>> x1, x2 = certificate.witness
    >>> bool((unit(x1[None]) - unit(x2[None])).abs() < 1e-5), bool((x1 - x2).abs() > 1)
    (True, True)
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
