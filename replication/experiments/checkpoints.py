"""Checkpoints of a training: written whole or not at all, and gone on from by the same recipe alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from replication.experiments.configuration import as_read
from replication.experiments.files import write_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Write every checkpoint whole or not at all, so that the one before it stays usable until then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


def checkpoint_to_resume(folder: Path, wanted: dict[str, Any]) -> Path | None:
    """Return the checkpoint of an interrupted run in this folder, or None; leave its recipe there for the next start.

    Raises:
        ValueError: if the interrupted run had another recipe, or none that can be read.
    """
    checkpoint, note = folder / "last.ckpt", folder.with_name("recipe.json")
    if checkpoint.is_file() and note.is_file():
        try:
            started = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            started = None
        if started != as_read(wanted):
            raise ValueError(
                f"an interrupted training with another configuration is in {folder}; "
                "start again with that configuration to go on, or delete the folder to begin anew"
            )
        return checkpoint
    write_atomically(note, json.dumps(wanted, indent=2).encode())
    return None


def check_checkpoint(path: Path, module: pl.LightningModule) -> None:
    """Refuse a checkpoint that is corrupt, holds anything but tensors and numbers, or is another network's.

    Raises:
        ValueError: if it does.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    except Exception as error:  # what torch raises for a broken file is any of a dozen types
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ValueError(f"the checkpoint {path} cannot be used ({reason}); delete it to begin anew") from error
