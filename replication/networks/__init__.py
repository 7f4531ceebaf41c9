"""Units put together."""

from replication.networks.rectifier_network import (
    LayerRecord,
    NetworkCertificate,
    NetworkSolution,
    RectifierNetwork,
)

__all__ = ["LayerRecord", "NetworkCertificate", "NetworkSolution", "RectifierNetwork"]
