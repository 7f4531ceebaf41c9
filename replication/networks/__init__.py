"""Units put together."""

from replication.networks.flow import CausalFlow
from replication.networks.layerwise import (
    LayerRecord,
    LayerwiseNetwork,
    NetworkCertificate,
    NetworkSolution,
)
from replication.networks.rectifier_network import RectifierNetwork

__all__ = ["CausalFlow", "LayerRecord", "LayerwiseNetwork", "NetworkCertificate", "NetworkSolution", "RectifierNetwork"]
