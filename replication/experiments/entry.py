"""What the scripts share: where a run writes, how a figure is made, and errors that end in one sentence."""

from __future__ import annotations

import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from replication.experiments.configuration import as_read, changed_settings, committed, configuration_of
from replication.experiments.files import only_writer
from replication.experiments.records import USED, in_multirun, is_made, made_from, provenance
from replication.experiments.results import Draw, Result, write_result
from replication.experiments.settings import check_settings, chosen_groups
from replication.experiments.weights import load_record, weights_path
from replication.networks import RectifierNetwork
from replication.words import take_any_character

if TYPE_CHECKING:
    from replication.experiments.data.images import ImageData


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
    paths = config.paths
    weights = Path(paths.weights_dir)
    if in_multirun():
        own = own_folder()
        return Folders(own, weights, own, own)
    return Folders(Path(paths.figures_dir), weights, weights, Path(paths.outputs_dir) / "training")


def own_folder() -> Path:
    """Return the folder that Hydra made for this run alone."""
    return Path(HydraConfig.get().runtime.output_dir)


def figures_folder(name: str, config: DictConfig) -> tuple[Path, str]:
    """Return where a figure goes, and a remark on that.

    It goes to `folders`, unless its settings are not those in conf/ and nobody named a folder: then to the run's own.
    """
    folder = folders(config).figures
    named = any(override.startswith("paths.figures_dir=") for override in HydraConfig.get().overrides.task)
    other = changed_settings(name, as_read(configuration_of(config)))
    if not other or named or in_multirun():
        return folder, ""
    return own_folder(), f"; settings are not those in conf/ ({other}), so {folder} is left as it is"


def make_figure(
    name: str, config: DictConfig, study: Callable[[], Result], draw: Draw, data: ImageData | None = None
) -> None:
    """Run a study, draw its result, and write both with their record; in a sweep, if they are not there yet.

    Where they go says `figures_folder`. The time in the record is that of the study and of trainings made for it alone.

    Args:
        name: of the figure.
        config: of the run; has a `title`, one line on what the figure shows.
        study: makes the result.
        draw: makes the picture from the result and its record alone.
        data: what the study runs on, where the configuration does not say it in words.
    """
    start = time.perf_counter()
    print(f"{name}: {config.title}", flush=True)
    folder, remark = figures_folder(name, config)
    with only_writer(folder, name):
        if in_multirun() and is_made(folder, name, config):
            print(f"{name}: already there, in {folder}", flush=True)
            return
        result = study()
        seconds, sources = time.perf_counter() - start, made_from(name, config, HydraConfig.get().overrides.task)
        more = {"figure": name, "title": config.title, "sources": sources}
        record = provenance(config, seconds + USED.seconds, *dataset_of(config, data), **more)
        paths = write_result(folder, name, result, draw(result, record), record)
    print(f"{name}: {seconds:.1f} s, wrote {', '.join(map(str, paths))}{remark}", flush=True)


def dataset_of(config: DictConfig, data: ImageData | None) -> tuple[str, str | None]:
    """Return what a study runs on in words, and the checksum of the data.

    Where the configuration has a `dataset`, that is what is said, and no image enters the result: {data} in it is the
    title of the data.
    """
    if "dataset" in config:
        return str(config.dataset).format(data=data.title if data else ""), None
    if data is None:
        raise ValueError("the configuration must say what the figure is made from: +dataset=...")
    return data.title, data.checksum()


def trained(config: DictConfig, data: ImageData) -> RectifierNetwork:
    """Return the configured network with its weights, in float64; train it first where they are missing."""
    from replication.experiments.training import load_network  # and Lightning, which takes seconds to load

    where = folders(config)
    return load_network(config, data, where.weights, where.runs).double()


def trained_with_record(config: DictConfig, data: ImageData) -> tuple[RectifierNetwork, dict[str, Any]]:
    """Return what `trained` returns, and the record of the run that made the weights."""
    network = trained(config, data)
    return network, load_record(weights_path(config, data, folders(config).weights))


def variant(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a configuration with other settings, by their dotted names."""
    other = config.copy()
    for key, value in changes.items():
        OmegaConf.update(other, key, value, merge=False, force_add=True)
    return other


def command(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Make a script's main end in one sentence, not a traceback, where the input, the data or the user stops it.

    A job of a sweep that fails leaves the other jobs alone.
    """

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        take_any_character()  # γ on a terminal that has no Greek letters
        warnings.showwarning = lambda message, *rest: console.print(f"[bold yellow]warning:[/] {message}")
        try:
            job = HydraConfig.get()
            USED.clear()  # of an earlier job in this process
            check_settings(config, committed(str(job.job.config_name), chosen_groups(job.overrides.task)))
            torch.set_num_threads(1 if config.threads is None else config.threads)
            main(config)
        except Exception as error:
            if HydraConfig.get().verbose:
                raise
            sentence = in_one_sentence(error)
            if in_multirun():  # Hydra goes on with the other jobs, and shows the sentence at the end
                raise CompactHydraException(f"error: {sentence}") from error
            console.print(f"[bold red]error:[/] {escape(sentence)}")
            sys.exit(1)
        except KeyboardInterrupt:
            console.print("interrupted: the same command makes what is missing; a training goes on where it stopped")
            sys.exit(130)

    return wrapped


@contextmanager
def ending_in_one_sentence(stopped: str = "stopped") -> Iterator[None]:
    """Let a command without Hydra end in one sentence, not a traceback, where input, disk or user stop it.

    Args:
        stopped: what is said where the user does.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    take_any_character()
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print(stopped)
        sys.exit(130)


def in_one_sentence(error: Exception) -> str:
    """Return what an error says, less Hydra's words around it; of an unforeseen kind, that and how to see more."""
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        return in_one_sentence(error.__cause__)
    if isinstance(error, ValueError | TypeError | RuntimeError | OSError):
        return str(error)
    return f"these settings do not fit together ({error!r}); hydra.verbose=true shows where"
