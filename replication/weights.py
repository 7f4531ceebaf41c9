"""Weights of a layer or network in one file of safetensors, which holds no code, with the settings they belong to."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from replication.units.kept import Kept

SETTINGS = "replication.settings"  # the key in the file's metadata


def save(module: nn.Module, path: str | PathLike[str]) -> None:
    """Write the parameters and buffers of a layer or network, and the settings of its layers, into one file.

    Tensors that are shared are written once for each of their names.

    Args:
        module: of this package, or one with layers of this package in it.
        path: of the file; one that is there is written over.

    >>> import os, tempfile
    >>> from replication import HamiltonianBlock
    >>> path = os.path.join(tempfile.mkdtemp(), "block.safetensors")
    >>> save(HamiltonianBlock(4, step=0.1), path)
    >>> load(HamiltonianBlock(4, step=0.1), path)
    >>> load(HamiltonianBlock(4, step=0.2), path)
    Traceback (most recent call last):
    ValueError: the weights belong to step=0.1, not 0.2; make the HamiltonianBlock with the settings of the weights
    """
    weights = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    save_file(weights, path, metadata={SETTINGS: json.dumps(settings_of(module))})


def load(module: nn.Module, path: str | PathLike[str]) -> None:
    """Put the weights of a file into a layer or network that is made as the saved one was.

    The module keeps its dtype and device. Of a file that has no settings, as others write them, only names and shapes
    are checked.

    Args:
        module: takes the weights; it is left as it is where they do not fit.
        path: of a file that `save` has written.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or its weights have other names, shapes or settings than the module.

    >>> import tempfile
    >>> from replication import MonotoneConvUnit
    >>> saved, made = (MonotoneConvUnit(1, 2, image_size=(4, 4)) for _ in range(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(saved, f"{folder}/unit.safetensors")
    ...     load(made, f"{folder}/unit.safetensors")
    >>> bool((saved.weight1 == made.weight1).all())
    True
    """
    weights, made_with = read(path)
    check_shapes(module, weights)
    if made_with is not None:
        check_settings(module, made_with)
    module.load_state_dict(weights)


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Return the settings of all layers in a module, from the outermost on, by their names, as JSON has them."""
    settings = {
        f"{layer}.{name}".lstrip("."): getattr(part, name)
        for layer, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, Kept)
        for name in part.settings
    }
    as_written: dict[str, Any] = json.loads(json.dumps(settings))
    return as_written


def read(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the tensors of a file, and the settings that were written with them.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(SETTINGS)
        return load_file(path), written and json.loads(written)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no whole file of weights ({error}); save them again") from error


def check_shapes(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Refuse weights of other names or shapes than the module's.

    Raises:
        ValueError: if one differs.
    """
    there, here = (
        {name: tuple(tensor.shape) for name, tensor in state.items()} for state in (weights, module.state_dict())
    )
    for name in differing(there, here):
        raise ValueError(
            f"the weights are those of another module: {name} has the shape {there.get(name)} there and "
            f"{here.get(name)} in the {type(module).__name__}; make it as the one that was saved"
        )


def check_settings(module: nn.Module, made_with: dict[str, Any]) -> None:
    """Refuse weights of other settings than the module's.

    Raises:
        ValueError: if one differs.
    """
    own = settings_of(module)
    for name in differing(made_with, own):
        raise ValueError(
            f"the weights belong to {name}={made_with.get(name)!r}, not {own.get(name)!r}; make the "
            f"{type(module).__name__} with the settings of the weights"
        )


def differing(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return the keys under which two dictionaries have different values, or one has none."""
    return [name for name in here | there if there.get(name) != here.get(name)]
