"""Configurations: as they stand in conf/, as records have them, and in which settings two of them differ."""

from __future__ import annotations

import functools
import json
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, OmegaConf

from replication.experiments.places import CONF

WORDS = (
    "title",
    "dataset",
    "fast",
    "shows",
    "alone",
)  # on a figure, no settings of it; older records say `shows` for `title`
CONDUCT = {"enable_progress_bar", "log_every_n_steps", "logger", "retrain"}  # settings that change no result
TIMING = {"repetitions", "budget"}  # settings of how often times are measured
SINCE = {
    "network.flips": False,
    "trainer.max_steps": -1,
    "steps.max_steps": -1,
}  # settings that older records lack: what was done then
MOVED = ("replication.experiments.", "replication.")  # older records name the same classes at their former places


@functools.cache
def declared(name: str) -> Any:
    """Return what a script's own configuration file says, without what it is composed of."""
    return OmegaConf.load(CONF / f"{name}.yaml")


def title_of(name: str) -> str:
    """Return in one line what a figure shows."""
    return str(declared(name).title)


@functools.cache
def committed(script: str, options: tuple[str, ...] = ()) -> DictConfig:
    """Return a script's configuration as it stands in conf/, with these options."""
    running, hydra = GlobalHydra.instance().hydra, GlobalHydra.instance()  # of a script that is at work
    job = JobRuntime.instance().get("name")
    hydra.clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(script, overrides=list(options))
    finally:
        hydra.hydra = running
        JobRuntime.instance().set("name", job)  # of the jobs of a sweep that are still to come


def changed_settings(name: str, made_with: Any) -> str:
    """Return in words which settings differ from those in conf/; nothing where the result would be the same.

    The number of threads counts where conf/ names one; how often times are measured does not.

    Args:
        name: of the figure.
        made_with: its configuration, as its record has it.
    """
    wanted, found = (
        {key: value for key, value in settings(made).items() if key.rpartition(".")[2] not in TIMING}
        for made in (as_read(configuration_of(committed(name))), made_with)
    )
    if wanted.get("threads") is None:
        found["threads"] = None
    return differing(found, wanted)


def differing(made_with: Any, wanted: Any) -> str:
    """Return in words how settings differ from those that are wanted; nothing where they do not."""
    found, wanted = settings(made_with), settings(wanted)
    found = {key: value for key, value in SINCE.items() if key in wanted} | found
    other = [
        f"{key}={found.get(key)}" + (f", not {wanted[key]}" if key in wanted else "")
        for key in wanted | found
        if key not in wanted or key not in found or wanted[key] != found[key]
    ]
    return other[0] + (f", and {len(other) - 1} more" if len(other) > 1 else "") if other else ""


def settings(configuration: Any, within: str = "") -> dict[str, Any]:
    """Return the settings of a configuration that results depend on, by their paths."""
    if not isinstance(configuration, dict) or not configuration:
        return {within: json.loads(json.dumps(configuration).replace(*MOVED))}
    found: dict[str, Any] = {}
    for key, value in configuration.items():
        if key not in CONDUCT and (within or key not in WORDS):
            found |= settings(value, f"{within}.{key}" if within else key)
    return found


def as_read(value: Any) -> Any:
    """Return what a value becomes when it is written as JSON and read again."""
    return json.loads(json.dumps(value))


def configuration_of(config: DictConfig) -> Any:
    """Return a configuration as records have it: resolved, its settings alone, less its folders."""
    whole = without_places(OmegaConf.to_container(config, resolve=True, throw_on_missing=False))
    return {key: value for key, value in whole.items() if key not in WORDS} if isinstance(whole, dict) else whole


def without_places(configuration: Any) -> Any:
    """Return a configuration less its folders, which belong to a machine; what lies in them has its checksum."""
    if isinstance(configuration, dict):
        kept = {str(key): value for key, value in configuration.items() if key not in ("paths", "data_dir")}
        return {key: without_places(value) for key, value in kept.items()}
    if isinstance(configuration, list):
        return [without_places(value) for value in configuration]
    return configuration
