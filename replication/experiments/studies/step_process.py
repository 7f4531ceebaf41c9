"""The process of `StepProcess`: training steps of a Hamiltonian network, timed, with its peak memory at the end."""

from __future__ import annotations

import json
import sys
import time
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


def serve(method: str, channels: list[int], blocks: list[int], batch: int, size: int, threads: int) -> dict[str, Any]:
    """Do one training step for each line, timed in seconds of the processor; return the peak memory at the end.

    Args:
        method: one of SEQUENCES.
        channels, blocks: as for `ReversibleNetwork`.
        batch, size: number of random images, their height and width.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = ReversibleNetwork((3, size, size), 10, HamiltonianBlock, channels, blocks, SEQUENCES[method])
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))

    def step(rows: int) -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images[:rows]), labels[:rows])
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    loss = step(FEW)  # which makes the optimizer's own memory
    forget_peak_memory()
    for _ in sys.stdin:
        start = time.process_time()
        loss = step(batch)
        print(time.process_time() - start, flush=True)
    return {
        "layers": network.layers,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "peak_memory_mb": peak_memory_mb(),
        "loss": float(loss),
    }


if __name__ == "__main__":
    print(json.dumps(serve(**json.loads(sys.argv[1]))))
