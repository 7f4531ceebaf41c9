"""Training of a network with Lightning: the same seed gives the same weights, and an interrupted run goes on."""

from __future__ import annotations

import gc
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
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torchmetrics.classification import MulticlassAccuracy

from replication.checks import check_counts
from replication.experiments.averaging import averaged
from replication.experiments.checkpoints import AtomicCheckpoints, check_checkpoint, checkpoint_to_resume
from replication.experiments.data.images import TEST_BATCH, ImageData
from replication.experiments.files import only_writer
from replication.experiments.keeping import Trainings
from replication.experiments.records import USED, commit, provenance
from replication.experiments.weights import (
    load_record,
    load_weights,
    recipe,
    refuse_other_weights,
    run_name,
    weights_path,
    write_weights,
)
from replication.networks import RectifierNetwork
from replication.units import SpaceToDepth


class Classifier(pl.LightningModule):
    """Train a network to classify, by cross entropy with label smoothing and, where asked for, a penalty.

    Args:
        network: images (batch, *image_shape) to logits (batch, classes), with the number of `classes`.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning-rate schedule from the optimizer and total_steps.
        label_smoothing: share of the target spread over all classes.
        penalty: of the network, added to the loss; None for none.
        precision: of the layers in a training step, "float32" or "bfloat16"; weights, loss and what is measured on the
            trained network are in float32.
        averaging: decay of the running average of weights and statistics, which is then what is trained; 0 for none.
            What is averaged are the free parameters, so that norms keep their caps.
        statistics: number of training images, the first ones and unchanged, from which normalisations take their
            statistics when the training is over; 0 for those that ran along with it, of changed images.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        label_smoothing: float,
        penalty: Callable[[nn.Module], Tensor] | None = None,
        precision: str = "float32",
        averaging: float = 0.0,
        statistics: int = 0,
    ) -> None:
        super().__init__()
        check_training(precision, averaging)
        check_counts(0, **{"training.statistics": statistics})
        self.statistics = statistics
        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.label_smoothing, self.penalty = label_smoothing, penalty
        self.reduced = precision == "bfloat16"
        by_pixels(network)
        self.average = averaged(network, averaging) if averaging else None
        self.started, self.seconds_before = time.perf_counter(), 0.0
        self.curve: list[tuple[int, int, float]] = []  # epoch, step and loss, as often as they are logged
        self.accuracy = MulticlassAccuracy(int(network.classes), average="micro")  # type: ignore[arg-type]

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.reduced):
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        if self.penalty is not None:
            loss = loss + self.penalty(self.network)
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {loss.item()} at step {self.global_step}; lower the learning rate")
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, *_: Any) -> None:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0:
            self.curve.append((self.current_epoch, self.global_step - 1, float(outputs["loss"])))
        if self.average is not None:
            self.average.update_parameters(self.network)

    @property
    def trained(self) -> nn.Module:
        """The network that the training makes: the average where there is one."""
        return self.network if self.average is None else self.average.module

    def test_step(self, batch: list[Tensor], batch_index: int) -> None:
        images, labels = batch
        self.accuracy(self.trained(images.contiguous(memory_format=torch.channels_last)), labels)
        self.log("accuracy", self.accuracy)

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, that of interrupted runs included."""
        return self.seconds_before + time.perf_counter() - self.started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seconds"], checkpoint["curve"] = self.seconds, self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seconds_before, self.curve = checkpoint["seconds"], checkpoint.get("curve", [])

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.network.parameters())
        scheduler = self.scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def check_training(precision: str, averaging: float) -> None:
    """Refuse what is no precision or no decay.

    Raises:
        ValueError: if it is not.
    """
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f'training.precision must be "float32" or "bfloat16", not {precision!r}')
    if not 0 <= averaging < 1:
        raise ValueError(f"training.averaging must be at least 0 and below 1, not {averaging!r}")


def by_pixels(network: nn.Module) -> None:
    """Let the channels of a pixel lie together from the first convolution on, which makes convolutions faster."""
    for layer in network.modules():
        if isinstance(layer, SpaceToDepth):
            layer.register_forward_hook(lambda _, __, y: y.contiguous(memory_format=torch.channels_last))


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


def train(config: DictConfig, weights_dir: Path, run_dir: Path) -> Path:
    """Train the configured network, resuming where an interrupted run of the same configuration stopped.

    Args:
        config: a training configuration (conf/train.yaml).
        weights_dir: where NAME.safetensors, NAME.json and NAME.csv, the losses on the way, go.
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
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # which shows mistakes alone
    data = instantiate(config.data)
    with one_training(run_dir, run_name(config, data)):
        path = train_alone(config, data, weights_dir, run_dir)
    gc.collect()  # a trainer and its data refer to each other, and the next training loads its own
    return path


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
    path = weights_path(config, data, weights_dir)
    refuse_other_weights(path, config, ("unit",))
    checkpoints = run_dir / name / "checkpoints"
    resume = checkpoint_to_resume(checkpoints, recipe(config))
    if resume is not None:
        check_checkpoint(resume, module)

    trainer = trainer_of(config, data, run_dir, checkpoints)
    if trainer.is_global_zero:
        resumed = f", resumed from {resume}" if resume else ""
        print(f"training {name}: {trainer.max_epochs} epochs{resumed}", flush=True)
    fit(trainer, module, data, resume)
    assert data.train is not None
    if module.statistics:
        update_bn(data.train.tensors[0][: module.statistics].split(TEST_BATCH), module.trained)
    accuracy = float(trainer.test(module, datamodule=data, verbose=False)[0]["accuracy"])
    if not trainer.is_global_zero:
        sys.exit()  # the first process writes the weights, once

    images = "held-out" if data.held_out else "test"
    record = provenance(
        config,
        module.seconds,
        data.title,
        data.checksum(),
        commit=code,
        **{f"{images.replace('-', '_')}_accuracy": accuracy},
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        training_images=len(data.train),
        resumed=resume is not None,
        recipe=recipe(config),
    )
    write_weights(module.trained, path, record, module.curve)
    shutil.rmtree(checkpoints, ignore_errors=True)
    print(f"{name}: {images} accuracy {100 * accuracy:.2f} %, {record['seconds']:.0f} s, weights in {path}", flush=True)
    return path


def trainer_of(config: DictConfig, data: ImageData, run_dir: Path, checkpoints: Path) -> pl.Trainer:
    """Return the configured trainer, with as many epochs as suit the data where none are given."""
    trainer: pl.Trainer = instantiate(
        config.trainer,
        max_epochs=data.epochs if config.trainer.max_epochs is None else config.trainer.max_epochs,
        logger=instantiate(config.logger, save_dir=str(run_dir), name=run_name(config, data)),
        callbacks=[ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)],
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
    )
    return trainer


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


def trained_record(config: DictConfig, trainings: Trainings) -> dict[str, Any]:
    """Return the record of the configured training, one of a figure's own; train first where there is none."""
    name, runs = run_name(config, instantiate(config.data)), trainings.runs
    return load_record(trainings.find(name, recipe(config), lambda: train(config, runs, runs)))


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
    network: RectifierNetwork = instantiate(config.network, image_shape=data.image_shape, classes=data.classes)
    load_weights(network, path)
    USED.files.update((path.resolve(), path.with_suffix(".json").resolve()))
    refuse_other_weights(path, config, ("unit", "network"))
    return network.eval().requires_grad_(False)
