"""Lightning data modules of images: MNIST where it can be had, scikit-learn's digits where not."""

from __future__ import annotations

import gzip
import hashlib
import warnings
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST as TorchvisionMNIST

from replication.checks import check_counts, check_number
from replication.experiments.data.augmentation import Augmentation
from replication.experiments.data.batches import ShuffledBatches, balanced_share, check_batch, last_apart
from replication.experiments.data.downloads import DataUnavailableError, download

TEST_BATCH = 250  # larger ones are slower on CPUs
MNIST_MD5 = {  # of the uncompressed files
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class ImageData(pl.LightningDataModule):
    """Images with labels, held in memory.

    Args:
        batch_size: images per training step.
        epochs: passes over the training images that suit this data set.
        seed: seed of shuffling and augmentation, and of the choice of a share.
        augmentation: random changes of the training images, or None.
        share: of the training images that is used, the same of every class; name and title say so where it is not 1.
        held_out: number of training images, the last ones, that are held back and stand for the test images, which are
            then not looked at: for choices of recipes. Name and title say so where it is not 0.

    Raises:
        TypeError, ValueError: if a number is none, or out of range: the share must be above 0 and at most 1.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes = 10

    def __init__(
        self,
        batch_size: int,
        epochs: int,
        seed: int,
        augmentation: Augmentation | None = None,
        share: float = 1.0,
        held_out: int = 0,
    ) -> None:
        super().__init__()
        check_counts(1, **{"data.batch_size": batch_size, "data.epochs": epochs})
        check_counts(0, seed=seed, **{"data.held_out": held_out})
        check_number("data.share", share)
        if not 0 < share <= 1:
            raise ValueError(f"the share of the training images must be above 0 and at most 1, not {share}")
        self.batch_size, self.epochs, self.seed, self.augmentation = batch_size, epochs, seed, augmentation
        self.share, self.held_out = share, held_out
        if held_out:
            self.name += f"-held{held_out}"
            self.title += f" (the last {held_out:,} training images in place of the test images)"
        if share < 1:
            self.name += f"-{100 * share:g}percent"
            self.title += f" ({100 * share:g} % of the training images)"
        self.train: TensorDataset | None = None
        self.test: TensorDataset | None = None

    @abstractmethod
    def load(self) -> tuple[TensorDataset, TensorDataset]:
        """Return the training and the test images (images, *image_shape) with their labels (images,)."""

    @abstractmethod
    def checksum(self) -> str:
        """Return a checksum of the data with its name, e.g. "md5 …"."""

    def setup(self, stage: str | None = None) -> None:
        if self.train is None:
            whole, test = self.load()
            if self.held_out:
                whole, test = last_apart(whole, self.held_out, self.title)
            self.test = test
            if not all(torch.isfinite(part.tensors[0]).all() for part in (whole, self.test)):
                raise ValueError(f"images of {self.title} have values that are not finite (NaN or infinity)")
            train = whole if self.share == 1 else balanced_share(whole, self.share, self.seed)
            check_batch(self.batch_size, len(train), self.title)
            self.train = train

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        assert self.train is not None
        processes, rank = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        batches = ShuffledBatches(len(self.train), self.batch_size, self.seed, processes, rank)
        return DataLoader(self.train, sampler=batches, batch_size=None)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        assert self.test is not None
        return DataLoader(self.test, batch_size=TEST_BATCH)

    def on_after_batch_transfer(self, batch: list[Tensor], dataloader_idx: int) -> list[Tensor]:
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        images, labels = batch
        seed = (1_000_003 * self.seed + 1) * 1_000_003 + self.trainer.global_step + (self.trainer.global_rank << 48)
        return [self.augmentation(images, torch.Generator(images.device).manual_seed(seed)), labels]

    def balanced_test(self, per_class: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first `per_class` test images of each class: images, labels, indices into the test set.

        Raises:
            ValueError: if a class has fewer images.
        """
        self.setup()
        assert self.test is not None
        images, labels = self.test.tensors
        smallest = int(torch.bincount(labels, minlength=self.classes).min())
        if smallest < per_class:
            raise ValueError(f"a class of {self.title} has {smallest} test images, fewer than {per_class}")
        indices = torch.cat([(labels == label).nonzero().squeeze(1)[:per_class] for label in range(self.classes)])
        return images[indices], labels[indices], indices


class MNIST(ImageData):
    """MNIST, 60,000 training and 10,000 test images of 28×28 (LeCun, Cortes, Burges), checked by checksum.

    Args:
        data_dir: folder that holds MNIST/raw, with the four files or their `.gz`, or into which they are downloaded.
        options: as ImageData.

    Raises:
        DataUnavailableError: if the files are not there and cannot be downloaded.
        ValueError: if a file is not the original one.
    """

    name, title, image_shape = "mnist", "MNIST", (1, 28, 28)

    def __init__(self, data_dir: str, **options: Any) -> None:
        super().__init__(**options)
        self.data_dir = Path(data_dir)

    def file(self, name: str) -> Path:
        """Return where a file is, or its `.gz`, or should be."""
        plain = self.data_dir / "MNIST" / "raw" / name
        packed = plain.with_name(f"{name}.gz")
        return packed if packed.is_file() and not plain.is_file() else plain

    def prepare_data(self) -> None:
        if not all(self.file(name).is_file() for name in MNIST_MD5):
            urls = [mirror + TorchvisionMNIST.resources[0][0] for mirror in TorchvisionMNIST.mirrors]
            made = [f"MNIST/raw/{name}" for name in MNIST_MD5]
            download("MNIST", TorchvisionMNIST, made, urls, self.data_dir, "MNIST/raw, or use data=digits")
        for name in MNIST_MD5:
            self.content(name)

    def content(self, name: str) -> bytes:
        """Return what is in a file, unpacked.

        Raises:
            ValueError: if it is not the original.
        """
        file = self.file(name)
        try:
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        except (EOFError, gzip.BadGzipFile, zlib.error):
            content = b""
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != MNIST_MD5[name]:
            raise ValueError(
                f"{file} is not the original MNIST file: its md5 is {found}, not {MNIST_MD5[name]}; "
                "delete it and start again to download it anew"
            )
        return content

    def load(self) -> tuple[TensorDataset, TensorDataset]:
        self.prepare_data()
        train, test = [TensorDataset(self.images(part), self.labels(part)) for part in ("train", "t10k")]
        return train, test

    def images(self, part: str) -> Tensor:
        """Return the images of "train" or "t10k" (images, 1, 28, 28), which follow a header of 16 bytes."""
        pixels = np.frombuffer(self.content(f"{part}-images-idx3-ubyte"), np.uint8, offset=16)
        return torch.from_numpy(pixels.reshape(-1, *self.image_shape) / np.float32(255))

    def labels(self, part: str) -> Tensor:
        """Return their labels (images,), which follow a header of 8 bytes."""
        return torch.from_numpy(
            np.frombuffer(self.content(f"{part}-labels-idx1-ubyte"), np.uint8, offset=8).astype(int)
        )

    def checksum(self) -> str:
        return "md5 " + ", ".join(f"{name} {md5}" for name, md5 in MNIST_MD5.items())


class Digits(ImageData):
    """The handwritten digits that scikit-learn ships: 1797 images of 8×8 (UCI); 100 of each class are for testing.

    A stand-in where MNIST cannot be had; everything made from it says so.

    Args: as ImageData.
    """

    name, title, image_shape = "digits", "scikit-learn digits (8×8, stand-in for MNIST)", (1, 8, 8)

    def load(self) -> tuple[TensorDataset, TensorDataset]:
        images, labels = load_digits(return_X_y=True)
        pixels = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        targets = torch.as_tensor(labels)
        test = torch.zeros(len(targets), dtype=torch.bool)
        for label in range(self.classes):
            rows = (targets == label).nonzero().squeeze(1)
            chosen, _ = train_test_split(rows.numpy(), train_size=100, random_state=label)
            test[torch.as_tensor(chosen)] = True
        return TensorDataset(pixels[~test], targets[~test]), TensorDataset(pixels[test], targets[test])

    def checksum(self) -> str:
        images, labels = load_digits(return_X_y=True)
        return "md5 " + hashlib.md5(images.tobytes() + labels.tobytes(), usedforsecurity=False).hexdigest()


def mnist_or_digits(mnist: MNIST, digits: Digits) -> ImageData:
    """Return MNIST if it is there or can be downloaded, else, with a warning, the digits."""
    return available_or_digits(mnist, digits)


def available_or_digits(wanted: ImageData, digits: Digits) -> ImageData:
    """Return the wanted data if they are there or can be downloaded, else, with a warning, the digits."""
    try:
        wanted.prepare_data()
    except DataUnavailableError as error:
        warnings.warn(
            f"{error}. Going on with the {digits.title}: figures made from them say so, and are not the paper's.",
            stacklevel=2,
        )
        return digits
    return wanted
