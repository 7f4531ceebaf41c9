"""Reversible blocks of paper C: pairs of states that a formula takes forward and back."""

from replication.units.reversible.blocks import (
    HamiltonianBlock,
    LeapfrogBlock,
    MidpointBlock,
    ReversibleBlock,
    RevNetBlock,
)
from replication.units.reversible.couplings import Coupling, Pair
from replication.units.reversible.layer import ReversibleLayer
from replication.units.reversible.recomputation import ReversibleSequence
from replication.units.reversible.sequence import BlockSequence

__all__ = [
    "BlockSequence",
    "Coupling",
    "HamiltonianBlock",
    "LeapfrogBlock",
    "MidpointBlock",
    "Pair",
    "RevNetBlock",
    "ReversibleBlock",
    "ReversibleLayer",
    "ReversibleSequence",
]
