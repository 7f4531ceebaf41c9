"""Training of a network with Lightning, and its weights on disk with the record of the run."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from replication.experiments.data.images import ImageData
from replication.experiments.results import (
    READ,
    as_read,
    commit,
    differing,
    only_writer,
    provenance,
    without_places,
    write_atomically,
    write_together,
)
from replication.networks import RectifierNetwork


class Classifier(pl.LightningModule):
    """Train a network to classify, by cross entropy with label smoothing and, where asked for, a penalty.

    Args:
        network: images (rows, *image_shape) to logits (rows, classes), with the number of `classes`.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning-rate schedule from the optimizer and total_steps.
        label_smoothing: share of the target spread over all classes.
        penalty: of the network, added to the loss; None for none.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        label_smoothing: float,
        penalty: Callable[[nn.Module], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.label_smoothing, self.penalty = label_smoothing, penalty
        self.started, self.seconds_before = time.perf_counter(), 0.0
        self.test_accuracy = MulticlassAccuracy(int(network.classes), average="micro")  # type: ignore[arg-type]

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        images = images.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(self.network(images), labels, label_smoothing=self.label_smoothing)
        if self.penalty is not None:
            loss = loss + self.penalty(self.network)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.global_step}; lower the learning rate")
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def test_step(self, batch: list[Tensor], batch_index: int) -> None:
        images, labels = batch
        self.test_accuracy(self.network(images.contiguous(memory_format=torch.channels_last)), labels)
        self.log("test_accuracy", self.test_accuracy)

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, that of interrupted runs included."""
        return self.seconds_before + time.perf_counter() - self.started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seconds_before = checkpoint["seconds"]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        scheduler = self.scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class AtomicCheckpoints(TorchCheckpointIO):
    """Write every checkpoint whole or not at all, so that the one before it stays usable until then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


def cut_by_ten(
    optimizer: torch.optim.Optimizer, total_steps: int, at: Sequence[float]
) -> torch.optim.lr_scheduler.LRScheduler:
    """Cut the learning rate by ten at these shares of all steps."""
    milestones = [round(share * total_steps) for share in at]
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)


def silence_lightning() -> None:
    """Hide what Lightning says that nobody can act on."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        "Checkpoint directory .* not empty",
        "Using `DistributedSampler` with the dataloaders.*",
    ):
        warnings.filterwarnings("ignore", message=message)


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


def train(config: DictConfig, weights_dir: Path, run_dir: Path) -> Path:
    """Train the configured network, resuming where an interrupted run of the same configuration stopped.

    Args:
        config: a training configuration (conf/train.yaml).
        weights_dir: where NAME.safetensors and NAME.json go.
        run_dir: where checkpoints and logs go.

    Returns:
        The path of the weights.

    Raises:
        ValueError: if an interrupted run is there whose configuration differs, or weights of another unit, or a
            checkpoint that cannot be used, or data that are not finite.
        RuntimeError: if another process trains the same network in the same folder, or the loss is not finite.
        OSError: if a folder cannot be written or the disk is full; the last whole checkpoint stays.
        KeyboardInterrupt: if the user stops the training.
    """
    silence_lightning()
    data = instantiate(config.data)
    with one_training(run_dir, run_name(config, data)):
        return train_alone(config, data, weights_dir, run_dir)


def one_training(run_dir: Path, name: str) -> AbstractContextManager[None]:
    """Keep other trainings out of this one's folder; the further processes of this one are let in."""
    first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    return only_writer(run_dir, name) if first else nullcontext()


def train_alone(config: DictConfig, data: ImageData, weights_dir: Path, run_dir: Path) -> Path:
    """Train as `train` says, where no other process does."""
    code = commit()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    network = instantiate(config.network, image_shape=data.image_shape, classes=data.classes)
    module = instantiate(config.training, network=network)
    name = run_name(config, data)
    path = weights_dir / f"{name}.safetensors"
    refuse_other_weights(path, config, ("unit",))
    checkpoints = run_dir / name / "checkpoints"
    resume = checkpoint_to_resume(checkpoints, recipe(config))
    if resume is not None:
        check_checkpoint(resume, module)

    epochs = data.epochs if config.trainer.max_epochs is None else config.trainer.max_epochs
    trainer = instantiate(
        config.trainer,
        max_epochs=epochs,
        logger=instantiate(config.logger, save_dir=str(run_dir), name=name),
        callbacks=[ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)],
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
    )
    if trainer.is_global_zero:
        print(f"training {name}: {epochs} epochs" + (f", resumed from {resume}" if resume else ""), flush=True)
    fit(trainer, module, data, resume)
    accuracy = float(trainer.test(module, datamodule=data, verbose=False)[0]["test_accuracy"])
    if not trainer.is_global_zero:
        sys.exit()  # the first process writes the weights, once

    assert data.train is not None
    weights = save({key: value.contiguous() for key, value in network.state_dict().items()})
    record = provenance(
        config,
        module.seconds,
        data.title,
        data.checksum(),
        commit=code,
        test_accuracy=accuracy,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        training_images=len(data.train),
        resumed=resume is not None,
        recipe=recipe(config),
        sha256={path.name: hashlib.sha256(weights).hexdigest()},
    )
    written = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
    write_together({path.with_suffix(".json"): written, path: weights})  # weights never stand without their record
    shutil.rmtree(checkpoints, ignore_errors=True)
    print(f"{name}: test accuracy {100 * accuracy:.2f} %, {record['seconds']:.0f} s, weights in {path}", flush=True)
    return path


def fit(trainer: pl.Trainer, module: Classifier, data: ImageData, resume: Path | None) -> None:
    """Train, from a checkpoint if there is one.

    Raises:
        KeyboardInterrupt: if the user stops the training, for which Lightning has other words.
    """
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit as stopped:
        if trainer.interrupted:
            raise KeyboardInterrupt from stopped
        raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def checkpoint_to_resume(folder: Path, wanted: dict[str, Any]) -> Path | None:
    """Return the checkpoint of an interrupted run in this folder, or None; leave its recipe there for the next start.

    Raises:
        ValueError: if the interrupted run had another recipe, or none that can be read.
    """
    checkpoint, note = folder / "last.ckpt", folder.with_name("recipe.json")
    if checkpoint.is_file() and note.is_file():
        try:
            started = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            started = None
        if started != as_read(wanted):
            raise ValueError(
                f"an interrupted training with another configuration is in {folder}; "
                "start again with that configuration to go on, or delete the folder to begin anew"
            )
        return checkpoint
    write_atomically(note, json.dumps(wanted, indent=2).encode())
    return None


def check_checkpoint(path: Path, module: Classifier) -> None:
    """Refuse a checkpoint that is corrupt, holds anything but tensors and numbers, or is another network's.

    Raises:
        ValueError: if it does.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    except Exception as error:  # what torch raises for a broken file is any of a dozen types
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ValueError(f"the checkpoint {path} cannot be used ({reason}); delete it to begin anew") from error


def is_trained(config: DictConfig, data: ImageData, weights_dir: Path) -> bool:
    """Return whether weights of this very recipe are there, and are those of their record."""
    path = weights_path(config, data, weights_dir)
    try:
        record = load_record(path)
        refuse_changed(path, record)
    except (OSError, ValueError):
        return False
    made_by: object = record.get("recipe")
    return made_by == as_read(recipe(config))


def trained_record(config: DictConfig, weights_dir: Path, run_dir: Path) -> dict[str, Any]:
    """Return the record of the configured training; train first where there is none of this very recipe.

    Args:
        config: a training configuration.
        weights_dir: where the weights and their record are, or go.
        run_dir: where checkpoints and logs of a training go.
    """
    data = instantiate(config.data)
    if is_trained(config, data, weights_dir):
        return load_record(weights_path(config, data, weights_dir))
    return load_record(train(config, weights_dir, run_dir))


def load_network(config: DictConfig, data: ImageData, weights_dir: Path, run_dir: Path) -> RectifierNetwork:
    """Return the configured network with trained weights, in evaluation mode; train it first where they are missing.

    Args:
        config: a training configuration.
        data: what it is trained on.
        weights_dir: where the weights are, or go.
        run_dir: where checkpoints and logs of a training go.

    Raises:
        ValueError: if the weights are corrupt, not finite, or do not belong to the configuration.
    """
    path = weights_path(config, data, weights_dir)
    if not path.is_file():
        print(f"no weights in {path}: training them now", flush=True)
        train(config, weights_dir, run_dir)
    refuse_changed(path, load_record(path))
    READ.update((path.resolve(), path.with_suffix(".json").resolve()))
    network: RectifierNetwork = instantiate(config.network, image_shape=data.image_shape, classes=data.classes)
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
    refuse_other_weights(path, config, ("unit", "network"))
    return network.eval().requires_grad_(False)


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
