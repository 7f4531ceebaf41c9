"""Layers that can be undone: residual families, and the plain ones between them."""

from replication.units.causal import CausalConvUnit, MonotoneCausalConvUnit
from replication.units.closed_form import (
    Affine,
    ChannelNormalisation,
    ClosedFormLayer,
    Flip,
    Orthogonal1x1,
    SpaceToDepth,
    ZeroChannels,
)
from replication.units.convolutional import ConvRectifierUnit, LipschitzConvUnit, MonotoneConvUnit, StandardConvUnit
from replication.units.deep import DeepConvUnit, DeepUnit
from replication.units.feed_forward import FeedForwardUnit
from replication.units.injective import InjectiveReLU
from replication.units.injective_convolutional import InjectiveConvReLU
from replication.units.inverse import Inverse
from replication.units.layer import Layer, Unit
from replication.units.paired import PairedReLU
from replication.units.rectifier_unit import RectifierUnit
from replication.units.residual import RectifierLinear, ResidualUnit
from replication.units.reversible import (
    BlockSequence,
    HamiltonianBlock,
    LeapfrogBlock,
    MidpointBlock,
    ReversibleBlock,
    ReversibleLayer,
    ReversibleSequence,
    RevNetBlock,
)

__all__ = [
    "Affine",
    "BlockSequence",
    "CausalConvUnit",
    "ChannelNormalisation",
    "ClosedFormLayer",
    "ConvRectifierUnit",
    "DeepConvUnit",
    "DeepUnit",
    "FeedForwardUnit",
    "Flip",
    "HamiltonianBlock",
    "InjectiveConvReLU",
    "InjectiveReLU",
    "Inverse",
    "Layer",
    "LeapfrogBlock",
    "LipschitzConvUnit",
    "MidpointBlock",
    "MonotoneCausalConvUnit",
    "MonotoneConvUnit",
    "Orthogonal1x1",
    "PairedReLU",
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
