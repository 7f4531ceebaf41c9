"""The networks of paper C: their sizes, how exactly they go back, and the trainings there are (tableC)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor, nn

from replication.experiments.records import USED
from replication.experiments.studies.memory import StepMemory
from replication.experiments.weights import CURVE
from replication.networks import ReversibleNetwork, preset
from replication.networks.presets import PRESETS
from replication.units import BlockSequence


def preset_table(weights_dir: Path, networks: Sequence[str], images: int, size: int, seed: int) -> pd.DataFrame:
    """Describe the networks at initialisation, and list every training of one whose record is at hand.

    Source: paper C, accuracies (from recalled facts, assumption A14).

    Args:
        weights_dir: where trained weights and their records are.
        networks: names of presets.
        images, size: number of random images, their height and width.
        seed: of weights and images.

    Returns:
        A row for each network and training, or for the network alone: network, layers, parameters,
        reconstruction_error_float64, reconstruction_error_float32, gradient_error_float32,
        gradient_rounding_float32 (as in `exactness`; None for a ResNet), and of the training: run, dataset,
        training_images, epochs, steps, batch, precision, seconds, test_accuracy (percent), and step_memory_mb: what a
        step with such a batch in this precision adds to the memory of a process, at its peak.
    """
    trainings = trained_presets(weights_dir)
    rows: list[dict[str, object]] = []
    with Progress() as progress, StepMemory(threads=1) as process:
        for name in progress.track(networks, description="networks"):
            network = preset(name)
            about: dict[str, object] = {
                "network": name,
                "layers": network.layers,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
            } | (exactness(name, images, size, seed) if isinstance(network, ReversibleNetwork) else {})
            rows += [about | one | step_memory(process, name, size, one) for one in trainings.get(name, [{}])]
    return pd.DataFrame(rows)


def exactness(name: str, images: int, size: int, seed: int) -> dict[str, object]:
    """Return how exactly a network goes back with the statistics of a batch, as in training.

    Returns:
        reconstruction_error_float64 and reconstruction_error_float32: largest error of a stage's first pair of states,
        recomputed from its last, relative to it; gradient_error_float32: difference of the gradient from recomputed
        states to that from stored ones, relative to it; gradient_rounding_float32: difference of the latter to that in
        float64, likewise. Both are large where rounding turns a relu on or off.
    """
    found: dict[str, object] = {}
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(seed)
        network = preset(name, (3, size, size)).to(dtype)
        given = torch.randn(images, 3, size, size).to(dtype)
        found[f"reconstruction_error_{str(dtype).removeprefix('torch.')}"] = reconstruction_error(network, given)
    stored = preset(name, (3, size, size), sequence=BlockSequence)
    stored.load_state_dict(network.state_dict())
    labels = torch.arange(images) % network.classes
    expected = gradient(stored, given, labels)
    found["gradient_error_float32"] = relative(gradient(network, given, labels), expected)
    exact = gradient(stored.double(), given.double(), labels)
    return found | {"gradient_rounding_float32": relative(expected.double(), exact)}


@torch.no_grad()
def reconstruction_error(network: nn.Module, images: Tensor) -> float:
    """Return the largest relative error of a stage's first pair of states."""
    assert isinstance(network, ReversibleNetwork)
    stages = network.stage_states(images)
    recovered = network.inverse([end for _, end in stages])
    return max(
        relative(torch.stack(back), torch.stack(begin)) for (begin, _), back in zip(stages, recovered, strict=True)
    )


def gradient(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the cross entropy in all parameters, flat."""
    loss = F.cross_entropy(network(images), labels)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))])


def relative(found: Tensor, expected: Tensor) -> float:
    """Return ‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm())


def step_memory(process: StepMemory, name: str, size: int, training: Mapping[str, Any]) -> dict[str, object]:
    """Return the column step_memory_mb of a training, nothing where there is none."""
    if not training:
        return {}
    step = {"network": name, "size": size, "batch": training["batch"], "precision": training["precision"]}
    return {"step_memory_mb": process.report(step)["step_memory_mb"]}


def curves(weights_dir: Path, runs: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the losses on the way of the runs that kept them, by run: epoch, step and training loss (3, points)."""
    found = {}
    for run in runs:
        path = weights_dir / f"{run}.csv"
        if path.is_file():
            USED.files.add(path.resolve())
            found[run] = pd.read_csv(path)[list(CURVE)].to_numpy(dtype=float).T
    return found


def trained_presets(weights_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the columns on each training of a preset, by the preset's name."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PRESETS}
    for path in sorted(weights_dir.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        recipe = record["recipe"]
        name = recipe["network"].get("name")
        if name in found:
            USED.files.add(path.resolve())
            kept = ("dataset", "training_images", "epochs", "steps")
            about = {"run": path.stem} | {key: record[key] for key in kept}
            about |= {"batch": recipe["data"]["batch_size"]}
            about |= {"precision": recipe["training"].get("precision", "float32"), "seconds": record["seconds"]}
            found[name].append(about | {"test_accuracy": 100 * record["test_accuracy"]})
    return {name: runs for name, runs in found.items() if runs}
