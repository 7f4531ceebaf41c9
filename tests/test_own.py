"""Modules of one's own: read off, checked, certified and inverted, or refused with a reason."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from replication import Verdict, as_unit, invert


class Block(nn.Module):
    """x + second(relu(first(x)))."""

    def __init__(self, first: nn.Module, second: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = nn.Sequential(first, activation or nn.ReLU(), second).double()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def convolutions(**options: object) -> tuple[nn.Conv2d, nn.Conv2d]:
    settings = {"padding": 1} | options
    return nn.Conv2d(2, 3, 3, **settings), nn.Conv2d(3, 2, 3, **settings)


IMAGES = (5, 2, 6, 7)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Linear(4, 6), nn.Linear(6, 4)), (5, 4)),
        ((nn.Linear(4, 6, bias=False), nn.Linear(6, 4, bias=False)), (5, 4)),
        (convolutions(), IMAGES),
        (convolutions(padding="same", bias=False), IMAGES),
        (convolutions(padding_mode="circular"), IMAGES),
    ],
)
def test_modules_are_read_and_inverted(layers: tuple[nn.Module, nn.Module], shape: tuple[int, ...]) -> None:
    block, x = Block(*layers), torch.randn(shape, dtype=torch.float64)
    unit = as_unit(block, x)
    torch.testing.assert_close(unit(x), block(x))
    assert unit.certificate().verdict in Verdict
    solution = invert(block, block(x).detach(), tolerance=1e-12)
    assert solution.converged.all()
    torch.testing.assert_close(block(solution.value), block(x))


@pytest.mark.parametrize(
    ("block", "shape", "sentence"),
    [
        (nn.Sequential(nn.Linear(4, 4)), (5, 4), "its layers with weights are: Linear"),
        (Block(*convolutions(), nn.Tanh()), IMAGES, "differs by more than rounding"),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)).double(), (5, 4), "differs by more than rounding"),
        (Block(*convolutions(padding_mode="reflect")), IMAGES, "zero or circular padding of half of it"),
        (Block(nn.Conv2d(2, 3, 5, padding=2), nn.Conv2d(3, 2, 3, padding=1)), IMAGES, "odd kernel size of the other"),
    ],
)
def test_other_modules_are_refused(block: nn.Module, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        invert(block, torch.randn(shape, dtype=torch.float64))


def test_no_rows_and_rows_that_are_not_finite() -> None:
    block = Block(*convolutions()).double()
    assert invert(block, torch.empty(0, *IMAGES[1:], dtype=torch.float64), "anderson").value.shape == (0, *IMAGES[1:])
    with pytest.raises(ValueError, match="not finite"):
        invert(block, torch.full(IMAGES, torch.nan, dtype=torch.float64))


@pytest.mark.slow
def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, "examples/own_network.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("10 of 10 images converged") == 3
