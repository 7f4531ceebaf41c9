"""Layers that can be undone: residual families, and the plain ones between them."""

from replication.units.causal import CausalConvUnit, MonotoneCausalConvUnit
from replication.units.convolutional import ConvRectifierUnit, LipschitzConvUnit, MonotoneConvUnit, StandardConvUnit
from replication.units.injective import InjectiveReLU
from replication.units.injective_convolutional import InjectiveConvReLU
from replication.units.inverse import Inverse
from replication.units.paired import PairedReLU
from replication.units.plain import (
    Affine,
    ChannelNormalisation,
    Flip,
    Orthogonal1x1,
    PlainLayer,
    SpaceToDepth,
    ZeroChannels,
)
from replication.units.recomputation import ReversibleSequence
from replication.units.rectifier_unit import RectifierUnit
from replication.units.residual import RectifierLinear, ResidualUnit
from replication.units.reversible import (
    BlockSequence,
    HamiltonianBlock,
    LeapfrogBlock,
    MidpointBlock,
    ReversibleBlock,
    ReversibleLayer,
    RevNetBlock,
)
from replication.units.unit import Unit

__all__ = [
    "Affine",
    "BlockSequence",
    "CausalConvUnit",
    "ChannelNormalisation",
    "ConvRectifierUnit",
    "Flip",
    "HamiltonianBlock",
    "InjectiveConvReLU",
    "InjectiveReLU",
    "Inverse",
    "LeapfrogBlock",
    "LipschitzConvUnit",
    "MidpointBlock",
    "MonotoneCausalConvUnit",
    "MonotoneConvUnit",
    "Orthogonal1x1",
    "PairedReLU",
    "PlainLayer",
    "RectifierLinear",
    "RectifierUnit",
    "ResidualUnit",
    "RevNetBlock",
    "ReversibleBlock",
    "ReversibleLayer",
    "ReversibleSequence",
    "SpaceToDepth",
    "StandardConvUnit",
    "Unit",
    "ZeroChannels",
]
