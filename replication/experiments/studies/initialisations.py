"""Whether it matters for training that initial weights keep the sample variance, not only the total one (figE3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import pandas as pd
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from replication.experiments.data.images import ImageData

TOTAL, SAMPLE, BATCH_NORM = INITIALISATIONS = ("total", "sample", "batch norm")
EPSILON = 1e-5  # of the normalisation, as torch has it


class Stack:
    """Fully connected ReLU networks of one shape, all at once: weights (networks, inputs, outputs), biases.

    Args:
        sizes: of the input, the hidden layers and the output.
        seeds: one a network; networks of one seed begin alike.
        batch_norm: whether preactivations of hidden layers are normalised over the batch, then scaled and shifted.
    """

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], batch_norm: bool) -> None:
        self.batch_norm = batch_norm
        self.weights, self.biases = [], []
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for place, (inputs, outputs) in enumerate(pairwise(sizes)):
            deviation = ((2 if place else 1) / inputs) ** 0.5
            drawn = [deviation * torch.randn(inputs, outputs, generator=generator) for generator in generators]
            self.weights.append(torch.stack(drawn).requires_grad_())
            self.biases.append(torch.zeros(len(seeds), 1, outputs, requires_grad=True))
        self.scales = [torch.ones_like(bias, requires_grad=True) for bias in self.biases[:-1]] if batch_norm else []

    def parameters(self) -> list[Tensor]:
        """Return all that is trained."""
        return [*self.weights, *self.biases, *self.scales]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (networks, samples, classes) for inputs (networks or 1, samples, inputs)."""
        last = len(self.weights) - 1
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight
            if self.batch_norm and place < last:
                x = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + EPSILON).sqrt()
                x = x * self.scales[place]
            x = x + bias
            x = x.relu() if place < last else x
        return x

    @torch.no_grad()
    def keep_the_sample_variance(self, x: Tensor) -> None:
        """Scale and shift every neuron of the hidden layers so that over x (samples, inputs) it has mean 0, variance 1.

        Source: Krähenbühl, Doersch, Donahue and Darrell, Data-dependent initializations of convolutional neural
        networks (ICLR 2016).
        """
        h = x[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            y = h @ weight
            deviation = (y.var(1, correction=0, keepdim=True) + EPSILON).sqrt()
            weight /= deviation
            bias.copy_(-y.mean(1, keepdim=True) / deviation)
            h = (h @ weight + bias).relu()


def trainings(
    data: ImageData,
    hidden: int,
    width: int,
    rates: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    every: int,
    batch: int,
    images: int,
) -> pd.DataFrame:
    """Train networks from three initialisations by stochastic gradient descent, and record their training loss.

    - total: He's, normal weights that keep the total variance, biases 0;
    - sample: the same, then every neuron scaled and shifted so that its sample variance is 1 and its mean 0;
    - batch norm: the first, with batch normalisation.

    Source: paper E3 (impact on training); assumption A21.

    Args:
        data: the images.
        hidden: layers.
        width: of the hidden layers.
        rates: learning rates.
        seeds: of weights and batches.
        steps: of the training.
        every: after so many steps the loss is recorded.
        batch: images of a step.
        images: training images on which the loss is recorded, and the neurons scaled.

    Returns:
        A row for each initialisation, rate, seed and recorded step: part, initialisation, rate, seed, step, loss (cross
        entropy, NaN where the training diverged).
    """
    data.setup()
    assert data.train is not None
    x, labels = data.train.tensors
    x = x.flatten(1)
    x = (x - x.mean()) / x.std()
    runs = list(product(rates, seeds))
    sizes = [x.shape[1], *[width] * hidden, data.classes]
    rows = []
    for name in track(INITIALISATIONS, description="trainings"):
        stack = Stack(sizes, [seed for _, seed in runs], name == BATCH_NORM)
        if name == SAMPLE:
            stack.keep_the_sample_variance(x[:images])
        own_rates = torch.tensor([rate for rate, _ in runs])
        draws = batches([seed for _, seed in runs], batch, len(x))
        for step in range(steps + 1):
            if step % every == 0:
                with torch.no_grad():
                    losses = loss_of(stack, x[None, :images], labels[None, :images])
                rows += [
                    {"part": "training", "initialisation": name, "rate": rate, "seed": seed, "step": step, "loss": loss}
                    for (rate, seed), loss in zip(runs, losses.tolist(), strict=True)
                ]
            chosen = draws()
            descend(stack.parameters(), loss_of(stack, x[chosen], labels[chosen]), own_rates)
    return pd.DataFrame(rows)


def batches(seeds: Sequence[int], batch: int, images: int) -> Callable[[], Tensor]:
    """Return what draws indices (networks, batch) of images; networks of one seed see the same."""
    generators = {seed: torch.Generator().manual_seed(10_000 + seed) for seed in seeds}

    def draw() -> Tensor:
        drawn = {seed: torch.randint(images, (batch,), generator=own) for seed, own in generators.items()}
        return torch.stack([drawn[seed] for seed in seeds])

    return draw


def loss_of(stack: Stack, x: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of each network (networks,)."""
    outputs = stack(x)
    targets = labels.expand(outputs.shape[:2])
    return F.cross_entropy(outputs.mT, targets, reduction="none").mean(1)


def descend(parameters: Sequence[Tensor], losses: Tensor, rates: Tensor) -> None:
    """Take a step of gradient descent with each network's own rate."""
    gradients = torch.autograd.grad(losses.sum(), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rates[:, None, None] * gradient
