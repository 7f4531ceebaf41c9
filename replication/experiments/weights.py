"""Trained weights on disk: their names, the recipe that makes them, and what is refused on loading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from replication.experiments.configuration import as_read, differing, without_places
from replication.experiments.files import write_together

if TYPE_CHECKING:
    from replication.experiments.data.images import ImageData

CURVE = ("epoch", "step", "train_loss")


def run_name(config: DictConfig, data: ImageData) -> str:
    """Return the name of a training run, which is also its weights' file name: data set, family, seed."""
    return f"{data.name}-{config.unit.family}-{config.seed}"


def weights_path(config: DictConfig, data: ImageData, weights_dir: Path) -> Path:
    """Return where the weights of a training run are, or go."""
    return weights_dir / f"{run_name(config, data)}.safetensors"


def recipe(config: DictConfig) -> dict[str, Any]:
    """Return the part of a configuration that decides what a training makes."""
    parts = {key: config[key] for key in ("seed", "data", "unit", "network", "training")}
    parts["steps"] = {key: config.trainer[key] for key in ("max_epochs", "max_steps", "limit_train_batches")}
    if config.trainer.devices != 1:  # processes have their own statistics of normalisations
        parts["steps"]["devices"] = config.trainer.devices
    resolved = OmegaConf.to_container(OmegaConf.create(parts | {"paths": config.paths}), resolve=True)
    recipe_only: dict[str, Any] = without_places(resolved)
    return recipe_only


def is_trained(config: DictConfig, data: ImageData, weights_dir: Path) -> bool:
    """Return whether weights of this very recipe are there, and are those of their record."""
    return is_of_recipe(weights_path(config, data, weights_dir), recipe(config))


def is_of_recipe(weights: Path, wanted: Mapping[str, Any]) -> bool:
    """Return whether the record of weights has this very recipe, and they are whole where it has their checksum."""
    try:
        record = load_record(weights)
        refuse_changed(weights, record)
    except (OSError, ValueError):
        return False
    return not differing(record.get("recipe"), as_read(wanted))


def load_record(weights: Path) -> dict[str, Any]:
    """Return the record of the run that made the weights.

    Raises:
        ValueError: if it is missing or unreadable.
    """
    path = weights.with_name(f"{weights.name.removesuffix('.safetensors')}.json")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the record {path} of the weights is missing or unreadable ({error}); delete both files to train anew"
        ) from error
    return record


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights that are those of their record into a network.

    Raises:
        ValueError: if they are corrupt, not finite, or not the network's.
    """
    refuse_changed(path, load_record(path))
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the weights in {path} cannot be used ({reason}); restore the file, or delete it to train anew"
        ) from error
    broken = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"the weights in {path} have values that are not finite (in {', '.join(broken)}); restore the file, or "
            "delete it to train anew"
        )


def write_weights(
    network: nn.Module, path: Path, record: Mapping[str, Any], curve: Sequence[tuple[int, int, float]] = ()
) -> None:
    """Write the weights of a network, and beside them the record of their training with their checksum.

    Args:
        network: trained.
        path: of the weights.
        record: of the training.
        curve: epoch, step and training loss on the way, for a table beside them.
    """
    weights = save({key: value.contiguous() for key, value in network.state_dict().items()})
    whole = {**record, "sha256": {path.name: hashlib.sha256(weights).hexdigest()}}
    written = (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()
    losses = pd.DataFrame(list(curve), columns=list(CURVE)).to_csv(index=False).encode()
    curves = {path.with_suffix(".csv"): losses} if curve else {}
    write_together(curves | {path.with_suffix(".json"): written, path: weights})  # weights never stand without a record


def refuse_changed(weights: Path, record: dict[str, Any]) -> None:
    """Refuse weights whose checksum is not the one in their record, where it has one.

    Raises:
        ValueError: if they differ.
    """
    expected = record.get("sha256", {}).get(weights.name)
    if expected is not None and hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        raise ValueError(
            f"the weights in {weights} cannot be used (they are not those of their record: the checksum differs); "
            "restore the file, or delete it to train anew"
        )


def refuse_other_weights(weights: Path, config: DictConfig, parts: Sequence[str]) -> None:
    """Refuse weights, where there are any, whose recipe has other parts than the configuration's.

    Raises:
        ValueError: if they do.
    """
    if not weights.is_file():
        return
    made_by, wanted = load_record(weights)["recipe"], as_read(recipe(config))
    if other := differing({part: made_by.get(part) for part in parts}, {part: wanted.get(part) for part in parts}):
        raise ValueError(
            f"the weights in {weights} were trained with other settings ({other}); give the unit a name of its own "
            "(unit.family=...), or choose another paths.weights_dir"
        )
