"""Reversible blocks to test, branches that depend on more than their input, and what is compared."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as torch_parametrizations

from replication import HamiltonianBlock, LeapfrogBlock, MidpointBlock, RevNetBlock
from replication.units import BlockSequence, ReversibleBlock, ReversibleSequence

BLOCKS = [HamiltonianBlock, MidpointBlock, LeapfrogBlock, RevNetBlock]
WITH_KERNELS = [HamiltonianBlock, MidpointBlock, LeapfrogBlock]


def states(block: ReversibleBlock, size: tuple[int, ...] = (6, 6), rows: int = 5) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, rows, block.state_channels, *size, dtype=next(block.parameters()).dtype)
    return first, second


def error(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


def gradients(module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Tensor:
    module.zero_grad()
    loss(module).backward()
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def pair(block: Callable[[], ReversibleBlock], depth: int, dtype: torch.dtype = torch.float64) -> list[BlockSequence]:
    """The same blocks, with and without stored activations."""
    blocks = [block().to(dtype) for _ in range(depth)]
    return [BlockSequence(blocks), ReversibleSequence(copy.deepcopy(blocks))]


def outputs(sequence: nn.Module, *given: Tensor) -> Tensor:
    first, second = sequence(*given)
    return first.sin().sum() + second.square().sum()


class Branch(nn.Module):
    """A convolution, and what is made of its result."""

    def __init__(self, act: Callable[[Branch, Tensor], Tensor] = lambda branch, x: x.tanh()) -> None:
        super().__init__()
        self.layer, self.act, self.calls, self.list = nn.Conv2d(2, 2, 3, padding=1), act, 0, []
        self.generator = torch.Generator().manual_seed(0)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self, self.layer(x))


def normalised(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(Branch(), nn.BatchNorm2d(2), *layers, Branch())


def counted(branch: Branch, x: Tensor) -> Tensor:
    branch.count += 1
    return x * (1 + branch.count / 8)


def called(branch: Branch, x: Tensor) -> Tensor:
    branch.calls += 1
    return x * (1 + branch.calls / 8)


STATEFUL: dict[str, Callable[[], nn.Module]] = {
    "instance norm": lambda: nn.Sequential(Branch(), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
    "batch norm": normalised,
    "spectral norm": lambda: torch_parametrizations.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "older spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "older weight norm": lambda: nn.utils.weight_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "orthogonal": lambda: torch_parametrizations.orthogonal(nn.Conv2d(2, 2, 1)),
    "a buffer": lambda: Branch(counted),
    "a counter": lambda: Branch(called),
    "torch's random numbers": lambda: normalised(nn.Dropout(0.3)),
    "Python's random numbers": lambda: Branch(lambda _, x: x * random.random()),
    "numpy's random numbers": lambda: Branch(lambda _, x: x * np.random.rand()),  # noqa: NPY002
    "a branch within": lambda: normalised(Coupled(ReversibleSequence([RevNetBlock(2, nn.Tanh(), nn.Sigmoid())]))),
}


class Coupled(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.block(x[:, :1], x[:, 1:]), dim=1)
