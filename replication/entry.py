"""What the scripts share: where a run writes, and errors that end in one sentence."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console


@dataclass(frozen=True)
class Folders:
    """Where a run reads and writes.

    Attributes:
        figures: results go here.
        weights: trained weights are looked up here.
        weights_out: weights of a training asked for go here.
        runs: checkpoints and logs go here.
    """

    figures: Path
    weights: Path
    weights_out: Path
    runs: Path


def folders(config: DictConfig) -> Folders:
    """Return the folders of this run: those of the configuration, or the job's own in a multirun."""
    paths, job = config.paths, HydraConfig.get()
    weights = Path(paths.weights_dir)
    if job.mode == RunMode.MULTIRUN:
        own = Path(job.runtime.output_dir)
        return Folders(own, weights, own, own)
    return Folders(Path(paths.figures_dir), weights, weights, Path(paths.outputs_dir) / "training")


def one_sentence_errors(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """End a script on bad input or missing data with the error's sentence in place of a traceback."""

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> None:
        try:
            main(config)
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            if HydraConfig.get().verbose:
                raise
            Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False)
            sys.exit(1)

    return wrapped
