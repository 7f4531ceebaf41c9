"""Networks trained side by side: each as if it were alone, on its own images."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from replication.experiments.studies.many_networks import Samples, he_normal, run, train_together, wrong_percent

WIDTHS = (5, 7, 6, 3)
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(20, 5, generator=GENERATOR)
SAMPLES = Samples(
    IMAGES,
    torch.stack([torch.randperm(20, generator=GENERATOR)[:12] for _ in range(4)]),
    torch.randint(3, (4, 12), generator=GENERATOR),
    torch.tensor([12, 5, 1, 8]),
)


def alone(weights: list[torch.Tensor], network: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for W in weights:
        layer = nn.Linear(W.shape[2], W.shape[1], bias=False)
        layer.weight = nn.Parameter(W[network].clone())
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def test_outputs_are_those_of_each_network() -> None:
    weights = he_normal(4, WIDTHS, torch.Generator().manual_seed(1))
    for network in range(4):
        expected = alone(weights, network)(IMAGES)
        assert torch.allclose(run(weights, IMAGES[None])[network], expected, atol=1e-6)
        wrong = 100 * float((expected.argmax(1) != torch.arange(20) % 3).double().mean())
        assert abs(float(wrong_percent(weights, IMAGES, torch.arange(20) % 3)[network]) - wrong) < 1e-9


def test_each_draws_its_own_images_with_their_labels() -> None:
    x, labels = SAMPLES.batch(200, torch.Generator().manual_seed(2))
    for network, count in enumerate(SAMPLES.counts.tolist()):
        own = {
            (tuple(IMAGES[place].tolist()), int(label))
            for place, label in zip(SAMPLES.rows[network][:count], SAMPLES.labels[network], strict=False)
        }
        seen = {(tuple(image.tolist()), int(label)) for image, label in zip(x[network], labels[network], strict=True)}
        assert seen == own


def test_trained_together_is_trained_alone() -> None:
    begun = he_normal(4, WIDTHS, torch.Generator().manual_seed(3))
    kept = [W.clone() for W in begun]
    factor = torch.tensor([1.0, 0.5, 2.0, 0.1])
    together, _ = train_together(
        begun, SAMPLES, partial(torch.optim.SGD, lr=0.1), 15, 6, torch.Generator().manual_seed(4),
        penalty=lambda weights: sum(0.01 * W.square().sum((1, 2)) for W in weights), scale=factor,
    )  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(begun, kept, strict=True))
    for network in range(4):
        module, generator = alone(begun, network), torch.Generator().manual_seed(4)
        optimiser = torch.optim.SGD(module.parameters(), lr=0.1 * float(factor[network]))
        for _ in range(15):
            x, labels = SAMPLES.batch(6, generator)
            loss = nn.functional.cross_entropy(module(x[network]), labels[network])
            loss = loss + 0.01 * sum(parameter.square().sum() for parameter in module.parameters())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for W, layer in zip(together, module[::2], strict=True):
            assert torch.allclose(W[network], layer.weight, atol=1e-5)


def test_wrong_answers_are_counted_among_ones_own_images() -> None:
    weights = he_normal(4, WIDTHS, torch.Generator().manual_seed(5))
    for network, count in enumerate(SAMPLES.counts.tolist()):
        answers = alone(weights, network)(IMAGES[SAMPLES.rows[network][:count]]).argmax(1)
        expected = 100 * float((answers != SAMPLES.labels[network][:count]).double().mean())
        assert abs(float(SAMPLES.share_wrong(weights)[network]) - expected) < 1e-4
