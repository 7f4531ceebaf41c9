"""Units put together."""

from replication.networks.flow import CausalFlow
from replication.networks.layerwise import (
    LayerRecord,
    LayerwiseNetwork,
    NetworkCertificate,
    NetworkSolution,
)
from replication.networks.presets import preset
from replication.networks.rectifier_network import RectifierNetwork
from replication.networks.resnet import ResNet
from replication.networks.reversible_network import ReversibleNetwork, smoothness_penalty

__all__ = [
    "CausalFlow",
    "LayerRecord",
    "LayerwiseNetwork",
    "NetworkCertificate",
    "NetworkSolution",
    "RectifierNetwork",
    "ResNet",
    "ReversibleNetwork",
    "preset",
    "smoothness_penalty",
]
