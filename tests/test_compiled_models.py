"""Models of torch.compile with layers of this package: what is undone is undone as without it."""

from __future__ import annotations

import pytest
import torch
from builders import CLOSED, UNITS, built, output_of, shape_of
from torch import nn

from replication import Inverse, LayerwiseNetwork, LipschitzConvUnit, MonotoneConvUnit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch's own, of what it compiles and of private parts of its
]
LAYERS = [name for name in [*UNITS, *CLOSED] if name != "batch"]


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(model, backend="aot_eager")  # type: ignore[return-value]


class Undo(nn.Module):
    """The inverse of a layer as a module."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.layer.inverse(y).value + 1


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_model_undoes_every_layer(name: str) -> None:
    layer = built(name)
    y = output_of(layer, torch.randn(3, *shape_of(name), dtype=torch.float64))
    torch.testing.assert_close(compiled(Undo(layer))(y), layer.inverse(y).value + 1, rtol=0, atol=0)


def test_gradients_of_a_compiled_model_go_through_an_inverse() -> None:
    torch.manual_seed(0)
    network = LayerwiseNetwork(*(kind(2, 3, image_size=(4, 4)) for kind in (LipschitzConvUnit, MonotoneConvUnit)))
    model = nn.Sequential(nn.Conv2d(2, 2, 1), Inverse(network), nn.Conv2d(2, 1, 1)).double()
    y = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    expected = torch.autograd.grad(model(y).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(compiled(model)(y).square().sum(), list(model.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
