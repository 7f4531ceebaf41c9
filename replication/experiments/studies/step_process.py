"""The processes of figC2 and tableC: training steps of networks of paper C, timed, or measured in their memory."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from replication.experiments.studies.benchmark import forget_peak_memory, peak_memory_mb
from replication.networks import ReversibleNetwork, preset
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
        network: its name (`preset`), or channels, blocks and sequence, one of SEQUENCES, of a Hamiltonian network.
        batch, size: number of random images, their height and width.
        precision: of the layers, "float32" or "bfloat16".
    """

    def __init__(self, network: str | Mapping[str, Any], batch: int, size: int, precision: str = "float32") -> None:
        torch.manual_seed(0)
        self.network = preset(network, (3, size, size)) if isinstance(network, str) else hamiltonian(size, **network)
        self.reduced = precision == "bfloat16"
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)
        self.images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(10, (batch,))
        self.step(FEW)  # which warms up, and makes the optimizer's own memory
        forget_peak_memory()
        self.memory_before = peak_memory_mb()

    def step(self, rows: int | None = None) -> None:
        """Do a training step with the first images."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.reduced):
            logits = self.network(self.images[:rows])
        loss = F.cross_entropy(logits.float(), self.labels[:rows])
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.loss = float(loss.detach())

    def report(self) -> dict[str, Any]:
        """Return what it is, the peak of this process's memory, the steps' part of it, and the loss."""
        peak = peak_memory_mb()
        return {
            "layers": self.network.layers,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "peak_memory_mb": peak,
            "step_memory_mb": peak - self.memory_before,
            "loss": self.loss,
        }


def hamiltonian(size: int, channels: list[int], blocks: list[int], sequence: str) -> ReversibleNetwork:
    """Return a Hamiltonian network for images of this height and width."""
    return ReversibleNetwork((3, size, size), 10, HamiltonianBlock, channels, blocks, SEQUENCES[sequence])


def time_steps(lines: Iterable[str]) -> None:
    """Make a training for each line that has one's arguments, and do a step of it for each "run" after it.

    The seconds of the processor that a step took are printed.
    """
    training: Training | None = None
    for line in lines:
        if line.strip() != "run":
            training = None  # before the next one takes memory too
            training = Training(**json.loads(line))
            continue
        assert training is not None
        start = time.process_time()
        training.step()
        print(time.process_time() - start, flush=True)


def measure_memory(lines: Iterable[str]) -> None:
    """Do a step of the training that each line has the arguments of, each in a process of its own.

    Each prints its report. It is a copy of this one, in which nothing was computed, where copies are safe.
    """
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    for line in lines:
        process = context.Process(target=print_report, args=(line,))
        process.start()
        process.join()
        if process.exitcode:  # below 0 that of a signal; else it has said why
            sys.exit("the step was killed; is there too little memory?" if process.exitcode < 0 else 1)


def print_report(line: str) -> None:
    """Do one step of a training; print its report."""
    training = Training(**json.loads(line))
    training.step()
    print(json.dumps(training.report()), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    {"time": time_steps, "memory": measure_memory}[sys.argv[1]](sys.stdin)
