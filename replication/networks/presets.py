"""The named networks of paper C."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from replication.networks.resnet import ResNet
from replication.networks.reversible_network import ReversibleNetwork
from replication.units import (
    BlockSequence,
    HamiltonianBlock,
    LeapfrogBlock,
    MidpointBlock,
    ReversibleBlock,
    ReversibleSequence,
    RevNetBlock,
)

NARROW, WIDE, RESNET = (32, 64, 112), (32, 64, 128), (16, 32, 64)

REVERSIBLE: dict[str, tuple[Callable[..., ReversibleBlock], tuple[int, ...], tuple[int, ...]]] = {
    # name: block, channels and blocks of each stage; the stages' numbers of blocks are assumption A14
    "hamiltonian-74": (HamiltonianBlock, NARROW, (7, 6, 5)),
    "hamiltonian-218": (HamiltonianBlock, WIDE, (19, 18, 17)),
    "hamiltonian-1202": (HamiltonianBlock, WIDE, (101, 100, 99)),
    "midpoint-26": (MidpointBlock, NARROW, (5, 4, 3)),
    "midpoint-62": (MidpointBlock, WIDE, (11, 10, 9)),
    "leapfrog-26": (LeapfrogBlock, NARROW, (5, 4, 3)),
    "leapfrog-62": (LeapfrogBlock, WIDE, (11, 10, 9)),
    "revnet-38": (RevNetBlock, NARROW, (4, 3, 2)),
    "revnet-110": (RevNetBlock, WIDE, (10, 9, 8)),
}
STORED = {"resnet-32": (5, 5, 5), "resnet-110": (18, 18, 18)}
PRESETS = (*REVERSIBLE, *STORED)


def preset(
    name: str,
    image_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    sequence: Callable[[list[ReversibleBlock]], BlockSequence] = ReversibleSequence,
    **options: object,
) -> ReversibleNetwork | ResNet:
    """Make a network of paper C by its name, e.g. "hamiltonian-74" or "resnet-32".

    Source: paper C (from recalled facts, assumption A14).

    Args:
        name: one of PRESETS.
        image_shape: (channels, height, width).
        classes: number of classes.
        sequence: as for `ReversibleNetwork`.
        options: of every block, as `step` or `normalise`.

    Raises:
        ValueError: if there is no such name, or sequence or options are given for a ResNet.

    >>> sum(parameter.numel() for parameter in preset("hamiltonian-74").parameters())
    429706
    """
    if name in STORED:
        if options or sequence is not ReversibleSequence:
            raise ValueError(f"{name} has no reversible blocks, so it takes neither a sequence nor block options")
        return ResNet(image_shape, classes, RESNET, STORED[name])
    if name not in REVERSIBLE:
        raise ValueError(f"there is no network {name!r}; choose one of {', '.join(PRESETS)}")
    block, channels, blocks = REVERSIBLE[name]
    return ReversibleNetwork(image_shape, classes, partial(block, **options), channels, blocks, sequence)
