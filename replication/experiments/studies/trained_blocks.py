"""Which blocks of trained networks fold, with two inputs that collide, and which are certified and undone (fig10)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor, nn

from replication.experiments.data.images import ImageData
from replication.experiments.results import Result
from replication.experiments.studies.recovery import relative_error
from replication.folds import Jacobians, Pair, find_fold
from replication.networks import RectifierNetwork
from replication.networks.preactivation import PreactivationBlock, PreactivationNetwork
from replication.operators import Convolution, Product
from replication.penalties import monotone_defect
from replication.reading import as_network
from replication.rows import row_norm
from replication.solvers import Solver
from replication.units import ClosedFormLayer, ConvRectifierUnit

RECOVERED = 1e-8  # relative error up to which an image counts as brought back
TOGETHER = 50  # images that are undone together: what an iteration keeps of more fits no cache
COLUMNS = (
    "network", "test_accuracy", "block", "inputs", "looked_at", "negative", "norms", "defect", "verdict", "condition",
    "cpu_seconds", "halvings", "distance", "gap", "images", "recovered", "error_max", "evaluations",
)  # fmt: skip


def trained_blocks(
    networks: Iterable[tuple[str, nn.Module, dict[str, Any]]],
    data: ImageData,
    solver: Solver,
    looked_at: int,
    per_class: int,
    tolerance: float,
) -> Result:
    """Describe every block of each network at test images, and undo the networks whose blocks are all certified.

    Source: design of the package (no paper has it).

    Args:
        networks: by name, in float64, each with the record of the run that made its weights.
        data: whose test images are sent through.
        solver, tolerance: of the inverses.
        looked_at: images, each of another class, at which the signs of determinants are taken.
        per_class: images of each class that are brought back.

    Returns:
        A row for each block: network, test_accuracy (percent), block, and the columns of `block_row` and, where all
        blocks of the network are certified, of `undone`. Arrays: `pictures` of what each network's first block makes of
        two inputs that it takes to one output or, where there are none, of those of the network before.
    """
    few, many = data.balanced_test(1)[0][:looked_at].double(), data.balanced_test(per_class)[0].double()
    rows: list[dict[str, object]] = []
    arrays: dict[str, np.ndarray] = {}
    shown: Pair | None = None
    for name, network, record in networks:  # each may be trained only now, with a progress bar of its own
        layers = layers_of(network)
        with torch.no_grad(), Progress() as progress:
            blocks = [pair for pair in zip(layers, states(layers, few), strict=False) if is_block(pair[0])]
            found = [block_row(block, x) for block, x in progress.track(blocks, description=name)]
            own = [row for row, _ in found]
            if all(row["verdict"] == "invertible" for row in own):
                own = [row | back for row, back in zip(own, undone(layers, many, solver, tolerance), strict=True)]
            about = {"network": name, "test_accuracy": 100 * record["test_accuracy"]}
            rows += [about | {"block": number} | row for number, row in enumerate(own, 1)]
            shown = found[0][1] or shown
            if shown is not None:
                arrays |= {f"{name}, {key}": image for key, image in pictures(layers, shown).items()}
    return Result(pd.DataFrame(rows, columns=COLUMNS), arrays)


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Return the layers between a network's images and its classifier, in forward order."""
    if isinstance(network, RectifierNetwork):
        return list(network.hidden_layers)
    assert isinstance(network, PreactivationNetwork)
    return [*network.first, *network.blocks]


def is_block(layer: nn.Module) -> bool:
    """Return whether a layer is one that has to be certified, and no formula."""
    return isinstance(layer, ConvRectifierUnit | PreactivationBlock)


def states(layers: Sequence[nn.Module], images: Tensor) -> list[Tensor]:
    """Return the inputs of all layers and, last, the output (images, *shape) each."""
    found = [images]
    for layer in layers:
        found.append(layer(found[-1]))
    return found


@singledispatch
def bounds(block: nn.Module) -> tuple[float, float]:
    """Bound the product of the norms of a block's branch, and its defect (`monotone_defect`; NaN for one ReLU layer).

    The first below 1 is the Lipschitz condition, the second below 1 a monotone matrix, once it is scaled.
    """
    raise TypeError(f"{type(block).__name__} is no block of a trained network")


@bounds.register
def _(block: ConvRectifierUnit) -> tuple[float, float]:
    branch = block.rectifier_map(block.input_shape)
    return float(Product(branch.W2, branch.W1).norm_bound()), float("nan")


@bounds.register
def _(block: PreactivationBlock) -> tuple[float, float]:
    first, second, third, size = block.monotone_parts()
    norms = first.abs().max() * Convolution(second, size).norm_bound() * Convolution(third, size).norm_bound()
    return float(norms), float(monotone_defect(first, second, third, size))


def block_row(block: nn.Module, x: Tensor) -> tuple[dict[str, object], Pair | None]:
    """Take the signs of a block's determinants, certify it or look for a fold.

    Args:
        block: in float64.
        x: its inputs (images, *shape) at test images.

    Returns:
        The columns inputs (numbers), looked_at (images), negative (determinants), norms, defect (`bounds`), verdict,
        condition; where no condition holds cpu_seconds (of the search for a fold, in processor time), halvings,
        distance (of two inputs that collide, relative to their length), gap (of their outputs, relative to that
        distance). And the two inputs.
    """
    jacobians = Jacobians(block, x[:1])
    signs = torch.tensor([jacobians(row).sign for row in x.split(1)])
    norms, defect = bounds(block)
    about: dict[str, object] = {"inputs": x[0].numel(), "looked_at": len(x), "negative": int((signs < 0).sum())}
    about |= {"norms": norms, "defect": defect}
    condition = "lipschitz" if norms < 1 else "monotone" if defect < 1 else ""
    if condition:
        return about | {"verdict": "invertible", "condition": condition}, None
    start, negative = time.process_time(), signs < 0
    search = find_fold(block, torch.cat([x[negative][:1], x[~negative], x[negative][1:]]))
    about |= {"cpu_seconds": time.process_time() - start, "halvings": search.halvings}
    if search.pair is None:
        return about | {"verdict": "unknown", "condition": ""}, None
    about |= {"distance": search.pair.distance / float(row_norm(search.pair.x1)), "gap": search.pair.gap}
    return about | {"verdict": "not invertible", "condition": "collision"}, search.pair


def undone(layers: Sequence[nn.Module], images: Tensor, solver: Solver, tolerance: float) -> list[dict[str, object]]:
    """Bring images back from the last block's outputs alone, and say how near the inputs of every block come.

    Returns:
        For each block: images, recovered (whose relative error is at most RECOVERED), error_max, evaluations (mean of
        images).
    """
    errors: list[Tensor] = []
    evaluations: list[Tensor] = []
    network = as_network(nn.Sequential(*layers), images[:1])
    for some in images.split(TOGETHER):
        forward = states(layers, some)
        inputs = [x for layer, x in zip(layers, forward, strict=False) if is_block(layer)]
        solution = network.inverse(forward[-1], solver, tolerance)
        records = [record.solution for record in reversed(solution.layers) if not record.closed_form]
        errors.append(torch.stack([relative_error(record.value, x) for record, x in zip(records, inputs, strict=True)]))
        evaluations.append(torch.stack([record.evaluations for record in records]))
    return [
        {
            "images": len(images),
            "recovered": int((error <= RECOVERED).sum()),
            "error_max": float(error.max()),
            "evaluations": float(spent.double().mean()),
        }
        for error, spent in zip(torch.cat(errors, 1), torch.cat(evaluations, 1), strict=True)
    ]


def pictures(layers: Sequence[nn.Module], pair: Pair) -> dict[str, np.ndarray]:
    """Return two inputs of the first block as images, and by how much they and its outputs differ at every pixel of it.

    What the block's inputs hold beyond an image, in the channels padded with zeros, is in the differences only.
    """
    first = next(place for place, layer in enumerate(layers) if is_block(layer))
    images = {"first": pair.x1, "second": pair.x2}
    for layer in reversed(layers[:first]):
        images = {key: cast("ClosedFormLayer", layer).undo(image) for key, image in images.items()}
    block = layers[first]
    differences = {"inputs differ": pair.x2 - pair.x1, "outputs differ": block(pair.x2) - block(pair.x1)}
    return {key: image[0, 0].numpy() for key, image in images.items()} | {
        key: difference[0].norm(dim=0).numpy() for key, difference in differences.items()
    }
