"""Test accuracy of networks trained with a share of the training data (figC3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich.progress import Progress


def data_share(
    record: Callable[[str, float, int], dict[str, Any]],
    networks: Sequence[str],
    shares: Sequence[float],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Train every network with every share of the data and every seed.

    Source: paper C, experiments with few training data (from recalled facts, assumption A16).

    Args:
        record: trains a network, by its name, with a share and a seed, and returns the record of the training.
        networks: their names.
        shares: of the training images at hand.
        seeds: of the weights, the order, the augmentation and the choice of the images.

    Returns:
        A row for each training: network, share_percent, seed, training_images, test_accuracy (percent), parameters,
        steps, seconds.
    """
    runs = [(network, share, seed) for seed in seeds for share in shares for network in networks]
    rows = []
    with Progress() as progress:
        for network, share, seed in progress.track(runs, description="trainings"):
            made = record(network, share, seed)
            rows.append(
                {
                    "network": network,
                    "share_percent": 100 * share,
                    "seed": seed,
                    "training_images": made["training_images"],
                    "test_accuracy": 100 * made["test_accuracy"],
                    "parameters": made["parameters"],
                    "steps": made["steps"],
                    "seconds": made["seconds"],
                }
            )
    return pd.DataFrame(rows)
