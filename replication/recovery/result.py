"""What was recovered of a black box, what was not, and the network made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from replication.checks import neither
from replication.recovery.oracle import Array


class RecoveryStatus(Enum):
    """How much of a network was recovered; the values are sentences."""

    RECOVERED = "the whole network was recovered, up to the order and the positive scale of its units"
    FUNCTION = "the function was recovered, but the outputs leave signs or weights of some units open"
    AFFINE = "no kink was found within the radius: the function is affine there"
    PARTLY = "a part was recovered: the units given hold, but no network of them is the function"
    REFUSED = "the function is no ReLU network in float64, or none that can be told from its outputs"
    OUT_OF_QUERIES = "the queries ran out before the network was recovered"


@dataclass(frozen=True)
class RecoveredLayer:
    """The units of a hidden layer that were recovered.

    Attributes:
        weight: of the units (units, width of the layer before), of length one where the layer is the first, scaled
            at will in the second; NaN where a boundary does not cross that unit's before, so that nothing tells.
        bias: (units,).
        complete: whether all weights of a unit are known (units,).
        signs_known: whether the units point the way they do in the network; else each may be turned round.
    """

    weight: Tensor
    bias: Tensor
    complete: Tensor
    signs_known: bool


@dataclass(frozen=True)
class Recovery:
    """What `recover_network` found, told without knowing the truth.

    Attributes:
        status: how much was recovered.
        reason: one sentence with the numbers.
        network: maps rows (rows, d) to (rows, m) as the black box does; None where none was recovered.
        layers: the hidden layers, as far as recovered.
        architecture: numbers of inputs, of units found in each hidden layer, and of outputs.
        queries: rows that the black box was asked for.
        error: largest difference of network and black box at fresh points, over the range of the outputs; NaN without
            a network.
        defect: largest distance from 0 and 1 of what must be 0 or 1, which units point the other way: a self-check that
            a false unit fails; NaN where the signs are not determined.

    >>> import torch
    >>> from replication import recover_network
    >>> recovery = recover_network(lambda x: torch.tanh(x), inputs=3)
    >>> recovery.status.name, recovery.network
    ('REFUSED', None)
    """

    status: RecoveryStatus
    reason: str
    network: RecoveredNetwork | None
    layers: tuple[RecoveredLayer, ...]
    architecture: tuple[int, ...]
    queries: int
    error: float = float("nan")
    defect: float = float("nan")

    __bool__ = neither("recovery.status")


class RecoveredNetwork(nn.Module):
    """A ReLU network with linear shortcuts where the signs of units were not determined.

    Attributes:
        layers: affine maps, with ReLUs between them.
        shortcuts: linear maps by "i_j", from the output of layer i (0 is the input) to what layer j + 1 gives; empty
            for an ordinary network.
    """

    def __init__(self, layers: list[tuple[Array, Array]], shortcuts: Mapping[tuple[int, int], Array]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(linear(weight, bias) for weight, bias in layers)
        self.shortcuts = nn.ModuleDict({f"{i}_{j}": linear(weight) for (i, j), weight in shortcuts.items()})

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (rows, d) to (rows, m)."""
        outputs = [x]
        for j, layer in enumerate(self.layers):
            value = layer(outputs[-1])
            for i, earlier in enumerate(outputs):
                if f"{i}_{j}" in self.shortcuts:
                    value = value + self.shortcuts[f"{i}_{j}"](earlier)
            outputs.append(value if j == len(self.layers) - 1 else torch.relu(value))
        return outputs[-1]

    def sequential(self) -> nn.Sequential:
        """Return the ordinary network, Linear and ReLU by turns.

        Raises:
            ValueError: if there are shortcuts.
        """
        if len(self.shortcuts):
            raise ValueError("the signs of some units are not known, so the network has shortcuts; use it as it is")
        parts: list[nn.Module] = []
        for layer in self.layers:
            parts += [layer, nn.ReLU()]
        return nn.Sequential(*parts[:-1])


def linear(weight: Array, bias: Array | None = None) -> nn.Linear:
    """Return a float64 layer of a weight (outputs, inputs) and a bias (outputs,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer
