"""Units put together."""

from replication.networks.rectifier_network import LayerRecord, NetworkSolution, RectifierNetwork

__all__ = ["LayerRecord", "NetworkSolution", "RectifierNetwork"]
