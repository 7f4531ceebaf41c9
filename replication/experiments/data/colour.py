"""Lightning data modules of colour images, read by torchvision: CIFAR-10, CIFAR-100 and STL-10."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.datasets
from torch.utils.data import TensorDataset

from replication.experiments.data.downloads import DataUnavailableError, download
from replication.experiments.data.images import Digits, ImageData, available_or_digits


class ColourImages(ImageData):
    """Images in [0, 1] less the mean image of the training set, whose files are checked by torchvision's checksums.

    Source: paper C (from recalled facts, assumption A14).

    Args:
        data_dir: folder that holds the data in torchvision's layout, or into which they are downloaded.
        options: as ImageData.

    Raises:
        DataUnavailableError: if the files are not there and cannot be downloaded.
        ValueError: if a file is not the original one.
    """

    dataset: type[torchvision.datasets.CIFAR10] | type[torchvision.datasets.STL10]

    def __init__(self, data_dir: str, **options: Any) -> None:
        super().__init__(**options)
        self.data_dir = Path(data_dir)

    @abstractmethod
    def part(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the training or the test images (images, 3, height, width), in bytes, with their labels (images,)."""

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self.data_dir / str(self.dataset.base_folder)

    def prepare_data(self) -> None:
        packed = self.data_dir / self.dataset.filename
        if packed.is_file() and not self.folder.is_dir():
            raise DataUnavailableError(f"{self.title} is packed in {packed}; unpack it there: tar -xzf {packed.name}")
        if not self.folder.is_dir():
            instead = f"{self.dataset.base_folder} (torchvision's layout of {self.title})"
            download(self.title, self.dataset, [self.dataset.base_folder], [self.dataset.url], self.data_dir, instead)

    def load(self) -> tuple[TensorDataset, TensorDataset]:
        self.prepare_data()
        try:
            (train, labels), (test, test_labels) = self.part(True), self.part(False)
        except RuntimeError as error:  # torchvision compares checksums before it opens a file
            raise ValueError(
                f"the files in {self.folder} are not the original ones of {self.dataset.__name__} ({error}); "
                "delete the folder and start again to download it anew"
            ) from error
        mean = torch.from_numpy(train).float().mean(0) / 255
        return tuple(  # type: ignore[return-value]
            TensorDataset(torch.from_numpy(images).float().div_(255).sub_(mean), torch.as_tensor(targets).long())
            for images, targets in ((train, labels), (test, test_labels))
        )

    def checksum(self) -> str:
        files = [*self.dataset.train_list, *self.dataset.test_list]
        return "md5 " + ", ".join(f"{name} {md5}" for name, md5 in files)


class CIFAR10(ColourImages):
    """CIFAR-10: 50,000 training and 10,000 test images of 32×32 in 10 classes (Krizhevsky).

    Args: as ColourImages.
    """

    name, title, image_shape, dataset = "cifar10", "CIFAR-10", (3, 32, 32), torchvision.datasets.CIFAR10

    def part(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        part = self.dataset(str(self.data_dir), train=train)
        return part.data.transpose(0, 3, 1, 2), np.asarray(part.targets)


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 training and 10,000 test images of 32×32 in 100 classes (Krizhevsky).

    Args: as ColourImages.
    """

    name, title, dataset, classes = "cifar100", "CIFAR-100", torchvision.datasets.CIFAR100, 100


class STL10(ColourImages):
    """STL-10: 5000 training and 8000 test images of 96×96 in 10 classes (Coates, Ng, Lee).

    Args: as ColourImages.
    """

    name, title, image_shape, dataset = "stl10", "STL-10", (3, 96, 96), torchvision.datasets.STL10

    def part(self, train: bool) -> tuple[np.ndarray, np.ndarray]:
        part = self.dataset(str(self.data_dir), split="train" if train else "test")
        return part.data, part.labels


def cifar10_or_digits(cifar10: CIFAR10, digits: Digits) -> ImageData:
    """Return CIFAR-10 if it is there or can be downloaded, else, with a warning, the digits."""
    return available_or_digits(cifar10, digits)
