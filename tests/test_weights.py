"""Weights in files: every layer comes back as it was, and no layer takes weights that are not its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from builders import ALL, built, output_of, same_tensors, shape_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from replication import (
    CausalConvUnit,
    HamiltonianBlock,
    LeapfrogBlock,
    LipschitzConvUnit,
    MidpointBlock,
    PairedReLU,
    ReversibleSequence,
    StandardConvUnit,
    load,
    save,
)

WITHOUT_WEIGHTS = ("zero channels", "space to depth", "flip")


@pytest.mark.parametrize("name", ALL)
def test_every_layer_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    saved, loaded = built(name, seed=1), built(name, seed=2)
    x = torch.rand(2, *((5,) if name == "batch" else ()), *shape_of(name), dtype=torch.float64)
    assert name in WITHOUT_WEIGHTS or not torch.equal(output_of(loaded, x), output_of(saved, x))
    save(saved, tmp_path / "layer.safetensors")
    load(loaded, tmp_path / "layer.safetensors")
    assert torch.equal(output_of(loaded, x), output_of(saved, x))
    assert same_tensors(loaded.state_dict(), saved.state_dict())


@pytest.mark.parametrize(
    ("made", "other", "sentence"),
    [
        (
            partial(CausalConvUnit, 2, 2, corner="top-left"),
            partial(CausalConvUnit, 2, 2, corner="top-right"),
            "padding",
        ),
        (partial(HamiltonianBlock, 2, step=0.1), partial(HamiltonianBlock, 2), "step=0.1, not 1.0"),
        (partial(MidpointBlock, 2), partial(LeapfrogBlock, 2), "couplings.0.reflects=False"),
        (partial(PairedReLU, 2, 2, floor=0.1), partial(PairedReLU, 2, 2, floor=0.2), "floor=0.1"),
        (
            partial(LipschitzConvUnit, 2, 2, image_size=(4, 4)),
            partial(LipschitzConvUnit, 2, 2, image_size=(4, 5)),
            "image_size=[4, 4]",
        ),
    ],
)
def test_weights_of_other_settings_are_refused_and_change_nothing(
    made: Callable[[], nn.Module], other: Callable[[], nn.Module], sentence: str, tmp_path: Path
) -> None:
    for around in (lambda layer: layer, nn.Sequential):
        save(around(made()), tmp_path / "layer.safetensors")
        refusing = around(other())
        before = {name: tensor.clone() for name, tensor in refusing.state_dict().items()}
        with pytest.raises(ValueError, match=f"^the weights belong to .*{re.escape(sentence)}"):
            load(refusing, tmp_path / "layer.safetensors")
        assert all(torch.equal(tensor, before[name]) for name, tensor in refusing.state_dict().items())
        load(around(made()), tmp_path / "layer.safetensors")


@pytest.mark.parametrize("other", [StandardConvUnit(2, 4), HamiltonianBlock(2), nn.Sequential(StandardConvUnit(2, 3))])
def test_weights_of_another_module_are_refused(other: nn.Module, tmp_path: Path) -> None:
    save(StandardConvUnit(2, 3), tmp_path / "layer.safetensors")
    with pytest.raises(ValueError, match=r"^the weights are those of another module: [\w.]+ has the shape"):
        load(other, tmp_path / "layer.safetensors")


def test_a_block_that_stands_in_two_places_is_kept_in_both(tmp_path: Path) -> None:
    block, other = HamiltonianBlock(4), HamiltonianBlock(4)
    save(ReversibleSequence([block, block]), tmp_path / "twice.safetensors")
    load(ReversibleSequence([other, other]), tmp_path / "twice.safetensors")
    for mine, theirs in zip(other.parameters(), block.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_files_of_others_have_no_settings_and_are_known_by_their_shapes(tmp_path: Path) -> None:
    save_file(HamiltonianBlock(4, step=0.1).state_dict(), tmp_path / "bare.safetensors")
    load(HamiltonianBlock(4, step=0.2), tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="another module"):
        load(HamiltonianBlock(6), tmp_path / "bare.safetensors")


def test_the_dtype_stays_that_of_the_module(tmp_path: Path) -> None:
    unit, single = StandardConvUnit(2, 3).double(), StandardConvUnit(2, 3)
    save(unit, tmp_path / "unit.safetensors")
    with safe_open(tmp_path / "unit.safetensors", framework="pt") as file:
        assert file.get_tensor("weight1").dtype is torch.float64
    load(single, tmp_path / "unit.safetensors")
    assert torch.equal(single.weight1, unit.weight1.float())


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-8], lambda whole: b"\x7f" * len(whole)])
def test_damaged_files_are_refused_in_one_sentence(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "unit.safetensors"
    save(StandardConvUnit(2, 3), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"is no whole file of weights .*; save them again"):
        load(StandardConvUnit(2, 3), path)
    with pytest.raises(FileNotFoundError):
        load(StandardConvUnit(2, 3), tmp_path / "none.safetensors")
