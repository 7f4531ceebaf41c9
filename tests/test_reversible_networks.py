"""Reversible networks: layers and parameters as the papers count them, smoothness of weights."""

from __future__ import annotations

import pytest

from replication import HamiltonianBlock, ReversibleNetwork, preset
from replication.networks import smoothness_penalty
from replication.networks.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_layers_of_their_names(name: str) -> None:
    assert preset(name).layers == int(name.split("-")[1])


@pytest.mark.parametrize(("name", "millions"), [("74", "0.43"), ("218", "1.68"), ("1202", "9.65")])
def test_hamiltonian_presets_have_the_papers_numbers_of_parameters(name: str, millions: str) -> None:
    count = sum(parameter.numel() for parameter in preset(f"hamiltonian-{name}").parameters())
    assert f"{count / 1e6:.2f}" == millions


def test_resnets_have_their_papers_numbers_of_parameters() -> None:
    counts = [sum(parameter.numel() for parameter in preset(name).parameters()) for name in ("resnet-32", "resnet-110")]
    assert [f"{count / 1e6:.2g}" for count in counts] == ["0.46", "1.7"]  # He et al., table 6


def test_smoothness_is_half_the_squared_difference_of_successive_kernels() -> None:
    network = ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, (4, 8), (3, 2))
    total = 0.0
    for stage, number in ((0, 3), (1, 2)):
        for place in range(number - 1):
            for coupling in (0, 1):
                now, after = (
                    network.state_dict()[f"stages.{stage}.blocks.{index}.couplings.{coupling}.branch.weight"]
                    for index in (place, place + 1)
                )
                total += float(((now - after) ** 2).sum()) / 2
    assert float(smoothness_penalty(network, 2.0).detach()) == pytest.approx(2 * total, rel=1e-5)
    with pytest.raises(TypeError, match=r"training\.penalty=null"):
        smoothness_penalty(preset("resnet-32"), 1.0)
