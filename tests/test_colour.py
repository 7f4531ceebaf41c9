"""Colour images: original files only, shares of the training images, crops and flips."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

from replication.experiments.data import downloads as module
from replication.experiments.data.augmentation import RandomCropFlip
from replication.experiments.data.batches import balanced_share
from replication.experiments.data.colour import CIFAR10, STL10, cifar10_or_digits
from replication.experiments.data.downloads import DataUnavailableError
from replication.experiments.data.images import Digits

OPTIONS = {"batch_size": 10, "epochs": 1, "seed": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set in CIFAR-10's layout that torchvision takes for the original."""
    target, rng = tmp_path / "cifar-10-batches-py", np.random.default_rng(0)
    target.mkdir()
    contents = {
        name: {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [label % 10 for label in range(20)]}
        for name in ("data_batch_1", "test_batch")
    } | {"batches.meta": {"label_names": list("abcdefghij")}}
    sums = {}
    for name, content in contents.items():
        (target / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((target / name).read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(TorchvisionCIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(TorchvisionCIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(TorchvisionCIFAR10, "meta", meta)
    return tmp_path


def test_the_mean_training_image_is_subtracted(folder: Path) -> None:
    data = CIFAR10(str(folder), **OPTIONS)
    data.setup()
    assert data.train is not None
    assert data.test is not None
    train, test = data.train.tensors[0], data.test.tensors[0]
    assert train.shape == test.shape == (20, 3, 32, 32)
    assert float(train.mean(0).abs().max()) < 1e-6
    raw = pickle.loads((folder / "cifar-10-batches-py" / "test_batch").read_bytes())["data"]  # channel, row, column
    mean = pickle.loads((folder / "cifar-10-batches-py" / "data_batch_1").read_bytes())["data"].mean(0)
    np.testing.assert_allclose(test.flatten(1).numpy(), (raw - mean) / 255, atol=1e-6)


class Attack:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_file_that_is_not_the_original_is_refused_unopened(folder: Path) -> None:
    done = folder / "attacked"
    (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Attack(done)))
    with pytest.raises(ValueError, match=r"are not the original ones of CIFAR10 .* delete the folder"):
        CIFAR10(str(folder), **OPTIONS).setup()
    assert not done.exists()


def test_data_that_cannot_be_had_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "any_answers", lambda urls, timeout: False)
    with pytest.raises(DataUnavailableError, match=r"STL-10 is not in .* set REPLICATION_DATA to .* holds stl10"):
        STL10(str(tmp_path), **OPTIONS).prepare_data()
    with pytest.warns(UserWarning, match=r"CIFAR-10 is not in .* stand-in for MNIST"):
        assert isinstance(cifar10_or_digits(CIFAR10(str(tmp_path), **OPTIONS), Digits(**OPTIONS)), Digits)


@pytest.mark.slow
def test_the_real_cifar10_loads(cifar10_folder: Path) -> None:
    data = CIFAR10(str(cifar10_folder), **OPTIONS, share=0.01)
    assert data.name == "cifar10-1percent"
    assert data.title == "CIFAR-10 (1 % of the training images)"
    data.setup()
    assert data.train is not None
    assert torch.bincount(data.train.tensors[1]).tolist() == [50] * 10
    assert len(data.balanced_test(1000)[0]) == 10_000


def test_a_share_is_balanced_and_a_function_of_the_seed() -> None:
    whole, _ = Digits(**OPTIONS).load()
    first, again, other = (balanced_share(whole, 0.25, seed).tensors[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    rows = {tuple(image.flatten().tolist()) for image in whole.tensors[0]}
    assert all(tuple(image.flatten().tolist()) in rows for image in first)
    counts, of = (torch.bincount(part.tensors[1]) for part in (balanced_share(whole, 0.25, 0), whole))
    assert ((counts - of / 4).abs() <= 0.5).all()


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        Digits(**OPTIONS, share=share)


def test_every_crop_is_a_shifted_image_or_its_mirror_image() -> None:
    images = torch.randn(200, 2, 5, 6)
    crops = RandomCropFlip(2)(images, torch.Generator().manual_seed(0))
    seen = set()
    for image, crop in zip(images, crops, strict=True):
        padded = F.pad(image, [2] * 4)
        fits = {
            (down, right, flip)
            for down in range(5)
            for right in range(5)
            for flip in (False, True)
            if torch.equal(crop, padded[:, down : down + 5, right : right + 6].flip([2] if flip else []))
        }
        assert len(fits) == 1
        seen |= fits
    assert len(seen) == 50  # all shifts, both ways round


def test_packed_colour_images_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(DataUnavailableError, match=r"CIFAR-10 is packed in .*; unpack it there: tar -xzf cifar-10-pyt"):
        CIFAR10(str(tmp_path), **OPTIONS).prepare_data()
