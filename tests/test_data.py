"""Data: checked files, bounded downloads, a loud stand-in, and randomness that is a function of the seed."""

from __future__ import annotations

import gzip
import shutil
import socket
import time
from pathlib import Path

import pytest
import torch
from builders import digits, mnist
from hypothesis import given
from hypothesis import strategies as st

from replication.experiments.data import downloads
from replication.experiments.data import images as module
from replication.experiments.data.augmentation import RandomAffine, RandomDeformation
from replication.experiments.data.ensembles import Entrywise, Gaussian, Gram, Monotone, Skew, Uniform
from replication.experiments.data.images import DataUnavailableError, Digits, ShuffledBatches, mnist_or_digits

ENSEMBLES = [Gaussian(), Uniform(), Entrywise(), Gram(), Monotone(), Skew()]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "any_answers", lambda mirrors, timeout: False)


def test_mnist_that_cannot_be_had_is_one_sentence(tmp_path: Path, offline: None) -> None:
    with pytest.raises(DataUnavailableError, match="no download server answered within 20 s; set REPLICATION_DATA"):
        mnist(tmp_path / "nowhere").prepare_data()


def test_auto_falls_back_to_the_digits_with_a_warning(tmp_path: Path, offline: None) -> None:
    with pytest.warns(UserWarning, match="stand-in for MNIST"):
        data = mnist_or_digits(mnist(tmp_path), digits())
    assert data.name == "digits"


def test_a_silent_server_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        start = time.perf_counter()
        assert not downloads.any_answers([f"http://127.0.0.1:{server.getsockname()[1]}/"], timeout=0.5)
        assert time.perf_counter() - start < 60  # on a busy machine too; without a limit it would be for ever


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "any_answers", lambda mirrors, timeout: True)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(DataUnavailableError, match="could not be downloaded"):
        mnist(blocked).prepare_data()


def test_a_broken_download_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: str, download: bool) -> None:
        (Path(folder) / "half").write_text("a file")
        raise RuntimeError("connection lost")

    monkeypatch.setattr(downloads, "any_answers", lambda mirrors, timeout: True)
    monkeypatch.setattr(module.TorchvisionMNIST, "__init__", lambda self, folder, download: broken(folder, download))
    with pytest.raises(DataUnavailableError, match="connection lost"):
        mnist(tmp_path).prepare_data()
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_truncated_mnist_file_is_named_with_its_checksum(mnist_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(mnist_folder / "MNIST", tmp_path / "MNIST")
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"t10k-labels-idx1-ubyte is not the original .* md5 is [0-9a-f]{32}, not 27ae3e4e"
    ):
        mnist(tmp_path).prepare_data()


def test_mnist_has_its_images(mnist_folder: Path) -> None:
    data = mnist(mnist_folder)
    data.setup()
    assert data.train.tensors[0].shape == (60000, 1, 28, 28)
    assert data.test.tensors[0].shape == (10000, 1, 28, 28)
    assert float(data.train.tensors[0].max()) == 1.0
    _, labels, indices = data.balanced_test(100)
    assert torch.bincount(labels).tolist() == [100] * 10
    assert torch.equal(data.test.tensors[1][indices], labels)


def test_digits_keep_a_hundred_of_each_class_for_testing() -> None:
    data = digits()
    data.setup()
    assert len(data.train) + len(data.test) == 1797
    assert torch.bincount(data.test.tensors[1]).tolist() == [100] * 10
    with pytest.raises(ValueError, match="has 100 test images, fewer than 101"):
        data.balanced_test(101)


def test_shuffling_is_a_function_of_seed_and_epoch() -> None:
    batches = ShuffledBatches(25, 4, seed=1)
    first = list(batches)
    assert first[0] != sorted(first[0])
    assert len(first) == 6
    assert len({index for batch in first for index in batch}) == 24
    assert list(batches) == first
    batches.set_epoch(1)
    assert list(batches) != first


def test_augmentation_moves_by_the_given_amounts() -> None:
    images = torch.zeros(400, 1, 21, 21)
    images[:, :, 10, 10] = 1
    moved = RandomAffine(rotation=0, scaling=0, shift=3)(images, torch.Generator().manual_seed(0))
    weight = moved.sum((1, 2, 3))
    rows = (moved.sum((1, 3)) * torch.arange(21.0)).sum(1) / weight - 10
    assert 2.5 < float(rows.abs().max()) <= 3.1
    still = RandomAffine(rotation=0, scaling=0, shift=0)(images, torch.Generator())
    torch.testing.assert_close(still, images, atol=1e-5, rtol=0)


def test_a_field_moves_pixels_by_its_displacement_and_smoothly() -> None:
    images = torch.zeros(500, 1, 21, 21)
    deformation = RandomDeformation(rotation=0, scaling=0, shift=0, displacement=1.5, points=5, cutout=0)
    still = RandomAffine(rotation=0, scaling=0, shift=0).grid(images, torch.Generator())
    moved = deformation.grid(images, torch.Generator().manual_seed(0))
    field = (moved - still) * 21 / 2  # in pixels
    corner = field[:, 0, 0]  # a point of the coarse grid
    torch.testing.assert_close(corner.std(0), torch.full((2,), 1.5), rtol=0.1, atol=0)
    assert float(field.diff(dim=1).abs().max()) < 3.5  # of values up to 7 apart, five pixels from each other
    again = deformation(images + 1, torch.Generator().manual_seed(3))
    assert torch.equal(again, deformation(images + 1, torch.Generator().manual_seed(3)))


def test_a_square_is_blanked_at_a_place_of_its_own() -> None:
    images = torch.ones(300, 2, 9, 12)
    cut = RandomDeformation(0, 0, 0, displacement=0, points=2, cutout=4).blanked(
        images, torch.Generator().manual_seed(0)
    )
    blank = (cut == 0).sum((2, 3))
    assert int(blank.max()) == 16
    assert int(blank.min()) >= 4  # at a corner
    assert torch.equal(cut[:, 0], cut[:, 1])
    assert len({tuple(one.flatten().tolist()) for one in cut[:, 0]}) > 50
    whole = RandomDeformation(0, 0, 0, displacement=0, points=2, cutout=0).blanked(images, torch.Generator())
    assert torch.equal(whole, images)


@pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda e: type(e).__name__)
def test_ensembles_have_the_norm_they_say_and_scale_the_same_cases(ensemble: Gaussian) -> None:
    gamma = torch.tensor([0.5, 4.0], dtype=torch.float64)
    for draw in (ensemble.linear, ensemble.residual):
        units = draw(30, 10, gamma, torch.Generator().manual_seed(0))
        A = (units.W1 @ units.W2).detach()
        norms = torch.linalg.matrix_norm(A, 2)
        torch.testing.assert_close(norms[30:], 8 * norms[:30])
        if not isinstance(ensemble, Entrywise):
            torch.testing.assert_close(norms[:30], torch.full((30,), 0.5, dtype=torch.float64))
        assert torch.equal(units.b1[30:], units.b1[:30])


@given(st.integers(0, 1000))
def test_monotone_ensembles_are_monotone(seed: int) -> None:
    for ensemble in (Gram(), Monotone(), Skew()):
        A = ensemble.matrix(3, 6, torch.Generator().manual_seed(seed))
        smallest = torch.linalg.eigvalsh((A + A.mT) / 2)[:, 0]
        assert (smallest >= -1e-12 * torch.linalg.matrix_norm(A, 2)).all()


def test_entrywise_has_the_deviation_it_says() -> None:
    for draw in (Entrywise().linear, Entrywise().residual):
        units = draw(2000, 10, torch.tensor([2.0], dtype=torch.float64), torch.Generator().manual_seed(0))
        assert float((units.W1 @ units.W2).detach().std()) == pytest.approx(2 / 10**0.5, rel=0.02)


def test_mnist_is_seen_where_it_is_packed(mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for place, name in enumerate(module.MNIST_MD5):
        content = (mnist_folder / "MNIST" / "raw" / name).read_bytes()
        (raw / (name if place == 1 else f"{name}.gz")).write_bytes(content if place == 1 else gzip.compress(content, 1))
    before = sorted(raw.iterdir())
    packed, plain = mnist(tmp_path), mnist(mnist_folder)
    for data in (packed, plain):
        data.setup()
    for one, other in zip(
        (*packed.train.tensors, *packed.test.tensors), (*plain.train.tensors, *plain.test.tensors), strict=True
    ):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    assert sorted(raw.iterdir()) == before
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content)[:-100])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is not the original MNIST file"):
        mnist(tmp_path).prepare_data()


def test_mnist_is_what_torchvision_reads(mnist_folder: Path) -> None:
    data = mnist(mnist_folder)
    data.setup()
    for part, train in ((data.train, True), (data.test, False)):
        expected = module.TorchvisionMNIST(mnist_folder, train=train)
        assert torch.equal(part.tensors[0], expected.data[:, None].float() / 255)
        assert torch.equal(part.tensors[1], expected.targets)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, r"data\.batch_size must be at least 1, not 0"),
        ({"batch_size": -3}, r"data\.batch_size must be at least 1, not -3"),
        ({"batch_size": 2.5}, r"data\.batch_size must be an integer, not 2\.5"),
        ({"batch_size": "many"}, r"data\.batch_size must be an integer, not 'many'"),
        ({"epochs": 0}, r"data\.epochs must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"held_out": -1}, r"data\.held_out must be at least 0, not -1"),
        ({"held_out": 797}, "of 797 training images at most 796 can be held back"),
        ({"share": "half"}, r"data\.share must be a number, not 'half'"),
        ({"batch_size": 798}, "has 797 training images, fewer than a batch of 798; choose a smaller batch_size"),
        ({"batch_size": 399, "share": 0.5}, "has 398 training images, fewer than a batch of 399"),
    ],
)
def test_impossible_batches_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        Digits(**{"batch_size": 10, "epochs": 1, "seed": 0} | options).setup()


def test_the_largest_batch_is_all_of_the_data() -> None:
    data = Digits(batch_size=797, epochs=1, seed=0)
    data.setup()
    assert len(list(data.train_dataloader())) == 1


def test_held_out_images_are_the_last_and_stand_for_the_test_images() -> None:
    whole, apart = digits(), Digits(batch_size=10, epochs=1, seed=0, held_out=100)
    for data in (whole, apart):
        data.setup()
    assert (len(apart.train), len(apart.test)) == (697, 100)
    for place, all_of_them in enumerate(whole.train.tensors):
        joined = torch.cat([part.tensors[place] for part in (apart.train, apart.test)])
        assert torch.equal(joined, all_of_them)
    assert apart.name == "digits-held100"
    assert apart.title.endswith("(the last 100 training images in place of the test images)")


def test_the_share_is_of_the_images_that_are_not_held_out() -> None:
    options = {"batch_size": 10, "epochs": 1, "seed": 0, "held_out": 97}
    data, last = Digits(**options, share=0.5), Digits(**options)
    data.setup()
    assert abs(len(data.train) - 350) <= 5  # rounded in every class
    last.setup()
    assert torch.equal(data.test.tensors[0], last.test.tensors[0])
