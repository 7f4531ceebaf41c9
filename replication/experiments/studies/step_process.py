"""The process of `StepProcess`: training steps of a Hamiltonian network, timed, with its peak memory at the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from replication.experiments.studies.benchmark import forget_peak_memory, peak_memory_mb
from replication.networks import ReversibleNetwork
from replication.units import BlockSequence, HamiltonianBlock, ReversibleBlock, ReversibleSequence
from replication.units.reversible import Pair

FEW = 2  # images


class RevTorchSequence(BlockSequence):
    """The same blocks, trained by the package revtorch; needs the extra `bench`.

    Args: as BlockSequence; blocks of two couplings.
    """

    def __init__(self, blocks: list[ReversibleBlock]) -> None:
        import revtorch

        super().__init__(blocks)
        branches = [[coupling.branch for coupling in block] for block in blocks]
        self.peer = revtorch.ReversibleSequence(nn.ModuleList([revtorch.ReversibleBlock(*pair) for pair in branches]))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> Pair:
        first, second = self.peer(torch.cat((first, second), dim=1)).chunk(2, dim=1)
        return first, second


SEQUENCES = {"stored": BlockSequence, "reversible": ReversibleSequence, "revtorch": RevTorchSequence}


class Training:
    """A network and what it is trained with.

    Args:
        method: one of SEQUENCES.
        channels, blocks: as for `ReversibleNetwork`.
        batch, size: number of random images, their height and width.
    """

    def __init__(self, method: str, channels: list[int], blocks: list[int], batch: int, size: int) -> None:
        torch.manual_seed(0)
        self.network = ReversibleNetwork((3, size, size), 10, HamiltonianBlock, channels, blocks, SEQUENCES[method])
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)
        self.images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (batch,))
        self.step(FEW)  # which makes the optimizer's own memory

    def step(self, rows: int | None = None) -> None:
        """Do a training step with the first images."""
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.network(self.images[:rows]), self.labels[:rows])
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.loss = float(loss)

    def report(self) -> dict[str, Any]:
        """Return what it is, the peak of this process's memory, and the loss of the last step."""
        return {
            "layers": self.network.layers,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "peak_memory_mb": peak_memory_mb(),
            "loss": self.loss,
        }


def serve(threads: int, lines: Iterable[str]) -> dict[str, Any]:
    """Make a training for each line that has one's arguments, and do a step of it for each "run" after it.

    The seconds of the processor that a step took are printed; the report on the last training is returned.
    """
    torch.set_num_threads(threads)
    training: Training | None = None
    for line in lines:
        if line.strip() != "run":
            training = None  # before the next one takes memory too
            training = Training(**json.loads(line))
            forget_peak_memory()
            continue
        assert training is not None
        start = time.process_time()
        training.step()
        print(time.process_time() - start, flush=True)
    return {} if training is None else training.report()


if __name__ == "__main__":
    print(json.dumps(serve(int(sys.argv[1]), sys.stdin)))
