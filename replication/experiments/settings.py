"""Refusals of settings that cannot be: every one is checked against the kind of the one that stands in conf/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from replication.experiments.configuration import as_read, configuration_of, settings
from replication.experiments.places import CONF

# by the last part of their names
ZERO_TOO = {
    "weight_decay", "momentum", "label_smoothing", "patience", "max_iterations", "block_steps", "rotation",
    "scaling", "shift", "seed", "seeds", "limit_test_batches", "normalise", "bias", "digits", "towards", "weight", "M",
    "mislabelled", "held_out", "averaging", "displacement", "cutout", "statistics",
}  # fmt: skip
WORDS_TOO = {"omega": ("auto",), "devices": ("auto",)}
NONE_TOO = {"norm_cap", "threads", "caps", "max_epochs", "penalty"}
NOT_WHOLE = {"expansivity", "gamma"}  # numbers, whatever stands in conf/
ANY_SIGN = {"bias", "M"}
COUNTS_IF_GIVEN = ("threads", "trainer.max_epochs")  # null in conf/


def check_settings(config: DictConfig, committed: DictConfig) -> None:
    """Refuse settings of another kind than those in conf/: words for numbers, fractions for counts, negative numbers.

    Args:
        config: as it runs.
        committed: as it stands in conf/, with the same groups.

    Raises:
        ValueError: with the setting, its value and what it may be.
    """
    wanted = settings(as_read(configuration_of(committed)))
    for key, value in settings(as_read(configuration_of(config))).items():
        if key in COUNTS_IF_GIVEN and value is not None:
            check_setting(key, value, 1)
        elif key in wanted:
            check_setting(key, value, wanted[key])
        elif value == {} and any(other.startswith(f"{key}.") for other in wanted):
            raise ValueError(f"{key} must not be empty")


def chosen_groups(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that choose a file of conf/, and so what settings there are."""
    return tuple(one for one in overrides if (CONF / one.lstrip("+~").split("=")[0].split("@")[0]).is_dir())


def check_setting(key: str, value: Any, wanted: Any) -> None:
    """Refuse a value of another kind than the one in conf/.

    Raises:
        ValueError: if it is.
    """
    last = key.rpartition(".")[2]
    if isinstance(wanted, list):
        if not isinstance(value, list) or (wanted and not value):
            raise ValueError(f"{key} must be a list that is not empty, like {wanted} in conf/, not {value!r}")
        kinds = [one for one in wanted if one is not None]
        for part in value if kinds else []:
            check_setting(key, part, kinds[0])
    elif isinstance(wanted, dict) and isinstance(value, dict):
        for name in value.keys() & wanted.keys():
            check_setting(f"{key}.{name}", value[name], wanted[name])
    elif isinstance(wanted, bool | str | dict) or wanted is None:
        if not isinstance(value, type(wanted)) and wanted is not None and value is not None:
            raise ValueError(f"{key} must be like {wanted!r} in conf/, not {value!r}")
    elif not (value in WORDS_TOO.get(last, ()) or (value is None and last in NONE_TOO)):
        check_quantity(
            key, value, whole=isinstance(wanted, int) and last not in NOT_WHOLE, signed=wanted < 0 or last in ANY_SIGN
        )


def check_quantity(key: str, value: Any, whole: bool, signed: bool) -> None:
    """Refuse what is no finite number, or none above zero, or not whole."""
    zero = key.rpartition(".")[2] in ZERO_TOO
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and (not whole or isinstance(value, int)) and (signed or value > 0 or (zero and value == 0)):
        return
    size = "" if signed else " of at least 0" if zero else " of at least 1" if whole else " above 0"
    raise ValueError(f"{key} must be a {'whole' if whole else 'finite'} number{size}, not {value!r}")
