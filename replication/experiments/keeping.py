"""Trainings that one figure alone needs: their records, and weights where it looks at them, lie in weights/FIGURE."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replication.experiments.files import write_together
from replication.experiments.records import USED
from replication.experiments.weights import is_of_recipe, load_record


@dataclass(frozen=True)
class Trainings:
    """The trainings of a figure.

    Attributes:
        kept: folder of those that are committed.
        runs: folder of those made here.
        retrain: whether those that are kept are made anew; a run that was stopped goes on with what is in `runs`.
        with_weights: whether the weights are kept, or the records alone.
    """

    kept: Path
    runs: Path
    retrain: bool = False
    with_weights: bool = False

    def find(self, name: str, recipe: Mapping[str, Any], train: Callable[[], object]) -> Path:
        """Return where the weights of a training are, or would be beside its record; train where there is none.

        Args:
            name: of the training.
            recipe: all that decides what it makes; a record of another recipe does not count.
            train: makes the weights and the record of this name in `runs`.
        """
        kept, made = (folder / f"{name}.safetensors" for folder in (self.kept, self.runs))
        if not self.retrain and is_of_recipe(kept, recipe):
            USED.files.update(path.resolve() for path in (kept, kept.with_suffix(".json")) if path.is_file())
            return kept
        start = time.perf_counter()
        if not is_of_recipe(made, recipe):
            train()
        seconds = load_record(made)["seconds"]
        USED.seconds += max(0.0, seconds - (time.perf_counter() - start))  # the rest is spent in this run
        if self.retrain:
            self.keep(made)
        return made

    def keep(self, made: Path) -> None:
        """Copy a training that is done to those that are kept."""
        record, kept = load_record(made), self.kept / made.name
        weights = {kept: made.read_bytes()} if self.with_weights else {}
        if not self.with_weights:
            del record["sha256"]
        written = (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()
        write_together({kept.with_suffix(".json"): written} | weights)  # the last one vouches for the other
