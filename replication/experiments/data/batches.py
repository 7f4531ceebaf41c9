"""Which images of a training set are used: those that are not held back, a share of every class, and the batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler, TensorDataset


class ShuffledBatches(Sampler[list[int]]):
    """Batches of shuffled indices, a function of seed and epoch alone, so that a resumed training sees the same ones.

    Args:
        size: number of samples.
        batch_size: indices per batch; a last smaller batch is dropped.
        seed: seed of the shuffling.
        processes: number of processes that share every batch, each a part of one size.
        rank: which of them this is.

    Raises:
        ValueError: if the batches cannot be shared evenly.
    """

    def __init__(self, size: int, batch_size: int, seed: int, processes: int = 1, rank: int = 0) -> None:
        if batch_size % processes:
            raise ValueError(
                f"{processes} processes cannot share batches of {batch_size} evenly; choose data.batch_size"
            )
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0
        self.processes, self.rank = processes, rank

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator)
        batches = order[: len(self) * self.batch_size].reshape(len(self), -1)
        yield from batches[:, self.rank :: self.processes].tolist()

    def __len__(self) -> int:
        return self.size // self.batch_size


def check_batch(batch_size: int, images: int, title: str) -> None:
    """Refuse batches that are larger than the training images.

    Raises:
        ValueError: if they are.
    """
    if batch_size > images:
        raise ValueError(
            f"{title} has {images} training images, fewer than a batch of {batch_size}; choose a smaller batch_size"
        )


def last_apart(images: TensorDataset, count: int, title: str) -> tuple[TensorDataset, TensorDataset]:
    """Return all images but the last `count`, and these.

    Raises:
        ValueError: if none would be left.
    """
    if count >= len(images):
        raise ValueError(f"{title}: of {len(images)} training images at most {len(images) - 1} can be held back")
    first, last = zip(*((part[:-count], part[-count:]) for part in images.tensors), strict=True)
    return TensorDataset(*first), TensorDataset(*last)


def balanced_share(images: TensorDataset, share: float, seed: int) -> TensorDataset:
    """Return a random share of the images of every class, in their order."""
    pixels, labels = images.tensors
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in torch.bincount(labels).nonzero():
        rows = (labels == label).nonzero().squeeze(1)
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[: max(1, round(share * len(rows)))]])
    rows = torch.cat(chosen).sort().values
    return TensorDataset(pixels[rows], labels[rows])
