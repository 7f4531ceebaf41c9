"""Networks recovered from their outputs: architecture, weights and biases of a black box that may only be asked."""

from replication.recovery.recover import recover_network
from replication.recovery.result import RecoveredLayer, RecoveredNetwork, Recovery, RecoveryStatus

__all__ = ["RecoveredLayer", "RecoveredNetwork", "Recovery", "RecoveryStatus", "recover_network"]
