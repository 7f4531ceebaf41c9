"""Many multilayer ReLU networks of one shape, without biases, trained side by side: one product a layer for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = list[Tensor]  # (networks, d_l, d_{l−1}) for each layer


@dataclass(frozen=True)
class Samples:
    """What each network is trained on.

    Attributes:
        images: of which all draw (images, pixels).
        rows: which images each takes (networks, most); past its count they are not used.
        labels: the label that each gives them (networks, most).
        counts: how many images each takes (networks,).
    """

    images: Tensor
    rows: Tensor
    labels: Tensor
    counts: Tensor

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `size` images for each network, with replacement: (networks, size, pixels), (networks, size)."""
        drawn = torch.rand(len(self.rows), size, generator=generator) * self.counts[:, None]
        places = drawn.long()
        images = self.images.index_select(0, self.rows.gather(1, places).flatten())  # faster than by index
        return images.unflatten(0, places.shape), self.labels.gather(1, places)

    def share_wrong(self, weights: Weights) -> Tensor:
        """Return the share (%) of its images that each network gets wrong, by its own labels (networks,)."""
        outputs = run(weights, self.images[self.rows])
        wrong = outputs.argmax(-1) != self.labels
        counted = torch.arange(wrong.shape[1]) < self.counts[:, None]
        return 100 * (wrong & counted).sum(1) / self.counts


def run(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return the outputs (networks, rows, classes) for inputs (networks or 1, rows, pixels)."""
    for W in weights[:-1]:
        x = (x @ W.mT).relu()
    return x @ weights[-1].mT


def he_normal(networks: int, widths: Sequence[int], generator: torch.Generator) -> Weights:
    """Draw weights with normal entries of variance 2/d_{l−1}, in float32."""
    return [
        torch.randn(networks, outputs, inputs, generator=generator) * (2 / inputs) ** 0.5
        for inputs, outputs in itertools.pairwise(widths)
    ]


def wrong_percent(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """Return the share (%) of images (rows, pixels) that each network gets wrong (networks,)."""
    wrong = run(weights, images[None]).argmax(-1) != labels
    return 100 * wrong.double().mean(1)


def train_together(
    weights: Weights,
    samples: Samples,
    optimiser: Callable[[Weights], torch.optim.Optimizer],
    steps: int,
    batch: int,
    generator: torch.Generator,
    penalty: Callable[[Weights], Tensor] | None = None,
    scale: Tensor | None = None,
) -> tuple[Weights, Tensor]:
    """Train networks by the cross-entropy of their own images, each as if it were alone.

    Args:
        weights: to begin with; they are left alone.
        samples: of each network.
        optimiser: made of the parameters; one that treats every entry alike, as SGD and Adam do.
        steps: number of steps.
        batch: images a step for each network.
        generator: of the batches.
        penalty: a number for each network (networks,) that is added to its loss.
        scale: factors of its gradients (networks,), in place of a rate for each network.

    Returns:
        The weights, and each network's loss without the penalty, averaged over the last tenth of the steps (networks,).
    """
    trained = [W.clone().requires_grad_() for W in weights]
    stepped, seen = optimiser(trained), torch.zeros(len(weights[0]))
    last = max(1, steps // 10)
    for step in range(steps):
        x, labels = samples.batch(batch, generator)
        outputs = run(trained, x)
        loss = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape).mean(1)
        total = loss if penalty is None else loss + penalty(trained)
        stepped.zero_grad()
        (total if scale is None else scale * total).sum().backward()
        stepped.step()
        if step >= steps - last:
            seen += loss.detach() / last
    return [W.detach() for W in trained], seen
