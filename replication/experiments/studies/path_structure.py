"""Basis paths of multilayer networks: how many there are, that they generate all paths, and what leaves them alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from replication import basis_paths
from replication.path_basis import basis_path_norms, basis_values, path_norms

Row = dict[str, object]
COLUMNS = ("part", "start", "axis", "case", "seed", "quantity", "value", "low", "high")
MEASURES: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {  # of weights (networks, d_l, d_{l−1}): (networks,)
    "basis_sup": lambda weights: basis_path_norms(*basis_values(weights)),
    "basis_l2": lambda weights: basis_penalty(weights).sqrt(),
    "path_l1": lambda weights: path_norms(weights, 1.0),
    "path_l2": lambda weights: path_norms(weights, 2.0),
    "l2": lambda weights: squared_size(weights).sqrt(),
    "spectral": lambda weights: torch.stack([torch.linalg.matrix_norm(W, 2) for W in weights]).prod(0),
}


def line(part: str, quantity: str, value: float, **more: object) -> Row:
    """Return one row of the table, with the columns that it has no use for empty."""
    return {**dict.fromkeys(COLUMNS), "part": part, "quantity": quantity, "value": float(value), **more}


def squared_size(weights: Sequence[Tensor]) -> Tensor:
    """Return the sum of all squared weights (networks,)."""
    return torch.stack([W.square().sum((-2, -1)) for W in weights]).sum(0)


def basis_penalty(weights: Sequence[Tensor]) -> Tensor:
    """Return Σ p² over positive basis paths and Σ log²|q| over central ones (networks,), a smooth basis-path norm."""
    positive, central = basis_values(weights)
    return positive.square().sum(-1) + central.abs().log().square().sum(-1)


def counts(architectures: Sequence[Sequence[int]], seed: int) -> Iterator[Row]:
    """Yield, for each list of widths, the rank of all paths, m − H, numbers, and the largest error of a rebuilt path.

    The rank is that of the incidence of weights on paths, found from the enumerated paths by singular values; values
    are those of normal weights in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    for widths in architectures:
        network = bias_free_network(widths, generator)
        paths = torch.tensor(list(itertools.product(*map(range, widths))))
        basis = basis_paths(network)
        weights = [layer.weight for layer in network[::2]]
        values = [W[paths[:, place + 1], paths[:, place]] for place, W in enumerate(weights)]  # type: ignore[index]
        expected = torch.stack(values).prod(0)
        sizes = [below * above for below, above in itertools.pairwise(widths)]
        found = {
            "weights": sum(sizes),
            "expected": sum(sizes) - sum(widths[1:-1]),
            "rank": np.linalg.matrix_rank(incidence(widths, paths)),
            "basis": len(basis.paths),
            "paths": math.prod(widths),
            "rebuild_error": (basis.rebuild(paths) / expected - 1).abs().max().detach(),
        }
        case = "-".join(map(str, widths))
        yield from (line("structure", quantity, value, case=case) for quantity, value in found.items())


def bias_free_network(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Return a network without biases, of normal weights in float64."""
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs, bias=False, dtype=torch.float64), nn.ReLU()]
        nn.init.normal_(parts[-2].weight, generator=generator)  # type: ignore[arg-type]
    return nn.Sequential(*parts[:-1])


def incidence(widths: Sequence[int], paths: Tensor) -> np.ndarray:
    """Return which weights lie on which paths, of zeros and ones (paths, m)."""
    blocks = []
    for place, (below, above) in enumerate(itertools.pairwise(widths)):
        edges = paths[:, place] * above + paths[:, place + 1]
        blocks.append(nn.functional.one_hot(edges, below * above))
    return torch.cat(blocks, 1).double().numpy()


def invariance(widths: Sequence[int], changes: int, seed: int) -> Iterator[Row]:
    """Yield how far each measure moves, at most, as hidden units are rescaled or put in another order (float64).

    The network stays the same in both. What is shown is the largest |ratio of the measure − 1| over some changes.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = [W.data[None] for W in bias_free_network(widths, generator).parameters()]
    before = {name: measure(weights) for name, measure in MEASURES.items()}
    for case, change in (("rescaled", rescaled), ("permuted", permuted)):
        moved = dict.fromkeys(MEASURES, 0.0)
        for _ in range(changes):
            other = change(weights, generator)
            for name, measure in MEASURES.items():
                moved[name] = max(moved[name], float((measure(other) / before[name] - 1).abs().max()))
        yield from (line("invariance", name, value, case=case) for name, value in moved.items())


def rescaled(weights: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Multiply what enters each hidden unit by a random positive number, and divide what leaves it by the same."""
    found = [W.clone() for W in weights]
    for below, above in itertools.pairwise(found):
        factor = torch.randn(below.shape[1], generator=generator, dtype=below.dtype).exp()
        below *= factor[:, None]
        above /= factor
    return found


def permuted(weights: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Put the units of each hidden layer in a random order."""
    found = [W.clone() for W in weights]
    for place in range(len(found) - 1):
        order = torch.randperm(found[place].shape[1], generator=generator)
        found[place], found[place + 1] = found[place][:, order], found[place + 1][:, :, order]
    return found
