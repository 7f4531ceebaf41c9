"""Paper E3's study: random networks against modules, trainings against torch's own, the claims' numbers."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from builders import checks_passed
from conftest import ROOT
from torch import nn

from replication import sample_variance
from replication.experiments.data.images import Digits
from replication.experiments.studies.initialisations import INITIALISATIONS, Stack, batches, loss_of, trainings
from replication.experiments.studies.papers import paper_e3
from replication.experiments.studies.variance_decay import map_by_draws, moments, random_networks, theory

TABLE = pd.read_csv(ROOT / "figures" / "figE3.csv")


def module(width: int, depth: int, batch_norm: bool, generator: torch.Generator) -> nn.Sequential:
    """The same network as a module, its weights drawn in the same order."""
    layers: list[nn.Module] = []
    for place in range(depth + 1):
        layer = nn.Linear(width, width, bias=False)
        drawn = torch.randn(1, width, width, generator=generator)[0]
        layer.weight.data = drawn.mT * ((2 if place else 1) / width) ** 0.5
        norm = [nn.BatchNorm1d(width, eps=1e-12, affine=False)] if batch_norm else []
        layers += [layer, *norm, nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_networks_are_what_modules_of_torch_compute(batch_norm: bool) -> None:
    width, depth, samples = 20, 6, 30
    ours = torch.cat(list(moments(width, 1, depth, samples, batch_norm, torch.Generator().manual_seed(3))))
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(1, samples, width, generator=generator)[0]
    found = sample_variance(module(width, depth, batch_norm, generator), inputs)
    assert torch.allclose(ours, torch.stack((found.total, found.squared_mean, found.variance), 1), rtol=1e-3, atol=1e-5)


def test_the_theory_is_the_limit_of_a_bivariate_simulation() -> None:
    """Two inputs of wide networks, followed through layers of fresh weights, without any formula."""
    generator = np.random.default_rng(0)
    correlations = np.zeros((8, 5))
    for net in correlations:
        x = generator.standard_normal((2, 1000))
        for layer in range(5):
            x = x @ generator.standard_normal((1000, 1000)) * math.sqrt((2 if layer else 1) / 1000)
            net[layer] = (x[0] @ x[1]) / (x**2).sum() * 2
            x = np.maximum(x, 0)
    expected = 1 - theory(4)["variance"].to_numpy()
    error = correlations.std(axis=0, ddof=1) / math.sqrt(len(correlations))
    assert (abs(correlations.mean(axis=0) - expected) <= 5 * error).all()


def test_tables_have_their_rows_and_standard_errors() -> None:
    table = random_networks([(5, 4), (8, 3)], depth=3, samples=10, batch_norm=False, seed=0)
    assert list(table["layer"]) == [0, 1, 2, 3] * 2
    assert list(table["networks"]) == [4] * 4 + [3] * 4
    assert (table[["total_se", "variance_se"]] > 0).all(axis=None)
    assert list(theory(3, checkpoints=[7])["layer"]) == [0, 1, 2, 3, 7]


def test_draws_tell_the_two_forms_of_the_map_apart() -> None:
    (row,) = map_by_draws([1 / math.pi], draws=100_000, seed=0).to_dict("records")
    assert row["corrected"] == pytest.approx(0.4937, abs=1e-4)
    assert row["as_printed"] == pytest.approx(0.3682, abs=1e-4)
    assert abs(row["draws_mean"] - row["corrected"]) < 5 * row["draws_se"] < abs(row["draws_mean"] - row["as_printed"])


def as_module(stack: Stack, place: int) -> nn.Sequential:
    """One network of a stack as torch's own layers."""
    layers: list[nn.Module] = []
    for index, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        layer = nn.Linear(*weight.shape[1:], bias=True)
        layer.weight.data, layer.bias.data = weight[place].detach().mT.clone(), bias[place, 0].detach().clone()
        layers.append(layer)
        if index < len(stack.weights) - 1:
            if stack.batch_norm:
                layers.append(nn.BatchNorm1d(weight.shape[2]))
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_trainings_are_those_of_torchs_modules_and_optimiser(initialisation: str) -> None:
    data = Digits(batch_size=32, epochs=1, seed=0)
    table = trainings(
        data, hidden=2, width=12, rates=[0.02, 0.1], seeds=[0, 1], steps=5, every=5, batch=20, images=60
    ).query("initialisation == @initialisation")
    x, labels = data.train.tensors  # type: ignore[union-attr]
    x = x.flatten(1)
    x = (x - x.mean()) / x.std()
    stack = Stack([64, 12, 12, 10], [1], initialisation == "batch norm")
    if initialisation == "sample":
        stack.keep_the_sample_variance(x[:60])
    model = as_module(stack, 0)
    optimiser, draw = torch.optim.SGD(model.parameters(), lr=0.1), batches([1], 20, len(x))
    start = float(F.cross_entropy(model(x[:60]), labels[:60]).detach())
    for _ in range(5):
        optimiser.zero_grad()
        chosen = draw()[0]
        F.cross_entropy(model(x[chosen]), labels[chosen]).backward()
        optimiser.step()
    end = float(F.cross_entropy(model(x[:60]), labels[:60]).detach())
    own = table.query("seed == 1 and rate == 0.1").set_index("step")["loss"]
    assert own[0] == pytest.approx(start, rel=1e-3)
    assert own[5] == pytest.approx(end, rel=1e-3)
    assert end < start


def test_the_sample_start_gives_every_hidden_neuron_mean_zero_and_variance_one() -> None:
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    stack = Stack([6, 9, 9, 3], [0, 5], batch_norm=False)
    stack.keep_the_sample_variance(x)
    for place in (0, 1):
        model = as_module(stack, place)
        for depth in (1, 3):
            y = model[:depth](x).detach()
            assert y.mean(0).abs().max() < 1e-4
            assert (y.var(0, correction=0) - 1).abs().max() < 1e-3
    assert loss_of(stack, x[None], torch.zeros(1, 200, dtype=torch.long)).shape == (2,)


@pytest.mark.parametrize(
    ("claim", "rows", "column", "value"),
    [
        ("E3-total", "part == 'random'", "total", 3.0),
        ("E3-decay", "part == 'theory'", "variance", 0.9),
        ("E3-width", "part == 'random' and width == 1000", "ratio", 1.0),
        ("E3-batch-norm", "part == 'batch norm' and layer > 20", "variance", 0.1),
        ("E3-map", "part == 'map'", "corrected", 2.0),
        ("E3-impact", "part == 'training'", "loss", 1.0),
    ],
)
def test_a_changed_table_fails_a_check_that_held(claim: str, rows: str, column: str, value: float) -> None:
    changed = TABLE.copy()
    changed.loc[changed.eval(rows), column] = value
    assert checks_passed(claim, changed) < checks_passed(claim, TABLE)


def test_diverged_trainings_are_no_best_rate() -> None:
    rows = [("total", 0.1, 0, 1.0), ("total", 0.1, 1, math.nan), ("total", 1.0, 0, 2.0), ("total", 1.0, 1, 4.0)]
    table = pd.DataFrame(rows, columns=["initialisation", "rate", "seed", "loss"]).assign(part="training", step=9)
    assert paper_e3.best(table, "total") == 3
